import numpy as np
import pytest

from gcp.evaluation.calibration import calibration, draw_calibration


def plain(confidence, right, bins):
    """Bin by bin, as the paper writes it."""
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [(c, r) for c, r in zip(confidence, right, strict=True) if low < c <= high or (number == 0 and c == 0)]
        if inside:
            said, true = (sum(values) / len(inside) for values in zip(*inside, strict=True))
            total += len(inside) / len(confidence) * abs(true - said)
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_against_a_plain_loop(bins):
    generator = np.random.default_rng(bins)
    confidence = np.concatenate([generator.random(500), [0.0, 1.0, 1.0]])
    right = generator.random(503) < confidence**2
    found = calibration(confidence, right, bins)
    assert found.error == pytest.approx(plain(confidence, right, bins), abs=1e-12)
    assert found.counts.sum() == 503


def test_against_scikit_learn():
    from sklearn.calibration import calibration_curve

    generator = np.random.default_rng(0)
    confidence = generator.random(400)
    right = generator.random(400) < confidence
    true, said = calibration_curve(right, confidence, n_bins=15)
    found = calibration(confidence, right)
    used = found.counts > 0
    assert found.accuracy[used] == pytest.approx(true) and found.confidence[used] == pytest.approx(said)


def test_by_hand():
    assert calibration(np.array([0.9, 0.9]), np.array([True, True])).error == pytest.approx(0.1)
    assert calibration(np.array([1.0, 1.0]), np.array([True, True])).error == 0
    assert calibration(np.array([1.0, 1.0]), np.array([False, False])).error == 1


def test_picture(tmp_path):
    draw_calibration(calibration(np.array([0.7]), np.array([True])), tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
