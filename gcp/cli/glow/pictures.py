"""The pictures of a flow: samples, interpolations between test images, reconstructions. In numbers: its inverse."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gcp.analysis.strips import draw_strips
from gcp.config import FlowConfig
from gcp.data import Splits
from gcp.data.dequantise import levels_of
from gcp.errors import counted
from gcp.flow import Glow

log = logging.getLogger("gcp")

ACROSS = 12  # images in a row
PAIRS = 6  # interpolations
TESTED = 256  # images whose reconstruction is measured


def draw_pictures(flow: Glow, splits: Splits, config: FlowConfig, levels: int, folder: Path) -> dict:
    """Write samples.png, interpolations.png and reconstructions.png; returns the error of the inverse."""
    draw_samples(flow, levels, config.flow.temperatures, config.run.seed, folder)
    images = _test_images(splits, flow)
    draw_interpolations(flow, levels, images, folder)
    return draw_reconstructions(flow, levels, images, folder)


def _test_images(splits: Splits, flow: Glow) -> Tensor:
    """Test images spread evenly over the split, at most TESTED, as the flow takes them."""
    held_out = splits.images("test")
    count = min(TESTED, len(held_out))
    images, _ = held_out.read([place * len(held_out) // count for place in range(count)])
    return held_out.normalize(images).to(flow.prior.mean)


def draw_samples(flow: Glow, levels: int, temperatures: Sequence[float], seed: int, folder: Path) -> None:
    """The same numbers at each temperature, two rows of images each: samples.png."""
    rows: dict[str, Tensor] = {}
    for temperature in temperatures:
        drawn = flow.sample(2 * ACROSS, temperature, torch.Generator().manual_seed(seed))
        for half, part in enumerate(drawn.chunk(2)):
            rows[f"T = {temperature:g}" if half == 0 else " " * len(rows)] = _shown(part, levels)
    _write(rows, folder / "samples.png", "samples; T: deviation of the numbers that they are drawn from")


def draw_interpolations(flow: Glow, levels: int, images: Tensor, folder: Path) -> None:
    """From one test image to another, in equal steps of their numbers: interpolations.png."""
    count = min(PAIRS, len(images) // 2)
    first, last = images[:count], images[-count:]
    ends = [flow.encode(part)[0] for part in (first, last)]
    parts = torch.linspace(0, 1, ACROSS).tolist()
    between = [flow.inverse([torch.lerp(a, b, part) for a, b in zip(*ends, strict=True)]) for part in parts]
    rows = {f"pair {pair + 1}": _shown(torch.stack([step[pair] for step in between]), levels) for pair in range(count)}
    _write(rows, folder / "interpolations.png", "between the test images at the ends, in equal steps")


def draw_reconstructions(flow: Glow, levels: int, images: Tensor, folder: Path) -> dict:
    """Test images, their reconstructions from their numbers, and the difference: reconstructions.png.

    Returns the largest and the mean error, of images of range 1, and of how many images they are.
    """
    again = flow.inverse(flow.encode(images)[0])
    error = (again - images).abs()
    largest = error.max().item()
    rows = {
        "test image": _shown(images[:ACROSS], levels),
        "reconstructed": _shown(again[:ACROSS], levels),
        f"error / {largest:.1e}": (error[:ACROSS] / max(largest, 1e-30)).cpu(),
    }
    mean = error.mean().item()
    title = f"inverse of the flow: largest error {largest:.1e}, mean {mean:.1e}, of {counted(len(images), 'image')}"
    _write(rows, folder / "reconstructions.png", title)
    return {"largest": largest, "mean": mean, "images": len(images)}


def _write(rows: dict[str, Tensor], path: Path, title: str) -> None:
    """A picture that cannot be written must not end the run, nor cost its result."""
    try:
        draw_strips(rows, path, title)
    except OSError as error:
        log.warning("cannot write %s: %s", path, error)


def _shown(images: Tensor, levels: int) -> Tensor:
    """Images of the flow as grey levels in [0, 1]."""
    return (levels_of(images + 0.5, levels) / (levels - 1)).cpu()
