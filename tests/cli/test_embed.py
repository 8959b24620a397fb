import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import gcp
import gcp.cli.embed
from gcp.cli.main import run as command


@pytest.fixture
def finished(uninterrupted, here):
    shutil.copytree(uninterrupted, here / "runs" / "x")
    return here / "runs" / "x"


@pytest.fixture
def pictures(here):
    """Four images of each of three digits in folders, and one that is cut off."""
    bunch = load_digits()
    for label in (0, 3, 8):
        (here / "digits" / str(label)).mkdir(parents=True)
        for place in np.flatnonzero(bunch.target == label)[:4]:
            image = (bunch.images[place] * 255 / 16).round().astype(np.uint8)
            Image.fromarray(image).save(here / "digits" / str(label) / f"{place}.png")
    cut = here / "digits" / "3" / "cut.png"
    cut.write_bytes((here / "digits" / "0" / "0.png").read_bytes()[:40])
    return here / "digits"


def test_descriptors_into_a_file(finished, pictures, capsys):
    """Those of the library, the broken image left out and told by the exit code."""
    assert command(gcp.cli.embed.main, ["x", str(pictures), "out.npz", "--score", "--json", "s.json"]) == 3
    told = capsys.readouterr().out
    assert "cut.png" in told and "1 image that cannot be read" in told and "recall@1" in told
    with np.load("out.npz") as found:
        files, values, labels = list(found["files"]), found["descriptors"], found["labels"]
        assert list(found["classes"]) == ["0", "3", "8"] and labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    trained = gcp.load("x", device="cpu")
    assert values.shape == (12, 36) and values.dtype == np.float32
    assert torch.allclose(trained.embed(files, batch=5), torch.from_numpy(values), atol=1e-5)
    scores = json.loads(Path("s.json").read_text())
    assert scores["queries"] == 12 and 0 < scores["mean_average_precision"] <= 100


def test_parquet_and_a_gallery(finished, pictures, capsys):
    (pictures / "3" / "cut.png").unlink()
    words = ["x", str(pictures), "out.parquet", "--score", "--gallery", str(pictures), "--neighbours", "1"]
    assert command(gcp.cli.embed.main, words) == 0
    table = pyarrow.parquet.read_table("out.parquet")
    assert table.column_names == ["file", "class", "descriptor"] and table.num_rows == 12
    assert len(table["descriptor"][0]) == 36
    assert "1-NN        100.00 %" in capsys.readouterr().out  # each finds itself


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x"], "needs MODEL and FOLDER.*\n  gcp embed x photos\n"),
        (["x", "digits", "--out", "a b.npz"], r"'--out'.*\n  gcp embed x digits 'a b\.npz'\n"),
        (["x", "{digits}", "-o"], r"'-o'.*\n  gcp embed x '{digits}' OUT\n"),
        (["x", "digits", "out.csv"], r"out\.csv.*\.npz or \.parquet"),
        (["x", "digits", "--gallery", "digits"], "add --score"),
        (["x", "digits/3", "--score"], "no class folder"),
        (["x", "nowhere"], "no folder nowhere"),
    ],
)
def test_mistakes(words, message, finished, pictures, capsys):
    assert command(gcp.cli.embed.main, words) == 2
    assert re.search(message, capsys.readouterr().err)


def test_prediction_goes_past_a_broken_image(finished, pictures, evaluate):
    answer = evaluate("--checkpoint", "x", "--predict", str(pictures), "out.csv")
    assert answer.code == 3 and "1 image that cannot be read" in answer.out and "cut.png" in answer.out
    assert "12 in" in answer.out and len(Path("out.csv").read_text().splitlines()) == 13
    answer = evaluate("--checkpoint", "x", "--predict", str(pictures / "3"), "out.csv", "evaluate.batch_size=1")
    assert answer.code == 3


def test_nothing_that_can_be_read(finished, pictures, here, refused, evaluate):
    (here / "broken").mkdir()
    (pictures / "3" / "cut.png").rename(here / "broken" / "cut.png")
    assert "cut.png" in refused(evaluate("--checkpoint", "x", "--predict", "broken"))
