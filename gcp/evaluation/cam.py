"""`gcp evaluate --checkpoint MODEL --cam IMAGE ...`: where the model sees the class that it predicts."""

from pathlib import Path

import torch

from gcp.engine.distributed import Group
from gcp.engine.feed import Feed
from gcp.evaluation.attention import attention, draw_attention
from gcp.evaluation.unlabelled import class_names, file_set
from gcp.runs.scored_model import Contestant

BATCH = 16  # images whose graph is held at a time


def draw(contestant: Contestant, paths: list[str], folder: str | None, group: Group) -> None:
    """Draw the maps of some images into cam.png, in rank 0.

    Raises:
        DataError: an image that cannot be read.
        GCPError: the model has no feature map.
    """
    if not group.main:
        return
    images = file_set(contestant, paths)
    names = class_names(contestant)
    feed = Feed(contestant.device, images.normalize)
    pictures, maps, titles = [], [], []
    for start in range(0, len(paths), BATCH):
        pixels, labels = images.read(range(start, min(start + BATCH, len(paths))))
        fed = feed(pixels, labels)[0]
        with torch.no_grad():
            best = contestant.model(fed).float().softmax(1).max(1)
        maps += list(attention(contestant.model, fed, best.indices.tolist()))
        shown = pixels.float() / 255
        pictures += [image.expand(3, -1, -1).permute(1, 2, 0).numpy() for image in shown]
        titles += [f"{names[i]} {100 * p:.0f} %" for p, i in zip(*(each.tolist() for each in best), strict=True)]
    target = Path(folder or ".") / "cam.png"
    titles = [f"{Path(path).name}\n{title}" for path, title in zip(paths, titles, strict=True)]
    draw_attention(pictures, maps, titles, target)
    print(f"{'maps':<12}{target}")
