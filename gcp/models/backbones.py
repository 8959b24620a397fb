"""Backbones by name, from three sources."""

from pathlib import Path

from gcp.errors import GCPError, OptionError
from gcp.models import timm_body, torchvision_body
from gcp.models.backbone import Backbone
from gcp.models.last_stride import double_last_map
from gcp.models.names import OURS, source
from gcp.models.weights import load_backbone


def _build(name: str, pretrained: bool, in_chans: int) -> tuple[Backbone, str | None]:
    """The backbone and the module of its body before the last stage."""
    origin, plain = source(name)
    if origin == "ours":
        if pretrained:
            raise OptionError(
                f"there are no published weights for backbone {name!r}; set pretrained=false, or "
                f"pretrained=FILE for a checkpoint of yours"
            )
        cifar = name.endswith("_cifar")
        body = OURS[name].obj(in_chans)
        return Backbone(body, name, in_chans, (32, 32) if cifar else (224, 224)), "layer2" if cifar else None
    if origin == "torchvision":
        family = torchvision_body.names()[plain]
        body = torchvision_body.torchvision_body(plain, pretrained, in_chans)
        size = (299, 299) if family == "inception" else (224, 224)
        return Backbone(body, name, in_chans, size), torchvision_body.BOUNDARIES.get(family)
    body = timm_body.timm_body(plain, pretrained, in_chans)
    return Backbone(body, name, in_chans, *timm_body.input_size(body)), timm_body.boundary(body)


def _build_or_explain(name: str, pretrained: bool, in_chans: int) -> tuple[Backbone, str | None]:
    if not pretrained:
        return _build(name, False, in_chans)
    try:
        return _build(name, True, in_chans)
    except GCPError:
        raise
    except Exception as error:  # timm and torchvision download with libraries whose errors share no class
        raise GCPError(
            f"the pretrained weights of backbone {name!r} could not be loaded ({type(error).__name__}: "
            f"{error}). Without a network, fetch the file elsewhere and set pretrained=FILE, or train with "
            f"pretrained=false"
        ) from error


def create_backbone(
    name: str,
    pretrained: bool | str | Path = False,
    last_stride: int | None = None,
    in_chans: int = 3,
) -> Backbone:
    """Build a backbone by name: any timm model, `torchvision/NAME`, or one of ours.

    `pretrained`: True downloads the weights of timm or torchvision; a path loads a file (see
    `gcp.models.weights`). `last_stride=1` keeps the last stage at the stride of the one before, so the map
    doubles; None and 2 leave the model as it is. AlexNet and VGG, from either source, give the map before
    their last max pool, as the published suites take it.
    Raises UnknownNameError, OptionError, CheckpointError, or GCPError where a download fails.
    """
    if last_stride not in (None, 1, 2):
        raise OptionError(f"last_stride must be 1, 2 or null (as the model is), got {last_stride!r}")
    if not isinstance(in_chans, int) or isinstance(in_chans, bool) or in_chans < 1:
        raise OptionError(f"in_chans must be a positive whole number, got {in_chans!r}")
    if not isinstance(pretrained, bool | str | Path):
        raise OptionError(f"pretrained must be true, false or the path of a file, got {pretrained!r}")
    backbone, boundary = _build_or_explain(name, pretrained is True, in_chans)
    if last_stride == 1:
        double_last_map(backbone, boundary, backbone.native_size)
    if isinstance(pretrained, str | Path):
        load_backbone(backbone, pretrained)
    return backbone
