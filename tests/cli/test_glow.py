"""scripts/train_glow.py: faults, results, and a run that is killed or shared ends as it would have ended."""

import importlib
import json
import math
import re
import signal

import numpy as np
import pytest
import torch
from PIL import Image

import gcp.cli.train_glow
from gcp.cli.main import run
from gcp.config import Config, FlowConfig, dump, load
from gcp.data.dequantise import levels_of
from gcp.runs.flow.build import build_splits

COMMAND = "gcp.cli.train_glow"

# 6 batches and 3 steps an epoch, 6 in all; average, accumulation, dropout and warm-up take part.
SMALL = """\
run: {threads: 1, device: cpu}
data: {image_size: 8, in_chans: 1, transform: none}
flow: {levels: 1, steps: 2, width: 8, dropout: 0.1, draw: 2 steps}
optim: {name: adamw, lr: 0.01, clip: 1.0}
schedule: {warmup: 2 steps}
train: {epochs: 2, batch_size: 256, accumulate: 2, ema: 0.5}
checkpoint: {every: 2 steps, keep: 3}
"""


@pytest.fixture
def place(here):
    """The folder of the test, with `flow.yaml` in it."""
    (here / "flow.yaml").write_text(SMALL)
    return here


@pytest.fixture
def glow(place, capsys, monkeypatch):
    """Call the command in this process, without the curves."""
    monkeypatch.setattr("gcp.drawing.curves.draw_curves", lambda *_: None)

    def call(*words):
        code = run(gcp.cli.train_glow.main, list(words))
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def whole(tmp_path_factory, zygote):
    """The folder of the small run made in one go. Read it, and leave it as it is."""
    folder = tmp_path_factory.mktemp("whole flow")
    (folder / "flow.yaml").write_text(SMALL)
    answer = zygote.train(folder, "--config", "flow.yaml", "run.name=whole", command=COMMAND)
    assert (answer.code, answer.err) == (0, "")
    return folder / "runs" / "whole"


def test_a_run_from_its_beginning_to_its_end(glow, place):
    code, out, err = glow("--config", "flow.yaml", "train.epochs=1", "flow.form=plu", "flow.temperatures=[0.5]")
    assert (code, err) == (0, "")
    folder = place / "runs" / "digits-glow-plu-1"
    result = json.loads((folder / "result.json").read_text())
    test, baseline = result["test"], result["baseline"]
    assert test["final"]["count"] == 360 and 2 < test["final"]["loss"] < 8
    assert 2.5 < baseline["test"] < 3.5 and baseline["train"] < baseline["test"]
    assert result["margin"]["final"] == pytest.approx(baseline["test"] - test["final"]["loss"])
    assert 0 < result["inversion"]["mean"] < result["inversion"]["largest"] < 1e-5
    assert result["determinant"]["largest"] < 1e-5
    assert result["validation"]["final"]["loss"] == pytest.approx(result["validation"]["best"]["loss"])
    for name in ("samples", "interpolations", "reconstructions"):
        assert Image.open(folder / f"{name}.png").size[0] > 500
    assert re.search("1294 train.* 143 val.* 360 test.* 1 x 8 x 8, 17 ", out)
    assert "train bits  val bits" in out and "bits/dim" in out and "Gaussian minus flow" in out
    assert load(folder / "config.yaml", [], FlowConfig).flow.form == "plu"

    code, again, err = glow("resume=digits-glow-plu-1")
    assert (code, err) == (0, "") and "is finished" in again
    assert "gcp train-glow resume=" in glow("--config", "flow.yaml", "run.name=digits-glow-plu-1")[2]


def test_a_run_in_mixed_precision_and_compiled(glow, place, monkeypatch):
    compiled = []

    def quick(model):
        compiled.append(model)
        return torch._dynamo.optimize("eager")(model)

    monkeypatch.setattr("torch.compile", quick)
    words = ["train.epochs=1", "flow.form=plain", "flow.steps=1", "run.amp=bf16", "run.compile=true", "run.name=mixed"]
    code, _, err = glow("--config", "flow.yaml", *words)
    assert (code, err) == (0, "") and len(compiled) == 1
    result = json.loads((place / "runs/mixed/result.json").read_text())
    assert 2 < result["test"]["final"]["loss"] < 8 and result["inversion"]["largest"] < 1e-5
    code, _, err = glow("--config", "flow.yaml", "run.amp=fp16")
    assert code == 2 and "run.amp" in err and "bf16" in err


def test_a_picture_that_cannot_be_written_costs_nothing_else(glow, place, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gcp.runs.flow.pictures.draw_strips", full)
    code, out, _ = glow("--config", "flow.yaml", "train.epochs=1", "run.name=full")
    assert code == 0 and "Gaussian minus flow" in out and (place / "runs/full/result.json").is_file()
    assert "reconstructions.png: [Errno 28]" in caplog.text


MOMENTS = {
    "before the first checkpoint": "gcp.engine.train:update:1:after",
    "in the middle of an epoch": "gcp.engine.train:update:4:after",
    "with a checkpoint half written": "torch:save:2:before",
    "between the last checkpoint and the result": "gcp.runs.flow.run:score_run:1:before",
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_killed_and_resumed(moment, zygote, place, same_runs, whole):
    words = ["--config", "flow.yaml", "run.name=x", "resume=auto"]
    killed = zygote.train(place, *words, moment=moment, command=COMMAND)
    assert killed.code == -signal.SIGKILL and not (place / "runs/x/result.json").exists()
    resumed = zygote.train(place, "resume=x", command=COMMAND)
    assert (resumed.code, resumed.err) == (0, "")
    same_runs(place / "runs/x", whole)


def test_two_processes_make_the_same_run(zygote, place):
    """To rounding: gradients are added up in another order. The noise and the start are the same to the last bit. (Adam
    would make steps of gradients that are nothing but rounding.)
    """
    words = ["--config", "flow.yaml", "flow.dropout=0", "optim.name=sgd"]
    assert zygote.train(place, *words, "run.name=one", command=COMMAND).code == 0
    codes, out, err = zygote.together(2, place, *words, "run.name=two", command=COMMAND)
    assert codes == [0, 0], err
    one, two = (json.loads((place / "runs" / name / "result.json").read_text()) for name in ("one", "two"))
    assert two["baseline"] == one["baseline"]
    assert two["test"]["final"]["loss"] == pytest.approx(one["test"]["final"]["loss"], abs=1e-5)
    assert "2, with 128 images of a batch each" in out


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_ones_own(channels, glow, image_folder, place):
    """Fewer than numbers in an image: there is no Gaussian to compare with, and the run has its result all the same.
    Images of the size asked for are taken pixel for pixel.
    """
    words = ["data.name=folder", f"data.root={image_folder}", "data.image_size=16", f"data.in_chans={channels}"]
    words += ["data.transform=resize", "data.workers=0", "train.batch_size=8", "train.epochs=1", "run.name=own"]
    code, out, err = glow("--config", "flow.yaml", *words)
    assert (code, err) == (0, "") and f"images of {channels} x 16 x 16, 256 grey levels" in out
    assert "largest error" in out and "Gaussian" not in out
    result = json.loads((place / "runs/own/result.json").read_text())
    assert result["baseline"] is None and result["margin"] == {} and result["test"]["final"]["count"] == 6
    assert "is finished" in glow("resume=own")[1]

    images = build_splits(load(place / "runs/own/config.yaml", [], FlowConfig)).images("test")
    stored = Image.open(images.paths[0]).convert("L" if channels == 1 else "RGB")
    levels = levels_of(images[0][0], 256).permute(1, 2, 0).squeeze(2).numpy()
    assert (levels == np.asarray(stored)).all()


def test_the_actnorms_are_set_once_and_saved(whole):
    saved = torch.load(whole / "last-2.pt", weights_only=True)
    assert saved["progress"]["step"] == 2
    flags = [value for key, value in saved["model"].items() if key.endswith("initialised")]
    assert len(flags) == 2 and all(flags)


def test_the_table_has_bits(whole):
    lines = (whole / "metrics.csv").read_text().splitlines()
    columns = lines[0].split(",")
    assert {"train_bits", "val_bits", "lr_flow"} <= set(columns) and "train_accuracy" not in columns
    assert all(math.isfinite(float(value)) for value in lines[-1].split(","))


def test_numbers_that_are_not_finite(glow):
    code, _, err = glow("--config", "flow.yaml", "optim.lr=1e30", "optim.clip=null", "schedule.warmup=0")
    assert code == 2 and "training stopped at step" in err
    assert "flow.coupling=additive" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("flow.form=lu", r"flow\.form.*'lu'.*plain, plu, svd.*plu\?"),
        ("data.image_size=9", r"data\.image_size.* 9 .*even"),
        ("data.in_chans=2", r"data\.in_chans.* 2 .* 1 .* 3 "),
        ("flow.temperatures=[]", r"flow\.temperatures.*\[\].*at least 1.*> 0"),
        ("flow.levels=4", r"flow\.levels.* 4 .*<= 3.* 8 x 8"),
        (
            "flow.spectrum=box flow.form=plain",
            r"flow\.form: plain.*flow\.form=svd\?",
        ),
        ("train.mixup=0.2", r"train\.mixup: .*0\.2.*epochs, batch_size, accumulate, ema"),
        ("head.name=svd_pade", "head: .*gcp train.*run, data, flow, optim"),
        ("hed.name=svd_pade", "hed: unknown key"),
        ("stages=[]", "stages: unknown key"),
        ("data.name=digit", r"data\.name.*'digit'.*digits\?"),
        ("optim.lr=0", "optim.lr: got 0"),
        ("flow=svd", "section.*one of its keys"),
    ],
)
def test_faults(glow, place, words, message):
    code, _, err = glow("--config", "flow.yaml", *words.split())
    assert code == 2 and re.search(message, err) and "Traceback" not in err
    assert not (place / "runs").exists()


def test_every_fault_at_once(glow):
    err = glow("--config", "flow.yaml", "flow.width=0", "train.epochs=x", "run.channels_last=true")[2]
    assert "3 faults" in err


@pytest.mark.parametrize("command", ["train", "evaluate", "train_glow"])
def test_a_run_of_the_other_kind_is_one_fault(command, place, capsys, whole):
    other = place / "runs/classifier"
    other.mkdir(parents=True)
    (other / "config.yaml").write_text(dump(Config()))
    words = {"evaluate": ["--checkpoint", str(whole)], "train_glow": ["resume=classifier"]}
    main = importlib.import_module(f"gcp.cli.{command}").main
    code = run(main, words.get(command, [f"resume={whole}"]))
    err = capsys.readouterr().err
    expected = {
        "train_glow": "not for gcp train-glow.* gcp train",
        "train": "flow: .*not for gcp train:.* gcp train-",
        "evaluate": rf"(?s)of a flow.*\n  gcp evaluate-glow --checkpoint '{re.escape(str(whole))}",
    }
    assert code == 2 and err.count("error: ") == 1 and re.search(expected[command], err)


def test_what_may_change_on_resume(glow, whole):
    err = glow(f"resume={whole}", "flow.width=16")[2]
    assert "flow.width: cannot change" in err


def test_help(glow):
    code, out, _ = glow("--help")
    assert code == 0 and "gcp train-glow --config" in out
    assert "flow.form" in out and "head.name" not in out and "train.mixup" not in out
    assert "gcp train-glow --config glow/digits" in glow()[2]
