"""scripts/compress.py: a run in, a checkpoint out that everything else takes."""

import csv
import json
import re
import shutil

import pytest
import torch
from run_fixtures import needs

import gcp
import gcp.cli.compress
import gcp.cli.convert
import gcp.cli.train
from gcp.cli.main import run
from gcp.compress import decompose, factors_of
from gcp.models.checkpoints import open_checkpoint
from gcp.models.convert import build_model
from gcp.models.summary import summarise
from gcp.runs.weights import configuration

QUICK = ("--images", "24", "--batch", "8", "--repeats", "1")


@pytest.fixture
def compress(uninterrupted, here, capsys):
    """Call the command in this process, with a finished run at runs/x."""
    if not (here / "runs" / "x").exists():
        shutil.copytree(uninterrupted, here / "runs" / "x")

    def call(*words):
        code = run(gcp.cli.compress.main, list(words))
        return type("Answer", (), dict(zip(("out", "err"), capsys.readouterr(), strict=True), code=code))

    return call


def test_a_quarter(compress, evaluate, here):
    answer = compress("--checkpoint", "x", "--params", "0.25", *QUICK)
    assert answer.code == 0, answer.err
    out = here / "runs" / "x-params-0.25"
    about = json.loads((out / "compress.json").read_text())
    dense, small = about["models"]["dense"], about["models"]["compressed"]
    assert small["parameters"] <= 0.25 * dense["parameters"] and small["weights_mib"] < dense["weights_mib"]
    assert {"latency_ms", "peak_mib", "top1", "loss"} <= small.keys() and about["images"] == 24
    with open(out / "layers.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"name", "m", "n", "rank", "estimated", "measured", "reason"} <= rows[0].keys()
    assert all(bool(row["rank"]) != bool(row["reason"]) for row in rows)
    assert (out / "layers.png").stat().st_size > 5000
    # the same scores from the folder, by its name as that of a run
    assert evaluate("--checkpoint", out.name, "--json", "scores.json").code == 0
    assert evaluate("x-params-0.2").err.endswith("Did you mean runs/x-params-0.25?\n")
    scores = json.loads((here / "scores.json").read_text())
    assert scores["top1"] == small["top1"] and scores["loss"] == pytest.approx(small["loss"], rel=1e-5)
    original = json.loads((here / "runs/x/result.json").read_text())["test"]["best"]
    assert dense["top1"] == original["top1"]
    saved = torch.load(out / "best.pt", weights_only=True)
    assert saved["config"]["model"]["factors"] and saved["config"]["model"]["pretrained"] is False


def test_a_temperature_is_fitted_anew(compress, evaluate, here):
    """A compressed model, and one that is trained afterwards, are as calibrated as the one before."""
    compress("--help")  # makes the run
    assert evaluate("--checkpoint", "x", "--calibrate").code == 0
    words = ("--checkpoint", "x", "--rank", "2", "--include", "classifier", "--finetune", "1", "--out", "small", *QUICK)
    answer = compress(*words)
    assert answer.code == 0, answer.err
    before = torch.load("runs/x/best.pt", weights_only=True)["temperature"]
    found = {name: torch.load(f"{name}/best.pt", weights_only=True) for name in ("small", "small-finetuned")}
    assert f"before {before:.3f}" in answer.out
    for name, saved in found.items():
        assert saved["temperature"] not in (1.0, before) and f"{saved['temperature']:.3f}" in answer.out
        assert gcp.load(name, device="cpu").model.temperature == saved["temperature"]


def test_other_tools_take_it(compress, here, capsys):
    assert compress("--checkpoint", "runs/x/last.pt", "--rank", "4", "--out", "a b/ü", *QUICK).code == 0
    path = here / "a b" / "ü" / "best.pt"
    found = open_checkpoint(path)
    model = build_model(found, summarise(found))
    factors = found.about["config"]["model"]["factors"]
    assert sorted(factors_of(model)) == sorted(factors)
    images = torch.rand(2, 1, 8, 8)
    expected = model(images)
    for target in ("own.pt", "own.safetensors"):
        assert run(gcp.cli.convert.main, [str(path), target]) == 0
        again = open_checkpoint(here / target)
        assert torch.equal(build_model(again, summarise(again))(images), expected)
    assert run(gcp.cli.convert.main, ["--inspect", str(path)]) == 0
    assert "resnet8_cifar" in capsys.readouterr().out
    # weights for a new training: with the factors they fit, without them the message says what to type
    text = ",".join(factors)
    words = ["model.pretrained=" + json.dumps(str(path)), f"model.factors=[{text}]", "train.epochs=1"]
    assert run(gcp.cli.train.main, ["--config", "small.yaml", *words]) == 0
    assert "left out" not in capsys.readouterr().err
    assert run(gcp.cli.train.main, ["--config", "small.yaml", words[0], "model.factors=[classifier=3]"]) == 2
    assert f" model.factors=[{text}]" in capsys.readouterr().err


def test_layouts_of_others_get_the_products(here, capsys):
    torch.manual_seed(0)
    model = gcp.create_model("resnet18", head="svd_pade", num_classes=5, dim=8).eval()
    small, _ = decompose(model, params=0.5)
    small.arguments["factors"] = factors_of(small)
    content = {"format": 1, "model": small.state_dict(), "config": configuration(small, {})}
    torch.save(content, here / "small.pt")
    assert run(gcp.cli.convert.main, ["small.pt", "theirs.pth.tar", "--to", "differentiable_svd"]) == 0
    theirs = open_checkpoint(here / "theirs.pth.tar")
    images = torch.rand(2, 3, 64, 64)
    dense = build_model(theirs, summarise(theirs))
    assert not factors_of(dense)
    torch.testing.assert_close(dense(images), small(images), atol=1e-4, rtol=1e-3)


def test_fine_tuning_resumes(compress, here, train, evaluate, refused):
    answer = compress("--checkpoint", "x", "--params", "0.5", "--finetune", "1", *QUICK, "optim.lr=0.02")
    assert answer.code == 0, answer.err
    folder = here / "runs" / "x-params-0.5-finetuned"
    config = (folder / "config.yaml").read_text()
    assert "factors:" in config and re.search(r"lr: 0\.02\b", config) and "best.pt" in config
    tuned = json.loads((here / "runs/x-params-0.5/finetuned.json").read_text())["models"]["fine-tuned"]
    result = json.loads((folder / "result.json").read_text())["test"]["best"]
    assert tuned["top1"] == result["top1"]
    words = ("--checkpoint", "x", "--params", "0.5", "--finetune", "1", "--force", *QUICK)
    assert re.search(r"x-params-0\.5-finetuned .*continue", refused(compress(*words)))
    answer = train(f"resume={folder}", "train.epochs=2")
    assert answer.code == 0 and "continuing" in answer.out
    assert evaluate("--checkpoint", str(folder)).code == 0


@needs("evolution")
def test_fine_tuning_changes_no_widths(compress, here, monkeypatch):
    path = here / "runs" / "x" / "best.pt"
    saved = torch.load(path, weights_only=True)
    saved["config"]["evolve"] = {"every": "1 epochs"}
    torch.save(saved, path)
    begun = []
    monkeypatch.setattr("gcp.runs.launch.start", lambda config: begun.append(config) or 1)
    assert compress("--checkpoint", str(path), "--params", "0.5", "--finetune", "1", *QUICK).code == 1
    assert begun[0].evolve.every is None and begun[0].train.epochs == 1


def test_sweep(compress, here):
    answer = compress("--checkpoint", "x", "--rank", "4", "--include", "classifier", "--sweep", "1", "2", *QUICK)
    assert answer.code == 0, answer.err
    out = here / "runs" / "x-rank-4"
    with open(out / "sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["value"]) for row in rows] == [("dense", "")] + [
        (method, value) for value in ("1", "2", "4") for method in ("output_pca", "asvd", "svd")
    ]
    assert (out / "sweep.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"no checkpoint\. Type for example"),
        (["--checkpoint", "x"], r"--rank, .*--error.*none"),
        (["--checkpoint", "x", "--rank", "2", "--params", "0.5"], r"got --rank and --params"),
        (["--checkpoint", "x", "--params", "2"], r"--params.*'2'.* 0.* 1"),
        (["--checkpoint", "x", "--rank", "2.5"], r"--rank.*'2.5'.*>= 1"),
        (["--checkpoint", "x", "--rank", "2", "--method", "svdd"], r"method 'svdd'.*'svd'"),
        (["--checkpoint", "x", "--rank", "2", "split=tst"], r"unknown split 'tst'"),
        (["--checkpoint", "x", "--rank", "2", "optim.lr=1"], r"optim\.lr: cannot change in a compression without"),
        (["--checkpoint", "x", "--rank", "2", "--include", "clasifier"], r"unknown layer 'clasifier'.*'classifier'"),
        (["--checkpoint", "x", "--rank", "2", "--images", "0"], r"--images.*'0'.*>= 1"),
        (["--checkpoint", "x", "--rank", "2", "--finetune", "0"], r"--finetune is '0'"),
        (["--checkpoint", "x", "--rank", "2", "--out", "runs/x"], r"runs/x holds the model itself"),
        (["--checkpoint", "y", "--rank", "2"], r"no run to be found"),
        (["--checkpoint", "x", "--params", "0.001", *QUICK], r"params=0.001 cannot be met"),
    ],
)
def test_mistakes(words, message, compress, refused):
    assert re.search(message, refused(compress(*words)))


def test_results_are_not_overwritten_and_compressed_models_not_compressed(compress, refused):
    words = ("--checkpoint", "x", "--rank", "2", *QUICK)
    assert compress(*words).code == 0
    assert re.search("x-rank-2 is not empty.*--force", refused(compress(*words)))
    assert compress(*words, "--force").code == 0
    text = refused(compress("--checkpoint", "runs/x-rank-2/best.pt", "--rank", "1", *QUICK))
    assert re.search("compressed already.*checkpoint", text)


def test_help(compress):
    assert "--sweep" in compress("--help").out
