"""A trained flow is loaded as it was, or refused by one message."""

import pytest
import torch

from gcp.engine import checkpoint
from gcp.engine.trained_flow import load_flow
from gcp.errors import CheckpointError, GCPError, UnknownNameError
from gcp.flow import Glow

FLOW = {"levels": 1, "steps": 2, "width": 4, "form": "svd", "spectrum": "box", "coupling": "affine", "dropout": 0.5}
CONFIG = {
    "data": {"name": "digits", "image_size": 8, "in_chans": 1},
    "flow": {**FLOW, "temperatures": [1.0], "draw": "10 %"},
    "train": {"ema": 0.9},
}


def flow(seed):
    torch.manual_seed(seed)
    made = Glow((1, 8, 8), **FLOW)
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made


@pytest.fixture
def run(tmp_path):
    """A run folder whose last.pt has averaged weights (seed 1) beside its own (seed 2); best.pt those of seed 3."""
    folder = tmp_path / "a run"
    folder.mkdir()
    (folder / "config.yaml").write_text("")
    last = {"model": flow(2).state_dict(), "ema": flow(1).state_dict(), "config": CONFIG}
    checkpoint.save(folder / "last.pt", last)
    checkpoint.save(folder / "best.pt", {"model": flow(3).state_dict(), "config": CONFIG})
    return folder


def same(loaded, seed):
    expected = flow(seed).state_dict()
    return all(torch.equal(value, expected[key]) for key, value in loaded.model.state_dict().items())


def test_which_weights(run):
    assert same(load_flow(run), 3) and same(load_flow(run, "best"), 3) and same(load_flow(run, "last"), 1)
    assert same(load_flow(run / "last.pt", "best"), 1) and load_flow(run).path == run / "best.pt"
    (run / "best.pt").unlink()
    assert same(load_flow(str(run)), 1)


def test_ready_for_use(run):
    before = torch.random.get_rng_state()
    found = load_flow(run)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not found.model.training and found.averaged and found.config == CONFIG
    assert {value.dtype for value in found.model.parameters()} == {torch.float32}
    assert (found.bits.dimensions, found.bits.levels, found.model.shape) == (64, 17, (1, 8, 8))
    x = torch.rand(3, 1, 8, 8) - 0.5
    torch.testing.assert_close(found.model.log_prob(x), flow(3).eval().log_prob(x))
    torch.set_default_dtype(torch.float64)
    try:
        assert load_flow(run).model.prior.mean.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"config": {"head": {}, "model": {}}},
            r"is of a classifier.*\n  gcp evaluate .* '.*best one.pt'",
        ),
        ({"config": None}, "does not tell its flow: it has no configuration"),
        ({"config": {**CONFIG, "flow": {"form": "plain"}}}, "does not tell its flow: KeyError: 'levels'"),
        ({"config": {**CONFIG, "flow": None}}, "does not tell its flow: TypeError"),
        ({"config": {**CONFIG, "flow": {**FLOW, "width": 5}}}, r"is of another model: .* in the file, .* in the model"),
        ({"config": {**CONFIG, "flow": {**FLOW, "form": "lu"}}}, "lu"),
    ],
    ids=["classifier", "no configuration", "missing key", "no section", "other sizes", "unknown form"],
)
def test_refused_by_its_contents(change, message, tmp_path):
    path = tmp_path / "best one.pt"
    checkpoint.save(path, {"model": flow(1).state_dict(), "config": CONFIG} | change)
    with pytest.raises(GCPError, match=message):
        load_flow(path)


def test_refused_before_it_is_read(run):
    with pytest.raises(UnknownNameError, match=r"unknown weights 'bst'\. Did you mean 'best'"):
        load_flow(run, "bst")
    with pytest.raises(GCPError, match="no run to be found"):
        load_flow(run / "nothing")
    with pytest.raises(CheckpointError, match=r"Did you mean 'last\.pt'"):
        load_flow(run / "lst.pt")
    whole = (run / "last.pt").read_bytes()
    (run / "last.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="is damaged or truncated"):
        load_flow(run, "last")
    for name in ("last.pt", "best.pt"):
        (run / name).unlink()
    with pytest.raises(CheckpointError, match="has no checkpoint yet"):
        load_flow(run)


def test_nothing_in_a_file_is_executed(tmp_path):
    class Payload:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    torch.save({"format": 1, "model": Payload(), "config": CONFIG}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="nothing of it was run"):
        load_flow(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()
