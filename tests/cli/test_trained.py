"""A trained model in Python: the same probabilities as from the command."""

import csv
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import gcp
from gcp.errors import CheckpointError, DataError, GCPError


@pytest.fixture
def run(uninterrupted, here):
    shutil.copytree(uninterrupted, here / "runs" / "x")
    return here / "runs" / "x"


@pytest.fixture
def pictures(here):
    folder = here / "pictures"
    folder.mkdir()
    for index, image in enumerate(load_digits().images[:6]):
        Image.fromarray((image * 255 / 16).round().astype(np.uint8)).save(folder / f"{index}.png")
    return sorted(folder.iterdir())


def test_probabilities_are_those_of_the_command(run, pictures, evaluate):
    trained = gcp.load("x", device="cpu")
    assert trained.classes == tuple("0123456789") and not trained.model.training
    found = trained.probabilities(pictures)
    assert found.shape == (6, 10) and torch.allclose(found.sum(1), torch.ones(6))
    assert evaluate("--checkpoint", "x", "--predict", "pictures", "out.csv").code == 0
    with open("out.csv", newline="") as file:
        for row, own in zip(csv.DictReader(file), found, strict=True):
            best = own.topk(5)
            assert [row[f"class_{rank}"] for rank in range(1, 6)] == [trained.classes[i] for i in best.indices]
            written = [float(row[f"probability_{rank}"]) for rank in range(1, 6)]
            assert written == pytest.approx(best.values.tolist(), abs=6e-5)  # four digits in the table


def test_pictures_in_other_forms(run, pictures):
    trained = gcp.load(run / "best.pt", device="cpu")
    several = trained.prepare(pictures[:2])
    with Image.open(pictures[0]) as first, Image.open(pictures[1]) as second:
        assert torch.equal(trained.prepare([first.convert("RGB"), second]), several)
        assert torch.equal(trained.prepare(first), several[:1])
    assert torch.equal(trained.prepare(str(pictures[1])), several[1:])
    assert trained.model(several).shape == (2, 10)


def test_what_is_not_there(run, here):
    (here / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"cannot read the image .*broken\.png"):
        gcp.load(run, device="cpu").probabilities([here / "broken.png"])
    with pytest.raises(DataError, match=r"no images"):
        gcp.load(run, device="cpu").probabilities([])
    (run / "best.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"best\.pt"):
        gcp.load("x")
    with pytest.raises(GCPError, match=r"Did you mean runs/x\?"):
        gcp.load("xx")
