r"""Where on an image a model sees a class: class activation maps for heads of first and of second order.

    cam(p) = sum_c  d logit / d x_c(p)  x_c(p),      x: the map where the head takes it

HiResCAM (Draelos and Carin 2020, arXiv:2011.08891), then positive parts only, scaled to [0, 1]. For the mean over
positions the gradient is the same everywhere, and this is Grad-CAM (Selvaraju et al., ICCV 2017).

Grad-CAM itself means nothing for a covariance: it replaces the gradient by its mean over the positions, which is zero,
because a covariance does not change with the mean of the features. For these heads x is centred, and the map is an
exact account of the logit: a covariance is of degree 2 in x and its root of degree 1, so that with a linear classifier
sum_p cam(p) is 2 (logit - bias) or (logit - bias), by Euler's theorem. A `bilinear` head is normalised: its map sums to
zero, and shows what would raise the logit at the cost of what.

`python evaluate.py --checkpoint MODEL --cam IMAGE ...`: where the model sees the class that it predicts.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gcp.drawing.figure import save
from gcp.engine.device import ToDevice
from gcp.engine.distributed import Group
from gcp.engine.timm_reference import TimmReference
from gcp.errors import GCPError
from gcp.evaluation.unlabelled import class_names, file_set
from gcp.heads import Head, RootHead
from gcp.heads.covariance import Covariance
from gcp.models import Classifier
from gcp.runs.scored_model import ScoredModel

INCHES = 2.6  # of a panel


class Centre(nn.Module):
    """x (B, C, h, w) minus its mean over positions."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean((2, 3), keepdim=True)


class Divided(nn.Module):
    """The same logits, with `map` at the place where the pooling takes its features."""

    def __init__(self, model: Classifier | TimmReference):
        super().__init__()
        self.model = model
        self.map = Centre() if isinstance(model, Classifier) and _centres(model.head) else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        if isinstance(self.model, Classifier):
            features, token = self.model.extract(images)
            x = self.map(self.model.head.reduction(features))
            return self.model.logits(self.model.head.complete(self.model.head.pool(x), x), token)
        size = (images.shape[2], images.shape[3])
        features = self.model.body.forward_features(images)
        x = self.map(self.model.to_map(features, size))
        return self.model.body.forward_head(self.model.from_map(x, features, size))


def _centres(head: Head) -> bool:
    """Whether the output of the head does not change with the mean over positions."""
    if head.mean == "concat":
        return False
    return isinstance(head, Covariance) or (isinstance(head, RootHead) and head.root.method.centred)


@torch.enable_grad()
def contributions(model: Classifier | TimmReference, images: Tensor, classes: list[int]) -> Tensor:
    """The sum over channels of gradient times feature at each position of the map, (B, h, w), of either sign.

    Args:
        model: in evaluation mode.
        images: (B, C, H, W) as the model takes them, on its device.
        classes: B of them, whose logits are explained.

    Raises:
        GCPError: no gradient reaches the map.
    """
    divided, kept = Divided(model), []

    def cut(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())  # a frozen model has a graph from here on
        return kept[0].clone()  # which the layer behind may change in place

    divided.map.register_forward_hook(cut)
    logits = divided(images)
    chosen = logits[range(len(classes)), classes].sum()
    gradient = torch.autograd.grad(chosen, kept[0], allow_unused=True)[0] if chosen.requires_grad else None
    if gradient is None or not bool(gradient.any()):
        raise GCPError(
            "no gradient reaches the feature map: the model classifies by a token of its own (a class token), for "
            "which there is no such map"
        )
    return (gradient * kept[0].detach()).sum(1)


def attention(model: Classifier | TimmReference, images: Tensor, classes: list[int]) -> np.ndarray:
    """Maps (B, H, W) float32 from 0 to 1, each for its class, at the size of the images: the positive contributions.

    Arguments and errors as for `contributions`.
    """
    found = _scaled(contributions(model, images, classes).float().relu())
    size = (images.shape[2], images.shape[3])
    return _scaled(functional.interpolate(found[:, None], size=size, mode="bilinear")[:, 0]).cpu().numpy()


def _scaled(maps: Tensor) -> Tensor:
    """Each of (B, h, w) from 0 to 1; 0 where it is the same everywhere."""
    maps = maps - maps.amin((1, 2), keepdim=True)
    greatest = maps.amax((1, 2), keepdim=True)
    return maps / torch.where(greatest > 0, greatest, 1)


def draw_attention(images: list[np.ndarray], maps: list[np.ndarray], titles: list[str], path: str | Path) -> None:
    """Write a PNG with each image, beside it the image under its map, and the scale of the maps.

    Args:
        images: (H, W, 3) float, 0 to 1.
        maps: (B, H, W), 0 to 1.
        titles: one for each image.
        path: of the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(2, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(2 * columns * INCHES, rows * (INCHES + 0.35)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    every: list[Any] = list(figure.subplots(rows, 2 * columns, squeeze=False).flat)
    for axes in every:
        axes.set_axis_off()
    for number, (image, cam, title) in enumerate(zip(images, maps, titles, strict=True)):
        plain, under = every[2 * number : 2 * number + 2]
        plain.imshow(image)
        plain.set_title(title, fontsize=8, loc="left", parse_math=False)
        under.imshow(image)
        shown = under.imshow(cam, cmap="inferno", alpha=0.6, vmin=0, vmax=1, interpolation="bicubic")
    bar = figure.colorbar(shown, ax=every, shrink=0.9, fraction=0.03, pad=0.02)
    bar.set_label("share of the greatest contribution in the image", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    save(figure, path)


BATCH = 16  # images whose graph is held at a time


def draw(scored_model: ScoredModel, paths: list[str], folder: str | None, group: Group) -> None:
    """Draw the maps of some images into cam.png, in rank 0.

    Raises:
        DataError: an image that cannot be read.
        GCPError: the model has no feature map.
    """
    if not group.main:
        return
    images = file_set(scored_model, paths)
    names = class_names(scored_model)
    to_device = ToDevice(scored_model.device, images.normalize)
    pictures, maps, titles = [], [], []
    for start in range(0, len(paths), BATCH):
        pixels, labels = images.read(range(start, min(start + BATCH, len(paths))))
        fed = to_device(pixels, labels)[0]
        with torch.no_grad():
            best = scored_model.model(fed).float().softmax(1).max(1)
        maps += list(attention(scored_model.model, fed, best.indices.tolist()))
        shown = pixels.float() / 255
        pictures += [image.expand(3, -1, -1).permute(1, 2, 0).numpy() for image in shown]
        for path, p, i in zip(paths[start:], *(each.tolist() for each in best), strict=False):
            true = Path(path).resolve().parent.name
            told = "" if true not in names else ", right" if names[i] == true else f", true: {true}"
            titles.append(f"{names[i]} {100 * p:.0f} %{told}")
    target = Path(folder or ".") / "cam.png"
    titles = [f"{Path(path).name}\n{title}" for path, title in zip(paths, titles, strict=True)]
    draw_attention(pictures, maps, titles, target)
    print(f"{'maps':<12}{target}")
