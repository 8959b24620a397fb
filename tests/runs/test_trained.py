"""A trained model in Python: the same probabilities as from the command."""

import csv
import random
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

import gcp
from gcp.errors import CheckpointError, DataError, GCPError, OptionError


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


def test_predict_gives_names(run, pictures):
    trained = gcp.load("x", device="cpu")
    found, best = trained.predict(pictures, top=3, batch=4), trained.probabilities(pictures).topk(3)
    for prediction, values, places in zip(found, best.values.tolist(), best.indices.tolist(), strict=True):
        assert prediction.name == trained.classes[places[0]] and prediction.probability == values[0]
        assert [name for name, _ in prediction.top] == [trained.classes[place] for place in places]
    assert trained.predict(pictures[0])[0].name == found[0].name  # one image alone
    with pytest.raises(DataError, match="no images"):
        trained.predict([])
    assert "\n" not in repr(trained) and "10 classes: 0, 1, 2, ..." in repr(trained)


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
    with pytest.raises(GCPError, match=r"runs/x\?"):
        gcp.load("xx")


@pytest.fixture
def lazy(here):
    """A Pillow image whose file is cut: its header is whole, so that it opens."""
    file = here / "cut.png"
    Image.new("RGB", (50, 50)).save(file)
    file.write_bytes(file.read_bytes()[:60])
    return Image.open(file)


def test_what_is_no_image(run, here, lazy):
    trained = gcp.load(run, device="cpu")
    deep = Image.fromarray(np.zeros((8, 8), np.int32))
    for given, message in (
        (np.zeros((8, 8, 3), np.uint8), r"image number 1 is of type ndarray; .*Image\.fromarray"),
        ([Image.new("L", (8, 8)), torch.zeros(3, 8, 8)], r"image number 2 is of type Tensor; .* to the model itself"),
        ((name for name in ["a.png"]), r"generator.*paths.*Pillow images.*list"),
        (None, r"of type NoneType; allowed"),
        ([deep], r"the image number 1 has mode 'I'; allowed are 8 bits"),
        (lazy, r"cannot read the image .*cut\.png: "),
        (Image.new("RGB", (0, 4)), r"cannot read the image number 1: "),
    ):
        with pytest.raises(DataError, match=message):
            trained.probabilities(given)


def test_a_gpu_that_is_not_there(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(OptionError, match=r"cuda was asked for, but no GPU is available"):
        gcp.load(run, device="cuda")


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_loading_leaves_the_program_as_it_was(run, mode):
    before = torch.get_deterministic_debug_mode()
    try:
        torch.set_deterministic_debug_mode(mode)
        states = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
        gcp.load(run, device="cpu")
        assert torch.get_deterministic_debug_mode() == mode
        assert torch.equal(torch.get_rng_state(), states[0])
        assert np.array_equal(np.random.get_state()[1], states[1]) and random.getstate() == states[2]
        with pytest.raises(GCPError):
            gcp.load("xx", device="cpu")
        assert torch.get_deterministic_debug_mode() == mode
    finally:
        torch.set_deterministic_debug_mode(before)
