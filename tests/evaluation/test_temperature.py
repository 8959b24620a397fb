import shutil

import pytest
import torch

import gcp
from gcp.engine import checkpoint
from gcp.evaluation.calibration import fit_temperature


@pytest.mark.parametrize("true", [0.3, 1.0, 4.0])
def test_the_temperature_of_overconfident_logits_is_found(true):
    """Labels drawn from softmax(logits / T)."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * true * torch.randn(20_000, 5, generator=generator)
    labels = (logits / true).softmax(1).multinomial(1, generator=generator)[:, 0]
    assert fit_temperature(logits, labels) == pytest.approx(true, rel=0.05)


@pytest.fixture
def finished(uninterrupted, here):
    shutil.copytree(uninterrupted, here / "runs" / "x")
    return here / "runs" / "x"


def test_it_is_kept_and_applied(finished, evaluate, here):
    """The predictions stay, the probabilities change everywhere, and the weights are what they were."""
    before, weights = gcp.load("x", device="cpu"), checkpoint.load(finished / "best.pt")
    plain = evaluate("--checkpoint", "x", "--json", "plain.json")
    answer = evaluate("--checkpoint", "x", "--calibrate")
    assert (
        (plain.code, answer.code) == (0, 0) and "temperature" in answer.out and "kept in runs/x/best.pt" in answer.out
    )
    after, saved = gcp.load("x", device="cpu"), checkpoint.load(finished / "best.pt")
    temperature = saved["temperature"]
    assert temperature != 1.0 and all(
        torch.equal(saved["model"][key], weights["model"][key]) for key in weights["model"]
    )
    images = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(after.model(images) * temperature, before.model(images), atol=1e-6)
    again = evaluate("--checkpoint", "x", "--calibrate")
    assert f"{temperature:.3f}, before {temperature:.3f}" in again.out
    top1 = [line for line in plain.out.splitlines() if line.startswith("top-1")]
    assert top1[0] in answer.out.splitlines() and top1[0] in again.out.splitlines()


def test_a_run_without_validation(small, evaluate, refused):
    assert small("run.name=y", "train.epochs=1", "data.val_fraction=0").code == 0
    assert "no validation images" in refused(evaluate("--checkpoint", "y", "--calibrate"))
