"""A trained model in a folder with a card, and on the hub: what is read back is the model."""

from pathlib import Path

import pytest
import torch

import gcp
import gcp.cli.convert
from gcp.cli.main import run
from gcp.errors import CheckpointError
from gcp.runs import share

SIZE = 8


@pytest.fixture
def trained(small, here):
    """A finished run."""
    assert small("run.name=x").code == 0
    return "runs/x"


def call(*words):
    return run(gcp.cli.convert.main, [str(word) for word in words])


def test_a_folder(trained, tmp_path, capsys):
    assert call(trained, f"{tmp_path / 'mine'}/") == 0
    folder = tmp_path / "mine"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model.safetensors"]
    text = (folder / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: gcp\n") and "95 % interval" in text and "| classes | 10 |" in text
    x = torch.randn(2, 1, SIZE, SIZE)
    first, again = gcp.load(trained, "cpu"), gcp.load(folder, "cpu")
    assert torch.equal(again.model(x), first.model(x)) and again.classes == first.classes
    assert call(trained, f"{folder}/") == 2 and "--force" in capsys.readouterr().err
    assert call(trained, f"{folder}/", "--force") == 0


def test_the_hub(trained, tmp_path, capsys, monkeypatch):
    """With what stands for the hub: a folder."""
    there = tmp_path / "hub"

    class Api:
        def create_repo(self, name, exist_ok):
            assert (name, exist_ok) == ("somebody/digits", True)
            return f"https://hub/{name}"

        def upload_folder(self, repo_id, folder_path, commit_message):
            there.mkdir()
            for path in Path(folder_path).iterdir():
                (there / path.name).write_bytes(path.read_bytes())

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("gcp.models.downloads._unreachable", lambda address: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda name, file, revision: str(there / file))
    assert call(trained, "hf-hub:somebody/digits") == 0 and "https://hub/somebody/digits" in capsys.readouterr().out
    assert "# digits" in (there / "README.md").read_text()
    x = torch.randn(2, 1, SIZE, SIZE)
    assert torch.equal(gcp.load("hf-hub:somebody/digits", "cpu").model(x), gcp.load(trained, "cpu").model(x))


def test_no_network_is_one_message(monkeypatch):
    monkeypatch.setattr("gcp.models.downloads._unreachable", lambda address: "no route")
    with pytest.raises(CheckpointError, match=r"hf-hub:nobody/nothing.*USER/NAME"):
        gcp.load("hf-hub:nobody/nothing")


def test_a_card_and_its_interval():
    low, high = share.interval(90.0, 100)
    assert (round(low, 1), round(high, 1)) == (82.6, 94.5)  # Brown, Cai and DasGupta, Statistical Science 2001: (5)
    assert share.interval(100.0, 10)[1] == pytest.approx(100)


def test_a_layout_of_others_is_a_file(trained, tmp_path, capsys):
    assert call(trained, f"{tmp_path}/", "--to", "fast_mpn_cov") == 2
    assert "--to" in capsys.readouterr().err
