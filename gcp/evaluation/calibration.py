r"""Whether a model that says 80 % is right in 80 of 100 cases.

    ECE = sum_b n_b / N |right_b - confidence_b|,     15 bins of equal width over the probability of the prediction

Naeini, Cooper and Hauskrecht, AAAI 2015; with 15 bins as in Guo, Pleiss, Sun and Weinberger, ICML 2017. A bin is open
on the left and closed on the right.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gcp.drawing.figure import save

BINS = 15


@dataclass(frozen=True)
class Calibration:
    """By bin: images, mean confidence, share that is right (0 where there are no images). `error`: ECE, 0 to 1."""

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    error: float


def calibration(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> Calibration:
    """Calibration of predictions.

    Args:
        confidence: (N,) probability of the predicted class.
        right: (N,) bool.
        bins: of equal width.
    """
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    some = np.maximum(counts, 1)
    mean = np.bincount(place, confidence, bins) / some
    accuracy = np.bincount(place, right, bins) / some
    error = float((counts * np.abs(accuracy - mean)).sum() / max(len(confidence), 1))
    return Calibration(counts, mean, accuracy, error)


def draw_calibration(found: Calibration, path: str | Path) -> None:
    """Write the reliability diagram as a PNG: accuracy over confidence, and how many images each bin has."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    bins = len(found.counts)
    middles, used = (np.arange(bins) + 0.5) / bins, found.counts > 0
    above.plot([0, 1], [0, 1], color="#999999", linestyle=":", label="calibrated")
    above.bar(middles[used], found.accuracy[used], 0.9 / bins, color="#4477aa", label="right")
    said, true = found.confidence[used], found.accuracy[used]
    above.plot(said, true, "o", color="#cc6677", markersize=4, label="at mean confidence", clip_on=False, zorder=3)
    above.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1))
    figure.suptitle(f"calibration error {100 * found.error:.2f} % ({bins} bins)", fontsize=10)
    above.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize=9)  # above all bars
    below.bar(middles, found.counts, 0.9 / bins, color="#4477aa")
    below.set(xlabel="confidence", ylabel="images")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)
