"""Rows of small images with a word before each, every pixel visible."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from gcp.drawing.figure import save

WIDTH = 9.0  # inches of a strip
LABELS = 1.3  # inches before it


def draw_strips(rows: Mapping[str, Tensor], path: str | Path, title: str) -> None:
    """Write a PNG of one strip for each row: label -> images (n, C, H, W) in [0, 1], C = 1 (grey) or 3."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from torch.nn.functional import pad

    strips = [pad(images, (1, 1, 1, 1), value=0.5).permute(2, 0, 3, 1).flatten(1, 2) for images in rows.values()]
    heights = [WIDTH * strip.shape[0] / strip.shape[1] for strip in strips]
    figure = Figure(figsize=(LABELS + WIDTH + 0.2, sum(heights) + 0.6), dpi=110)
    FigureCanvasAgg(figure)
    width, height = figure.get_size_inches()
    top = height - 0.5
    for label, strip, inches in zip(rows, strips, heights, strict=True):
        top -= inches
        axes = figure.add_axes((LABELS / width, top / height, WIDTH / width, inches / height))
        axes.imshow(strip.squeeze(2).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
        axes.axis("off")
        figure.text((LABELS - 0.1) / width, (top + inches / 2) / height, label.strip(), ha="right", va="center", size=9)
    figure.text(LABELS / width, (height - 0.3) / height, title, ha="left", va="center", size=10)
    save(figure, path)
