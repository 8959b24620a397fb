"""scripts/evaluate_glow.py: the numbers of the training, outliers, pictures, and mistakes."""

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import gcp.cli.evaluate_glow
import gcp.cli.train_glow
from gcp.cli.main import run
from gcp.engine import checkpoint
from gcp.engine.trained_flow import load_flow

ROOT = Path(__file__).parents[2]
SMALL = """\
run: {threads: 1, device: cpu, name: digits-glow-svd-1}
data: {image_size: 8, in_chans: 1, transform: none}
flow: {levels: 1, steps: 2, width: 8}
optim: {name: adamw, lr: 0.01, clip: 1.0}
train: {epochs: 2, batch_size: 256, ema: 0.5}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with runs/digits-glow-svd-1, trained without pictures. Read it, and leave it as it is."""
    place = tmp_path_factory.mktemp("flow runs")
    (place / "flow.yaml").write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr("gcp.drawing.curves.draw_curves", lambda *_: None)
        patch.setattr("gcp.runs.flow.pictures.draw_strips", lambda *_: None)
        assert run(gcp.cli.train_glow.main, ["--config", "flow.yaml"]) == 0
    return place / "runs"


@pytest.fixture
def place(tmp_path, monkeypatch, runs):
    """The working folder, with the runs in it and a classifier's checkpoint."""
    monkeypatch.chdir(tmp_path)
    Path("runs").symlink_to(runs)
    checkpoint.save(tmp_path / "classifier.pt", {"model": {}, "config": {"model": {}, "head": {}}, "classes": []})
    (tmp_path / "damaged.pt").write_bytes((runs / "digits-glow-svd-1/best.pt").read_bytes()[:3000])
    return tmp_path


@pytest.fixture
def glow(place, capsys):
    """Call the command on the flow, or on another checkpoint: exit code, out, err."""

    def call(*words, flow="digits-glow-svd-1"):
        code = run(gcp.cli.evaluate_glow.main, ["--checkpoint", flow, *words])
        return code, *capsys.readouterr()

    return call


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_number_is_that_of_the_training(glow, runs, place):
    code, out, err = glow("--out", "the files", "--json", "scores.json")
    assert (code, err) == (0, "")
    result = json.loads((runs / "digits-glow-svd-1/result.json").read_text())
    scores = json.loads(Path("scores.json").read_text())
    best, found = result["test"]["best"], scores["scores"]
    assert scores["averaged_weights"] and scores["unit"] == result["unit"]
    assert (found["loss"], found["error"], found["count"]) == (best["loss"], best["error"], 360)
    assert found["inversion"] == result["inversion"]
    assert f"bits/dim    {best['loss']:.4f}, standard error over the images {best['error']:.4f}" in out
    assert "test of digits, 360 images" in out and "17 grey levels and uniform noise" in out
    rows = table("the files/bits.csv")
    bits = np.array([float(row["bits_per_dimension"]) for row in rows])
    assert [row["index"] for row in rows] == [str(index) for index in range(360)]
    assert bits.mean() == pytest.approx(best["loss"], abs=1e-4)
    assert bits.std(ddof=1) / math.sqrt(360) == pytest.approx(best["error"], abs=1e-4)
    assert {path.name for path in Path("the files").iterdir()} == {
        "bits.csv",
        "interpolations.png",
        "reconstructions.png",
    }


def test_last_weights_and_another_split(glow, runs):
    result = json.loads((runs / "digits-glow-svd-1/result.json").read_text())
    code, out, _ = glow("split=val", flow="runs/digits-glow-svd-1/last.pt")
    assert code == 0 and "val of digits, 143 images" in out
    assert f"bits/dim    {result['validation']['final']['loss']:.4f}" in out


def test_two_processes_give_the_same(zygote, place, glow):
    glow("--json", "one.json")
    words = ["--checkpoint", "digits-glow-svd-1", "--json", "two.json", "--out", "two"]
    codes, _, err = zygote.together(2, place, *words, command="gcp.cli.evaluate_glow")
    assert codes == [0, 0], err
    one, two = (json.loads(Path(f"{name}.json").read_text())["scores"] for name in ("one", "two"))
    assert one["loss"] == two["loss"] and one["error"] == two["error"] and len(table("two/bits.csv")) == 360


def test_images_of_a_folder(glow, place):
    """Digits as files have the bits of digits; what is none comes first."""
    folder = place / "some images" / "\N{GREEK SMALL LETTER ALPHA}"
    folder.mkdir(parents=True)
    for index in range(12):
        pixels = (load_digits().images[5 * index] * 255 / 16).round().astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    board = (255 * (np.indices((8, 8)).sum(0) % 2)).astype(np.uint8)
    Image.fromarray(board).convert("RGB").save(folder / "not a digit.png")
    code, out, err = glow("--predict", "some images", "--out", "o", "--json", "s.json", "data.workers=0")
    assert (code, err) == (0, "") and "13 images" in out and "resized" not in out
    rows = table("o/images.csv")
    bits = [float(row["bits_per_dimension"]) for row in rows]
    assert bits == sorted(bits, reverse=True) and rows[0]["file"].endswith("not a digit.png")
    assert f"{bits[0]:.4f}  some images" in out and len(rows) == 13
    found = json.loads(Path("s.json").read_text())["folder"]
    assert found["count"] == 13 and found["loss"] == pytest.approx(np.mean(bits), abs=1e-4)

    # the first digit is the first of the test split, with the noise of place 0
    glow("--out", "split")
    first = next(row for row in rows if row["file"].endswith("00.png"))
    assert float(first["bits_per_dimension"]) == float(table("split/bits.csv")[0]["bits_per_dimension"])

    Image.fromarray(board).resize((9, 8)).save(folder / "wide.png")
    out = glow("--predict", "some images", "data.workers=0")[1]
    assert re.search("resized +1 image.* 8 x 8", out) and re.search(" 4 more.*--out FOLDER", out)
    (folder / "broken.png").write_text("x")
    code, _, err = glow("--predict", "some images", "data.workers=0")
    assert code == 2 and "cannot read the image" in err and "broken.png" in err


def test_samples_are_those_of_the_flow_and_of_the_seed(glow, place, monkeypatch):
    drawn = []
    monkeypatch.setattr("gcp.runs.flow.pictures.draw_strips", lambda rows, path, title: drawn.append((rows, path)))
    for words in ([], ["run.seed=1"]):
        code, out, _ = glow("--samples", "13", "--temperature", "0.5", "1", "0.5", "--out", "o", *words)
        assert code == 0 and "13 at each temperature of 0.5, 1" in out and "split" not in out
    (rows, path), (others, _) = drawn
    assert str(path) == "o/samples.png" and [label.strip() for label in rows] == ["T = 0.5", "", "T = 1", ""]
    assert {tuple(strip.shape) for strip in rows.values()} == {(12, 1, 8, 8)}
    found = torch.cat(list(rows.values())[2:])
    images = load_flow("digits-glow-svd-1").model.sample(13, 1.0, torch.Generator().manual_seed(0))
    assert torch.equal(found[:13], ((images + 0.5) * 17).floor().clamp(0, 16) / 16)
    assert (found[13:] == 0.5).all() and not torch.equal(rows["T = 1"], others["T = 1"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("split=tets", "split 'tets'.*'test'"),
        ("splt=test", r"splt: .*data\.root"),
        ("data.image_size=16", r"data\.image_size: cannot change"),
        ("run.devic=cpu", r"run\.devic\b.*run\.device\?"),
        ("--samples 0 --out o", "--samples.*'0'.*1 to 1000"),
        ("--samples 3", "--samples.*--out FOLDER"),
        ("--temperature 1", "--temperature.*--samples N --out FOLDER"),
        ("--samples 3 --out o --temperature nan", "--temperature.*'nan'.*> 0"),
        ("--samples 3 --out o --json s.json", "split=test.*--predict FOLDER"),
        ("--predict nothing", "no folder nothing of images"),
        ("--out damaged.pt", r"folder damaged\.pt.*--out"),
        ("--json nothing/s.json", r"cannot write nothing/s\.json"),
        ("runs/x", "'runs/x'.* --predict runs/x"),
    ],
)
def test_mistakes(words, message, glow):
    code, _, err = glow(*words.split())
    assert code == 2 and err.count("error: ") == 1 and re.search(message, err) and "Traceback" not in err


@pytest.mark.parametrize(
    ("flow", "message"),
    [
        (
            "classifier.pt",
            r"classifier\.pt.*not of a flow.*\n  gcp evaluate --check",
        ),
        ("damaged.pt", "checkpoint damaged.pt is damaged or truncated"),
        ("digits-glow-svd-2", r"digits-glow-svd-2.*runs/digits-glow-svd-1\?"),
        ("runs/digits-glow-svd-1/bets.pt", r"bets\.pt.*'best\.pt'\?"),
    ],
)
def test_no_flow(flow, message, glow):
    code, _, err = glow(flow=flow)
    assert code == 2 and err.count("error: ") == 1 and re.search(message, err) and "Traceback" not in err


def test_a_split_without_images(glow, place):
    """As in a run that held nothing out (data.val_fraction=0)."""
    saved = torch.load("runs/digits-glow-svd-1/best.pt", weights_only=True)
    saved["config"]["data"]["val_fraction"] = 0.0
    torch.save(saved, "whole.pt")
    code, _, err = glow("split=val", flow="whole.pt")
    assert code == 2 and "the split is empty" in err


def test_a_picture_that_cannot_be_written_is_a_fault(glow, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gcp.runs.flow.pictures.draw_strips", full)
    code, _, err = glow("--samples", "3", "--out", "o")
    assert code == 2 and "cannot write into o: [Errno 28]" in err


def test_help_and_no_checkpoint(capsys):
    assert run(gcp.cli.evaluate_glow.main, ["--help"]) == 0
    assert "gcp evaluate-glow --checkpoint FLOW" in capsys.readouterr().out
    assert run(gcp.cli.evaluate_glow.main, []) == 2
    assert "gcp evaluate-glow --checkpoint runs/NAME" in capsys.readouterr().err


def test_the_documented_block_runs(place, capsys):
    """In a folder with the run that the first command of the page makes."""
    text = (ROOT / "docs" / "glow.md").read_text()
    (block,) = (found for found in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "load_flow" in found)
    scope: dict = {}
    exec(compile(block, "docs/glow.md", "exec"), scope)
    assert scope["samples"].shape == (16, 1, 8, 8) and scope["bits"].shape == (16,)
    assert (scope["again"] - scope["images"]).abs().max() < 1e-4
