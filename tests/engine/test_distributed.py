"""The group of processes: what the launcher sets, and its collective operations."""

import pytest
import torch

from gcp.engine.distributed import Group, connect, from_environment
from gcp.errors import OptionError


def test_one_process_needs_nothing(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    group = from_environment()
    assert group == Group() and group.main and connect(group) is None
    tensor = torch.ones(2)
    assert group.sum(tensor) is tensor and group.broadcast("x") == "x"


def test_variables_of_the_launcher(monkeypatch):
    for name, value in {"WORLD_SIZE": "8", "RANK": "5", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert from_environment() == Group(5, 8, 1) and not from_environment().main


@pytest.mark.parametrize(
    "values, message",
    [
        ({"WORLD_SIZE": "4"}, r"several processes need RANK as a whole number; got None"),
        ({"WORLD_SIZE": "4", "RANK": "4"}, r"RANK=4 is not below WORLD_SIZE=4"),
        ({"WORLD_SIZE": "four"}, r"WORLD_SIZE as a whole number; got 'four'"),
    ],
)
def test_contradictions_are_named(values, message, monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OptionError, match=message):
        from_environment()


def test_sum_and_broadcast(together):
    def body(group):
        mine = torch.full((2,), float(group.rank), dtype=torch.float64)
        group.broadcast_tensors([mine])
        total = group.sum(torch.tensor([group.rank + 1.0]))
        return mine.tolist(), total.tolist(), group.broadcast({"name": f"run of {group.rank}"})

    assert together(3, body) == [([0.0, 0.0], [6.0], {"name": "run of 0"})] * 3
