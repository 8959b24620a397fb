"""The pictures of a flow: samples, interpolations between test images, reconstructions. In numbers: its inverse."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from gcp.config import FlowConfig
from gcp.data import Splits
from gcp.data.dequantise import levels_of
from gcp.drawing.strips import draw_strips
from gcp.errors import counted
from gcp.flow import Glow

log = logging.getLogger("gcp")

ACROSS = 12  # images in a row
PAIRS = 6  # interpolations
TESTED = 256  # images whose reconstruction is measured


def draw_pictures(flow: Glow, splits: Splits, config: FlowConfig, levels: int, folder: Path) -> dict:
    """Write samples.png, interpolations.png and reconstructions.png, as far as the disk allows: it must not cost the
    run its result. Returns the error of the inverse.
    """
    with going_on(folder / "samples.png"):
        draw_samples(flow, levels, config.flow.temperatures, config.run.seed, folder)
    images = spread(splits, "test", flow)
    with going_on(folder / "interpolations.png"):
        draw_interpolations(flow, levels, images, folder)
    again = flow.inverse(flow.encode(images)[0])
    with going_on(folder / "reconstructions.png"):
        draw_reconstructions(levels, images, again, folder)
    return inversion(images, again)


@contextmanager
def going_on(path: Path) -> Iterator[None]:
    """A picture that cannot be written is a line on the log and ends nothing."""
    try:
        yield
    except OSError as error:
        log.warning("cannot write %s: %s", path, error)


def spread(splits: Splits, split: str, flow: Glow) -> Tensor:
    """Images spread evenly over a split, at most TESTED, as the flow takes them."""
    held_out = splits.images(split)
    count = min(TESTED, len(held_out))
    images, _ = held_out.read([place * len(held_out) // count for place in range(count)])
    return held_out.normalize(images).to(flow.prior.mean)


def inversion(images: Tensor, again: Tensor) -> dict:
    """The largest and the mean error of reconstructed images of range 1, and of how many images they are."""
    error = (again - images).abs()
    return {"largest": error.max().item(), "mean": error.mean().item(), "images": len(images)}


def draw_samples(
    flow: Glow, levels: int, temperatures: Sequence[float], seed: int, folder: Path, count: int = 2 * ACROSS
) -> None:
    """`count` images at each temperature, of the same numbers: samples.png."""
    rows: dict[str, Tensor] = {}
    for temperature in temperatures:
        drawn = flow.sample(count, temperature, torch.Generator().manual_seed(seed))
        for number, part in enumerate(drawn.split(ACROSS)):
            rows[f"T = {temperature:g}" if number == 0 else " " * len(rows)] = _row(part, levels)
    draw_strips(rows, folder / "samples.png", "samples; T: deviation of the numbers that they are drawn from")


def draw_interpolations(flow: Glow, levels: int, images: Tensor, folder: Path) -> None:
    """From one image to another, in equal steps of their numbers: interpolations.png; of two images or more."""
    count = min(PAIRS, len(images) // 2)
    if not count:
        return
    first, last = images[:count], images[-count:]
    ends = [flow.encode(part)[0] for part in (first, last)]
    parts = torch.linspace(0, 1, ACROSS).tolist()
    between = [flow.inverse([torch.lerp(a, b, part) for a, b in zip(*ends, strict=True)]) for part in parts]
    rows = {f"pair {pair + 1}": _shown(torch.stack([step[pair] for step in between]), levels) for pair in range(count)}
    draw_strips(rows, folder / "interpolations.png", "between the images at the ends, in equal steps")


def draw_reconstructions(levels: int, images: Tensor, again: Tensor, folder: Path) -> None:
    """Images, their reconstructions from their numbers, and the difference: reconstructions.png."""
    found = inversion(images, again)
    largest, error = found["largest"], (again - images).abs()
    rows = {
        "image": _row(images[:ACROSS], levels),
        "reconstructed": _row(again[:ACROSS], levels),
        f"error / {largest:.1e}": _filled((error[:ACROSS] / max(largest, 1e-30)).cpu()),
    }
    told = counted(found["images"], "image")
    title = f"inverse of the flow: largest error {largest:.1e}, mean {found['mean']:.1e}, of {told}"
    draw_strips(rows, folder / "reconstructions.png", title)


def _shown(images: Tensor, levels: int) -> Tensor:
    """Images of the flow as grey levels in [0, 1]."""
    return (levels_of(images + 0.5, levels) / (levels - 1)).cpu()


def _row(images: Tensor, levels: int) -> Tensor:
    """At most ACROSS images of the flow as one row of a picture."""
    return _filled(_shown(images, levels))


def _filled(images: Tensor) -> Tensor:
    """ACROSS images: the missing ones are grey."""
    return torch.cat((images, images.new_full((ACROSS - len(images), *images.shape[1:]), 0.5)))
