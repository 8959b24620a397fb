"""Writing behind the training: the copy, the order, and faults that are not lost."""

import threading

import pytest
import torch

from gcp.engine import checkpoint
from gcp.engine.checkpoint import Writer, copied
from gcp.errors import CheckpointError


def test_the_state_may_change_as_soon_as_submit_returns(tmp_path, monkeypatch):
    gate, save = threading.Event(), checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda *args: (gate.wait(10), save(*args)))
    weight = torch.zeros(3)
    state = {"model": {"w": weight}, "list": [weight, (1, "a", None)]}
    writer = Writer()
    writer.submit(tmp_path / "last.pt", state)
    weight += 1
    state["model"].clear()
    assert not (tmp_path / "last.pt").exists()  # nothing waited for the disk
    gate.set()
    writer.wait()
    read = checkpoint.load(tmp_path / "last.pt")
    assert torch.equal(read["model"]["w"], torch.zeros(3)) and read["list"][1] == (1, "a", None)


def test_files_are_written_in_order(tmp_path):
    writer = Writer()
    for step in range(5):
        writer.submit(tmp_path / "last.pt", {"model": {}, "step": step}, 3)
    writer.wait()
    assert [checkpoint.load(path)["step"] for path in checkpoint.candidates(tmp_path)] == [4, 3, 2]


@pytest.mark.parametrize("call", ["submit", "check", "wait"])
def test_a_fault_reaches_the_training(call, tmp_path):
    writer = Writer()
    writer.submit(tmp_path / "none" / "last.pt", {"model": {}})
    writer._thread.submit(lambda: None).result()  # the failed one is done
    arguments = (tmp_path / "last.pt", {"model": {}}) if call == "submit" else ()
    with pytest.raises(CheckpointError, match=r"cannot write checkpoint .*none/last\.pt"):
        getattr(writer, call)(*arguments)


def test_copied_keeps_kinds_and_shares_nothing():
    tensor = torch.arange(3.0, requires_grad=True)
    tree = copied({"a": [tensor], "b": (tensor, 1.5), "c": "text"})
    assert type(tree["b"]) is tuple and type(tree["a"]) is list and tree["c"] == "text"
    assert not tree["a"][0].requires_grad and tree["a"][0].data_ptr() != tensor.data_ptr()
