"""The search for copied regions, on made-up images with and without copies."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

NOISE = np.random.default_rng(0).normal(size=(3, 256, 256))
TEXTURE = 40 * gaussian_filter(NOISE, (0, 1.5, 1.5)) / gaussian_filter(NOISE, (0, 1.5, 1.5)).std() + 128
FIRST, SECOND = TEXTURE[0, :, :120], TEXTURE[1, :, :120]


def test_unrelated_regions_do_not_repeat():
    from copies import LIMIT, repeats

    assert repeats(FIRST, SECOND) < 0.5 < LIMIT


@pytest.mark.parametrize("turn", range(8))
def test_a_copied_patch_is_found_in_any_orientation(turn):
    """Also where it is brighter, of another contrast, and a little noisy."""
    from copies import LIMIT, orientations, repeats

    copied = FIRST.copy()
    patch = list(orientations(SECOND[64:192, 0:120][:120]))[turn]
    copied[100:220, 0:120] = 0.7 * patch + 30 + NOISE[2, :120, :120]
    assert repeats(copied, SECOND, size=48, stride=36) > LIMIT
    assert repeats(SECOND, copied, size=48, stride=36) > LIMIT


def test_correlation_is_the_coefficient_of_the_best_window():
    """Against a plain loop over all windows."""
    from copies import Searched

    image, patch = TEXTURE[0, :20, :24], TEXTURE[1, :8, :8]
    windows = np.lib.stride_tricks.sliding_window_view(image, (8, 8)).reshape(-1, 64)
    expected = max(np.corrcoef(window, patch.ravel())[0, 1] for window in windows)
    assert Searched(image, 8).correlation(patch) == pytest.approx(expected, abs=1e-5)


def test_flat_patches_and_windows_are_left_out():
    from copies import Searched

    flat = np.full((64, 64), 7.0)
    assert Searched(TEXTURE[0], 64).correlation(flat) == 0
    assert Searched(flat, 16).correlation(TEXTURE[0, :16, :16]) == 0


def test_patches_reach_every_border():
    from copies import patches

    found = list(patches(np.arange(100.0).reshape(10, 10), 4, 4))
    assert all(patch.shape == (4, 4) for patch in found)
    assert {0.0, 9.0, 90.0, 99.0} <= {value for patch in found for value in patch[[0, 0, -1, -1], [0, -1, 0, -1]]}


def test_orientations_are_eight():
    from copies import orientations

    assert len({patch.tobytes() for patch in orientations(np.arange(9).reshape(3, 3))}) == 8


def test_shifted_and_recoloured_copies_are_dropped():
    from copies import distinct

    thumbnail = TEXTURE[0, :64, :64]
    recoloured = 255 - 0.5 * np.roll(thumbnail, (10, 20), (0, 1))
    shifted = np.roll(thumbnail, (10, 20), (0, 1)) * 0.5
    named = [("a", thumbnail), ("b", TEXTURE[1, :64, :64]), ("c", shifted), ("negative", recoloured)]
    assert distinct(named, 0.5) == (["a", "b", "negative"], {"c": "a"})


def test_alike():
    from copies import alike

    assert alike(FIRST, 2 * FIRST + 3) == pytest.approx(1)
    assert abs(alike(FIRST, SECOND)) < 0.2
    assert alike(FIRST, np.zeros_like(FIRST)) == 0
