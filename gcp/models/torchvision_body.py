"""The families of torchvision that published covariance-pooling suites use, without their classifiers.

AlexNet and VGG give the map before their last max pool (13 x 13 and 14 x 14 at 224 pixels), as published.
Inception v3 comes without its auxiliary classifier; it was trained on images scaled to mean 0.5, deviation
0.5, so with three channels its body begins with the conversion from the usual ImageNet normalisation,
whatever the weights: a checkpoint means the same however its training began.
"""

from collections import OrderedDict
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

FAMILIES = ("alexnet", "vgg", "resnet", "densenet", "inception")
# The stage before the last, by name: where `last_stride` begins to look.
BOUNDARIES = {"resnet": "layer3", "densenet": "features.denseblock3"}

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@lru_cache(maxsize=1)
def names() -> dict[str, str]:
    """Model name -> family, of every torchvision model that belongs to one of the families."""
    from torchvision import models

    files = {name: models.get_model_builder(name).__module__ for name in models.list_models(module=models)}
    files = {name: file.rsplit(".", 1)[-1] for name, file in files.items()}
    return {name: file for name, file in files.items() if file in FAMILIES}


class ImageNetToHalf(nn.Module):
    """Images normalised by ImageNet's mean and deviation -> images normalised by 0.5 and 0.5."""

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        scale = torch.tensor(IMAGENET_STD) / 0.5
        shift = (torch.tensor(IMAGENET_MEAN) - 0.5) / 0.5
        self.register_buffer("scale", scale.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale.to(images.dtype) + self.shift.to(images.dtype)


def _trim(model: Any, family: str, in_chans: int) -> nn.Sequential:
    if family in ("alexnet", "vgg"):
        return model.features[:-1]
    if family == "densenet":
        return nn.Sequential(OrderedDict(features=model.features, relu=nn.ReLU(inplace=True)))
    unused = ("AuxLogits", "avgpool", "dropout", "fc")
    kept = OrderedDict((name, child) for name, child in model.named_children() if name not in unused)
    if family == "inception" and in_chans == 3:
        return nn.Sequential(OrderedDict(transform_input=ImageNetToHalf(), **kept))
    return nn.Sequential(kept)


def _set_in_chans(body: nn.Module, in_chans: int) -> None:
    """Give the first convolution `in_chans` inputs; its weights are summed, or repeated at the same scale."""
    name, old = next((n, m) for n, m in body.named_modules() if isinstance(m, nn.Conv2d))
    if in_chans == old.in_channels:
        return
    same: dict[str, Any] = {key: getattr(old, key) for key in ("out_channels", "kernel_size", "stride", "padding")}
    new = nn.Conv2d(in_chans, bias=old.bias is not None, device=old.weight.device, **same)
    with torch.no_grad():
        if in_chans == 1:
            new.weight.copy_(old.weight.sum(1, keepdim=True))
        else:
            repeats = -(-in_chans // old.in_channels)
            new.weight.copy_(old.weight.repeat(1, repeats, 1, 1)[:, :in_chans] * (old.in_channels / in_chans))
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    parent, _, leaf = name.rpartition(".")
    setattr(body.get_submodule(parent), leaf, new)


def torchvision_body(name: str, pretrained: bool, in_chans: int) -> nn.Sequential:
    """The body of a torchvision model; `pretrained` downloads torchvision's default weights."""
    from torchvision import models

    family = names()[name]
    # Without init_weights Inception v3 warns about a change of its default.
    options = {"init_weights": True} if family == "inception" and not pretrained else {}
    model = models.get_model(name, weights="DEFAULT" if pretrained else None, **options)
    body = _trim(model, family, in_chans)
    _set_in_chans(body, in_chans)
    return body
