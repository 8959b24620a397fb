"""Networks without their classifiers: AlexNet with batch norm, ResNets for small images, torchvision's and timm's.

AlexNet and VGG, from either library, give the map before their last max pool (13 x 13 and 14 x 14 at 224 pixels), as
the published covariance-pooling suites take it.
"""

from collections import OrderedDict
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from gcp.errors import GCPError, OptionError, ShapeError
from gcp.models.downloads import from_hub
from gcp.models.dry_run import dry_run


def alexnet_bn(in_chans: int = 3) -> nn.Sequential:
    """Images (B, in_chans, H, W) -> map (B, 256, h, w), h = 13 at H = 224: the AlexNet of the published comparisons.

    The five convolutions are torchvision's (Krizhevsky, "One weird trick for parallelizing convolutional neural
    networks", 2014), each followed by batch norm and ReLU. In the Sequential the convolutions stand at 0, 4, 8, 11, 14
    and the norms at 1, 5, 9, 12, 15. The convolutions keep torchvision's biases, which batch norm makes redundant, so
    that files with biases fit.
    """

    def block(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2)

    return nn.Sequential(
        *block(in_chans, 64, 11, 4, 2),
        pool(),
        *block(64, 192, 5, 1, 2),
        pool(),
        *block(192, 384, 3, 1, 1),
        *block(384, 256, 3, 1, 1),
        *block(256, 256, 3, 1, 1),
    )


DEPTHS = (8, 14, 20, 32, 44, 56, 110)


def _stage(inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
    from torchvision.models.resnet import BasicBlock

    def shortcut() -> nn.Module | None:
        if stride == 1 and inputs == outputs:
            return None
        return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    first = BasicBlock(inputs, outputs, stride, shortcut())
    return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(blocks - 1)))


def cifar_resnet(depth: int, in_chans: int = 3) -> nn.Sequential:
    """Images (B, in_chans, H, W) -> map (B, 64, H/4, W/4). Kaiming normal initialisation, fan out.

    He, Zhang, Ren, Sun, "Deep residual learning", CVPR 2016, section 4.2: a 3x3 convolution, then three stages of n
    basic blocks with 16, 32, 64 channels at strides 1, 2, 2; depth 6n + 2 with the classifier. One thing differs from
    the paper: where the width changes, the shortcut is a 1x1 convolution with batch norm (their option B), as in
    torchvision's block, not the zero padding of option A.
    """
    blocks, rest = divmod(depth - 2, 6)
    assert rest == 0 and blocks > 0, f"depth {depth} is not 6 n + 2"
    body = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_chans, 16, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(16),
            relu=nn.ReLU(inplace=True),
            layer1=_stage(16, 16, 1, blocks),
            layer2=_stage(16, 32, 2, blocks),
            layer3=_stage(32, 64, 2, blocks),
        )
    )
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return body


FAMILIES = ("alexnet", "vgg", "resnet", "densenet", "inception")
# The stage before the last, by name: where `last_stride` begins to look.
BOUNDARIES = {"resnet": "layer3", "densenet": "features.denseblock3"}

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@lru_cache(maxsize=1)
def torchvision_names() -> dict[str, str]:
    """Model name -> family, of every torchvision model that belongs to one of the families."""
    from torchvision import models

    files = {name: models.get_model_builder(name).__module__ for name in models.list_models(module=models)}
    files = {name: file.rsplit(".", 1)[-1] for name, file in files.items()}
    return {name: file for name, file in files.items() if file in FAMILIES}


class ImageNetToHalf(nn.Module):
    """Images normalised by ImageNet's mean and deviation -> images normalised by 0.5 and 0.5.

    Inception v3 was trained on the latter. With three channels its body begins with this conversion, whatever the
    weights: a checkpoint means the same however its training began.
    """

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

    family = torchvision_names()[name]
    # Without init_weights Inception v3 warns about a change of its default.
    options = {"init_weights": True} if family == "inception" and not pretrained else {}
    model = models.get_model(name, weights="DEFAULT" if pretrained else None, **options)
    body = _trim(model, family, in_chans)
    _set_in_chans(body, in_chans)
    return body


def timm_body(
    name: str,
    pretrained: bool,
    in_chans: int,
    drop_path: float | None = None,
    size: tuple[int, int] | None = None,
) -> nn.Module:
    """The timm model `name` without its classifier; `pretrained` downloads timm's weights.

    A transformer that takes one size of images only is built for those of `size` (H, W): with `dynamic_img_size` where
    it has that, which resamples its position embedding at every call and leaves the weights in their shapes; else with
    `img_size`, which resamples the weights as they are loaded.

    Its own pooling is kept as it is, because the weights of some transformers depend on it; the backbone
    calls `forward_features`, which stops before it. VGG loses its last max pool, as torchvision's does here.
    Raises ShapeError where it takes no images of `size`.
    """
    options = {} if drop_path is None else {"drop_path_rate": drop_path}
    cfg = _record(name)
    native = tuple((cfg.get("input_size") or (3, 224, 224))[-2:])
    if size is None or size == native or not cfg.get("fixed_input_size"):
        body = _create(name, pretrained, in_chans, options)
    else:
        body = _of_size(name, pretrained, in_chans, options, size, native)
    if type(body).__name__ == "VGG" and isinstance(body.features[-1], nn.MaxPool2d):
        body.features = body.features[:-1]
    return body


def _record(name: str) -> dict[str, Any]:
    """What timm says of the weights of a model, without building it."""
    import timm

    cfg = timm.get_pretrained_cfg(name)
    return cfg.to_dict() if cfg is not None else {}


def _create(name: str, pretrained: bool, in_chans: int, options: dict[str, Any]) -> Any:
    import timm

    try:
        with from_hub() if pretrained else nullcontext():
            return timm.create_model(name, pretrained=pretrained, in_chans=in_chans, num_classes=0, **options)
    except (TypeError, AssertionError, ValueError, NotImplementedError) as error:
        if "drop_path_rate" in str(error):
            raise no_drop_path(name) from error
        if in_chans == 3 or isinstance(error, GCPError) or any(key in str(error) for key in options):
            raise
        raise OptionError(f"backbone {name!r} does not take in_chans={in_chans}, only 3: {error}") from error


def _of_size(
    name: str,
    pretrained: bool,
    in_chans: int,
    options: dict[str, Any],
    size: tuple[int, int],
    native: tuple[int, ...],
) -> Any:
    try:
        return _create(name, pretrained, in_chans, {**options, "dynamic_img_size": True})
    except TypeError as error:
        if "dynamic_img_size" not in str(error):
            raise
    try:
        body = _create(name, pretrained, in_chans, {**options, "img_size": size})
        dry_run(body, in_chans, size)
    except (TypeError, AssertionError, ValueError, RuntimeError) as error:
        raise ShapeError(only_size(name, native, size)) from error
    body.pretrained_cfg = {**dict(body.pretrained_cfg), "input_size": (in_chans, *size)}
    return body


def no_drop_path(name: str) -> OptionError:
    """The refusal of a backbone without stochastic depth."""
    return OptionError(f"backbone {name!r} has no stochastic depth; set model.drop_path=null")


def only_size(name: str, native: tuple[int, ...], got: tuple[int, int]) -> str:
    """What is said of images of another size than the one that a backbone takes."""
    return (
        f"backbone {name!r} takes images of {native[0]}x{native[1]} only, got {got[0]}x{got[1]}; set "
        f"data.image_size={native[0]}. Of any size: convolutional networks, and built for it (image_size) vit_*, "
        "deit_*, eva*, beit*, swin*"
    )


def patch_size(body: Any) -> tuple[int, int] | None:
    """The sides (h, w) of a patch, of which images of a transformer that takes any size are made."""
    if not getattr(body, "dynamic_img_size", False) or getattr(body.patch_embed, "dynamic_img_pad", False):
        return None
    side = body.patch_embed.patch_size
    return (side, side) if isinstance(side, int) else (side[0], side[1])


def input_size(body: nn.Module) -> tuple[tuple[int, int], bool]:
    """The image size (H, W) that a timm model was made for, and whether it takes no other."""
    cfg = getattr(body, "pretrained_cfg", None) or {}
    height, width = (cfg.get("input_size") or (3, 224, 224))[-2:]
    return (height, width), bool(cfg.get("fixed_input_size"))


def boundary(body: nn.Module) -> str | None:
    """The last module before the stage that halves the map for the last time, from `feature_info`."""
    info = getattr(body, "feature_info", None)
    if not isinstance(info, list) or not all({"module", "reduction"} <= entry.keys() for entry in info):
        return None
    earlier = [entry["module"] for entry in info if entry["reduction"] < info[-1]["reduction"]]
    return earlier[-1] if earlier else None
