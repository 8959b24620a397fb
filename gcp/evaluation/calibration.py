r"""Whether a model that says 80 % is right in 80 of 100 cases.

    ECE = sum_b n_b / N |right_b - confidence_b|,     15 bins of equal width over the probability of the prediction

Naeini, Cooper and Hauskrecht, AAAI 2015; with 15 bins as in Guo, Pleiss, Sun and Weinberger, ICML 2017. A bin is open
on the left and closed on the right.

Temperature scaling (the same paper) divides the logits by the T that minimises the cross-entropy of the validation
images. The classes that are predicted stay the same; their probabilities become honest. T is kept in the checkpoint,
and applied wherever the model is opened from it (`Classifier.temperature`).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gcp.data import ImageSet, Splits, StreamSet
from gcp.drawing.figure import save
from gcp.engine import checkpoint
from gcp.engine.device import ToDevice, autocast
from gcp.engine.distributed import ALONE
from gcp.engine.evaluate import average_logits
from gcp.errors import GCPError
from gcp.models import Classifier
from gcp.runs.scored_model import ScoredModel

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


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T > 0 that minimises the cross-entropy of logits / T, between 1/20 and 20. logits: (N, classes), labels (N,).

    In 1/T the cross-entropy is convex, so that there is one minimum.
    """
    from scipy.optimize import minimize_scalar

    wide = logits.double()

    def loss(logarithm: float) -> float:
        return float(F.cross_entropy(wide / math.exp(logarithm), labels))

    return math.exp(minimize_scalar(loss, bounds=(-math.log(20), math.log(20)), method="bounded").x)


@torch.no_grad()
def calibrate(scored_model: ScoredModel) -> None:
    """Fit the temperature on the validation images of a checkpoint of this library, keep it there, and print what it
    changes.

    Raises:
        GCPError: a file of others, or no validation images.
    """
    path, model = Path(scored_model.given), scored_model.model
    if not isinstance(model, Classifier) or path.suffix == ".safetensors" or not path.is_file():
        raise GCPError(
            f"the temperature is kept in a checkpoint of this library: gcp convert {path} OUT.pt, then OUT.pt"
        )
    saved = checkpoint.load(path)
    splits = scored_model.splits()
    if not len(splits.val):
        raise GCPError(
            "there are no validation images (data.val_fraction=0), and on those that a model was trained on the "
            "temperature would be far too low"
        )
    before = model.temperature
    logits, every = _logits(scored_model, model, splits.val)
    temperature = fit_temperature(logits, every)
    checkpoint.save(path, {**saved, "temperature": temperature})
    model.temperature = temperature
    told = "" if before == 1.0 else f", before {before:.3f}"
    print(f"{'temperature':<12}{temperature:.3f}{told}, of {len(every)} validation images, kept in {path}")
    for key, value in (("without", 1.0), ("with it", temperature)):
        wide = logits.double() / value
        best = wide.softmax(1).max(1)
        error = calibration(best.values.numpy(), (best.indices == every).numpy()).error
        loss = float(F.cross_entropy(wide, every))
        print(f"{key:<12}calibration error {100 * error:.2f} %, loss {loss:.4f} on these images")


@torch.no_grad()
def recalibrate(scored_model: ScoredModel, model: Classifier, splits: Splits) -> None:
    """Give `model`, which was made from a calibrated one, a temperature of its own: fitted on the validation images as
    that of `scored_model` takes them, or the old one where there are none. What was done is printed.
    """
    before = model.temperature
    if not len(splits.val):
        print(f"{'temperature':<12}{before:.3f}, that of the model before: there are no validation images to fit it on")
        return
    logits, labels = _logits(scored_model, model, splits.val)
    model.temperature = fit_temperature(logits, labels)
    print(f"{'temperature':<12}{model.temperature:.3f}, before {before:.3f}: fitted on {len(labels)} validation images")


def _logits(scored_model: ScoredModel, model: Classifier, images: ImageSet | StreamSet) -> tuple[Tensor, Tensor]:
    """Logits of `model` before any temperature (N, classes), and labels (N,), on images as `scored_model` takes
    them.
    """
    model.temperature = 1.0
    loader, crops = scored_model.loader(images, ALONE), scored_model.config.evaluate.crops
    to_device = ToDevice(scored_model.device, loader.normalize, scored_model.config.run.channels_last)
    found, labels = [], []
    for batch, targets in loader.epoch(0):
        views = batch.unbind(1) if batch.ndim == 5 else (batch,)
        with autocast(scored_model.device, scored_model.config.run.amp):
            found.append(average_logits(model, [to_device(view, targets)[0] for view in views], crops).cpu())
        labels.append(targets)
    return torch.cat(found), torch.cat(labels)


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
