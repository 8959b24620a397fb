"""What a model makes of one image, to be looked at: its classes, where it sees one of them, and the spectrum that its
head is given.

Nothing here knows of a page in a browser: `gcp.evaluation.page` shows it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gcp.drawing.figure import LIGHT, draw, inline
from gcp.engine.timm_reference import TimmReference
from gcp.errors import GCPError
from gcp.evaluation.attention import attention
from gcp.heads import RootHead
from gcp.models import Classifier
from gcp.ops.eigenvalues import conditions, covariance_eigenvalues, effective_ranks, ranks
from gcp.runs.trained import TrainedClassifier

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN = 360  # pixels that the short side of a shown image has at least
ALPHA = 0.6  # of a map over its image


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of the covariance of the features of one image, where the head takes them.

    Attributes:
        eigenvalues: those that are not null, the largest first, float64.
        channels: of the features, `positions` of the map: no more than the smaller of channels and positions - 1 are
            not null.
        condition: the largest over the smallest of them; inf where there is none.
        effective_rank: the exponential of their entropy; 0 where there is none.
        root: eigenvalues of the matrix that the head makes of the covariance, the largest first; None of other heads.
    """

    eigenvalues: np.ndarray
    channels: int
    positions: int
    condition: float
    effective_rank: float
    root: np.ndarray | None = None

    @property
    def rank(self) -> int:
        """How many eigenvalues are not null."""
        return len(self.eigenvalues)

    def __str__(self) -> str:
        if not self.rank:
            return "The covariance is zero: the features are the same at every position."
        return (
            f"rank {self.rank} of {self.channels} ({self.positions} positions), condition number {self.condition:.2g}, "
            f"effective rank {self.effective_rank:.1f}"
        )


@dataclass(frozen=True)
class Explanation:
    """Of one image.

    Attributes:
        probabilities: (name, probability) of every class, in their order.
        explained: the class that the map is of.
        image: (H, W, 3) uint8, what the model is given of the image.
        map: (H, W) float32 from 0 to 1; None where the model has none.
        spectrum: None where the model has no feature map with two positions.
        remarks: why something is missing, for a reader.
    """

    probabilities: list[tuple[str, float]]
    explained: str
    image: np.ndarray
    map: np.ndarray | None
    spectrum: Spectrum | None
    remarks: list[str]


def explain(trained: TrainedClassifier, image: "str | Path | Image", place: int | None = None) -> Explanation:
    """What the model makes of an image.

    Args:
        trained: see `gcp.load`.
        image: a path or a Pillow image.
        place: index of the class that the map is of; None for the most probable one.

    Raises:
        DataError: the image cannot be read.
    """
    model: Any = trained.model
    pixels, inputs = trained.pixels([image]), None
    inputs = trained.transform.normalize(pixels.to(next(model.parameters()).device))
    with torch.no_grad():
        probabilities = model(inputs).float().softmax(1)[0].cpu()
    place = int(probabilities.argmax()) if place is None else place
    remarks, found, spectrum = [], None, None
    try:
        found = attention(model, inputs, [place])[0]
    except GCPError as error:
        remarks.append(f"No map: {error}.")
    try:
        spectrum = spectrum_of(model, inputs)
    except GCPError as error:
        remarks.append(f"No spectrum: {error}.")
    names = trained.names
    ranked = list(zip(names, probabilities.tolist(), strict=True))
    return Explanation(ranked, names[place], shown(pixels[0]), found, spectrum, remarks)


def shown(pixels: Tensor) -> np.ndarray:
    """An image (C, H, W), uint8 or in [0, 1], as (H, W, 3) uint8."""
    values = pixels if pixels.dtype == torch.uint8 else (255 * pixels.clamp(0, 1)).round().to(torch.uint8)
    return values[:3].expand(3, -1, -1).permute(1, 2, 0).cpu().numpy()


@torch.no_grad()
def spectrum_of(model: Classifier | TimmReference, images: Tensor) -> Spectrum:
    """The spectrum at the head for the first of the images (B, C, H, W), which are as the model takes them.

    Raises:
        GCPError: the model has no feature map, or one of a single position.
    """
    if isinstance(model, Classifier):
        x = model.head.reduction(model.extract(images[:1])[0])
    else:
        x = model.to_map(model.body.forward_features(images[:1]), (images.shape[2], images.shape[3]))
    channels, positions = x.shape[1], x.shape[2] * x.shape[3]
    if positions < 2:
        raise GCPError("the feature map has a single position, whose covariance is zero; use larger images")
    eigenvalues = covariance_eigenvalues(x)
    rank = int(ranks(eigenvalues)[0])
    condition, effective = conditions(eigenvalues)[0].item(), effective_ranks(eigenvalues)[0].item()
    values = eigenvalues[0].flip(0)[:rank].cpu().numpy()
    return Spectrum(values, channels, positions, condition, effective if rank else 0.0, _root(model, x, rank))


def _root(model: Classifier | TimmReference, x: Tensor, rank: int) -> np.ndarray | None:
    """Eigenvalues of the matrix that the head makes of features x (1, d, h, w), without those that are rounding."""
    if not (isinstance(model, Classifier) and isinstance(model.head, RootHead)):
        return None
    matrix = model.head.root.of_features(model.head.embed(x), packed=False)
    values = torch.linalg.eigvalsh(matrix[0].double()).flip(0).cpu().numpy()
    kept = rank + len(values) - x.shape[1]  # a head that adds a row for the mean has one more
    return values[:kept] if (values[:kept] > 0).all() else None  # a logarithm is of either sign


def overlay(image: np.ndarray, found: np.ndarray | None) -> np.ndarray:
    """The image (H, W, 3) uint8 under its map (H, W), both enlarged to SHOWN pixels where they are smaller."""
    factor = -(-SHOWN // min(image.shape[:2]))
    size = (factor * image.shape[0], factor * image.shape[1])
    large = image.repeat(factor, 0).repeat(factor, 1)
    if found is None:
        return large
    from matplotlib import colormaps

    smooth = functional.interpolate(torch.from_numpy(found)[None, None], size=size, mode="bicubic")[0, 0].clamp(0, 1)
    colours = 255 * colormaps["inferno"](smooth.numpy())[..., :3]
    return (ALPHA * colours + (1 - ALPHA) * large).round().astype(np.uint8)


def draw_spectrum(spectrum: Spectrum) -> str:
    """An SVG for a page that defines the colours of `gcp.drawing.figure` as CSS variables: eigenvalues over the
    largest one on a logarithmic axis, those of the covariance and those of what the head makes of it.
    """

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        lines = {"covariance": (spectrum.eigenvalues, LIGHT["mute"])}
        if spectrum.root is not None:
            lines["what the head makes of it"] = (spectrum.root, LIGHT["blue"])
        for label, (values, colour) in lines.items():
            if len(values):
                marker = "o" if len(values) < 40 else None
                axes.plot(
                    range(1, len(values) + 1),
                    values / values[0],
                    color=colour,
                    label=label,
                    marker=marker,
                    markersize=2.5,
                )
        axes.set(yscale="log", xlabel="eigenvalue, by size", ylabel="over the largest")
        axes.grid(axis="y")
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(lambda value, place: f"{value:.0e}".replace("e-0", "e-").replace("1e+00", "1"))
        axes.legend(loc="upper right")

    alt = f"Eigenvalues on a logarithmic axis: {spectrum}"
    return inline(draw("spectrum", 2.6, paint, width=4.4), alt, "spectrum")
