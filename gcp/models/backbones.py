"""Backbones by name: what there is, building one, its last stride, and the image size that suits it.

There are three sources: our own networks, torchvision's families, every model of timm.
"""

from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gcp.errors import GCPError, OptionError, ShapeError, UnknownNameError
from gcp.models.backbone import Backbone
from gcp.models.bodies import (
    BOUNDARIES,
    DEPTHS,
    alexnet_bn,
    boundary,
    cifar_resnet,
    input_size,
    no_drop_path,
    timm_body,
    torchvision_body,
    torchvision_names,
)
from gcp.models.dry_run import MapCall, dry_run
from gcp.models.weights import load_backbone
from gcp.registry import Entry, Registry

PREFIX = "torchvision/"
REGISTERED = "gcp_"
HERE = "model.pretrained in a configuration"

# name -> builder(in_chans) of a body that maps images to a feature map.
OURS: Registry[Callable[[int], nn.Module]] = Registry("backbone")
OURS.add(
    "alexnet_bn",
    alexnet_bn,
    summary="AlexNet with batch norm, 13x13 map at 224, the published variant",
    paper="Krizhevsky 2014",
)
for _depth in DEPTHS:
    OURS.add(
        f"resnet{_depth}_cifar",
        partial(cifar_resnet, _depth),
        summary=f"residual network of depth {_depth} for small images, 8x8 map at 32",
        paper="He et al., CVPR 2016, section 4.2",
    )


@lru_cache(maxsize=1)
def _timm_entries() -> tuple[Entry, ...]:
    import timm

    families = {name: family for family in timm.list_modules() for name in timm.list_models(module=family)}
    # What `gcp.timm` registers there are whole models of ours, and no backbones.
    theirs = [name for name in timm.list_models() if not name.startswith(REGISTERED)]
    return tuple(Entry(name, name, f"timm, family {families.get(name, '?')}") for name in theirs)


@lru_cache(maxsize=1)
def _entries() -> tuple[Entry, ...]:
    torchvision = torchvision_names()
    theirs = _timm_entries()
    known = {*OURS, *theirs}
    pairs = [(name, family) for name, family in torchvision.items() if name not in known]
    pairs += [(PREFIX + name, family) for name, family in torchvision.items()]
    entries = (Entry(name, name, f"torchvision, family {family}") for name, family in pairs)
    return (*OURS.list(), *entries, *theirs)


def list_backbones(pattern: str = "*") -> list[Entry]:
    """Backbones whose name matches a shell pattern: ours, torchvision's, timm's. Each has a `.summary`.

    Examples:
        >>> import gcp
        >>> "resnet50" in gcp.models.list_backbones("resnet5*")
        True
    """
    return [entry for entry in _entries() if fnmatchcase(entry, pattern)]


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    return frozenset(str(entry) for entry in _entries())


def source(name: str) -> tuple[str, str]:
    """Who builds a backbone (`ours`, `torchvision` or `timm`) and its name there.

    A plain name means timm's model where both have one; `torchvision/NAME` asks for the other. A tag of
    timm's weights may follow its name (`resnet50.a1_in1k`). Raises UnknownNameError with the nearest name.
    """
    if name in OURS:
        return "ours", name
    known = _known()
    if name in known:
        if name.startswith(PREFIX):
            return "torchvision", name.removeprefix(PREFIX)
        return ("timm" if name in _timm_entries() else "torchvision"), name
    arch, dot, _ = str(name).partition(".")
    if dot and arch in _timm_entries():
        import timm

        tags = timm.list_models(f"{arch}.*", pretrained=True)
        if name in tags:
            return "timm", name
        raise UnknownNameError("backbone", name, [arch, *tags])
    raise UnknownNameError("backbone", name, known)


def check_backbone(name: str | nn.Module) -> None:
    """Raise UnknownNameError, with the nearest name, unless `name` is a backbone or a module. Builds nothing.

    Raises OptionError for anything else.

    Examples:
        >>> import gcp
        >>> gcp.models.check_backbone("resnet8_cifr")
        Traceback (most recent call last):
        gcp.errors.UnknownNameError: ...
    """
    if isinstance(name, nn.Module):
        return
    if not isinstance(name, str):
        hint = f". Did you mean {name.__name__}()?" if isinstance(name, type) and issubclass(name, nn.Module) else ""
        raise OptionError(f"backbone is {name!r}; allowed: a name, see gcp list backbones, or an nn.Module{hint}")
    source(name)


Stage = int | str | None


def _build(
    name: str,
    pretrained: bool,
    in_chans: int,
    drop_path: float | None,
    size: tuple[int, int] | None,
    stage: Stage,
) -> tuple[Backbone, str | None]:
    """The backbone and the module of its body before the last stage."""
    origin, plain = source(name)
    if drop_path is not None and origin != "timm":
        raise no_drop_path(name)
    if origin == "ours":
        if pretrained:
            raise OptionError(
                f"there are no published weights for backbone {name!r}; set pretrained=False, or "
                f"pretrained=FILE for a checkpoint of yours ({HERE})"
            )
        cifar = name.endswith("_cifar")
        body = OURS[name].obj(in_chans)
        native = (32, 32) if cifar else (224, 224)
        return _up_to(body, stage, name, in_chans, native), "layer2" if cifar else None
    if origin == "torchvision":
        family = torchvision_names()[plain]
        body = torchvision_body(plain, pretrained, in_chans)
        native = (299, 299) if family == "inception" else (224, 224)
        return _up_to(body, stage, name, in_chans, native), BOUNDARIES.get(family)
    body = timm_body(plain, pretrained, in_chans, drop_path, size)
    native, fixed = input_size(body)
    if size is None or size == native or not fixed:
        return _up_to(body, stage, name, in_chans, native, fixed), boundary(body)
    return _up_to(body, stage, name, in_chans, native), boundary(body)  # built for any size


def _up_to(
    body: nn.Module, stage: Stage, name: str, in_chans: int, size: tuple[int, int], fixed: bool = False
) -> Backbone:
    """The backbone of a body, up to a stage where one is given."""
    if stage is None:
        return Backbone(body, name, in_chans, size, fixed)
    from gcp.models.cut import cut

    before = set(body.state_dict())
    body = cut(body, stage, name, in_chans, size)
    try:
        backbone = Backbone(body, name, in_chans, size, fixed)
    except (IndexError, AttributeError, TypeError, AssertionError, RuntimeError) as error:
        raise OptionError(
            f"stage={stage!r} does not work for backbone {name!r}, which timm cannot cut there"
        ) from error
    backbone.stage, backbone.left_out = stage, frozenset(before - set(backbone.body.state_dict()))
    return backbone


def _of_module(
    body: nn.Module, pretrained: bool, in_chans: int, size: tuple[int, int] | None, stage: Stage
) -> tuple[Backbone, str | None]:
    """A module as a backbone, and the name of its part before the last stage, where it has timm's or ResNet's names."""
    if pretrained:
        raise OptionError("a backbone given as a module brings its weights along: set pretrained=False, or a file")
    sides = input_size(body)[0] if size is None else size
    if stage is not None:
        from gcp.models.cut import cut

        body = cut(body, stage, type(body).__name__, in_chans, sides)
    before_last = boundary(body) or ("layer3" if hasattr(body, "layer3") and hasattr(body, "layer4") else None)
    backbone = Backbone.of_module(body, in_chans, sides)
    backbone.stage = stage
    return backbone, before_last


def _build_or_explain(name: str, pretrained: bool, *options: Any) -> tuple[Backbone, str | None]:
    """As `_build`, whose further arguments are `options`."""
    if not pretrained:
        return _build(name, False, *options)
    try:
        return _build(name, True, *options)
    except GCPError:
        raise
    except Exception as error:  # timm and torchvision download with libraries whose errors share no class
        raise GCPError(
            f"the pretrained weights of backbone {name!r} could not be loaded ({type(error).__name__}: "
            f"{error}). Without a network, fetch the file elsewhere and "
            "type model.pretrained=FILE; or model.pretrained=false to train from nothing (in Python pretrained=FILE, "
            "pretrained=False)"
        ) from error


def create_backbone(
    name: str | nn.Module,
    pretrained: bool | str | Path = False,
    last_stride: int | None = None,
    in_chans: int = 3,
    image_size: int | tuple[int, int] | None = None,
    drop_path: float | None = None,
    stage: Stage = None,
) -> Backbone:
    """Build a backbone by name (any timm model, `torchvision/NAME`, or one of ours), or of a module.

    A module maps images to a map (B, C, h, w) or to tokens (B, N, C) on a grid; it is taken as it is, and a dry run on
    one image of `image_size` (224, or what a timm model tells) finds its width. `pretrained` is then False or a file.

    `pretrained`: True downloads the weights of timm or torchvision; a path loads a file (see
    `gcp.models.weights`). `image_size`, one side or (H, W), builds a transformer that takes one size of images for
    images of that size. `stage` cuts the backbone behind a stage, by index or name (see `gcp.models.cut`), and leaves
    the later layers out of it; weights of the whole still load. `last_stride=1` keeps the last stage at the stride of
    the one before, so the map doubles; None and 2 leave the model as it is. AlexNet and VGG, from either source, give
    the map before their last max pool, as the published suites take it. `drop_path` is the rate of stochastic depth of
    a timm model.
    Raises UnknownNameError, OptionError, CheckpointError, or GCPError where a download fails.

    Examples:
        >>> import gcp, torch
        >>> backbone = gcp.models.create_backbone("resnet8_cifar")
        >>> backbone(torch.randn(2, 3, 32, 32)).shape, backbone.channels
        (torch.Size([2, 64, 8, 8]), 64)
    """
    if last_stride not in (None, 1, 2):
        raise OptionError(f"last_stride must be 1, 2 or null (as the model is), got {last_stride!r}")
    if not isinstance(in_chans, int) or isinstance(in_chans, bool) or in_chans < 1:
        raise OptionError(f"in_chans must be a positive whole number, got {in_chans!r}")
    if not isinstance(pretrained, bool | str | Path):
        raise OptionError(f"pretrained must be true, false or the path of a file, got {pretrained!r}")
    if isinstance(name, nn.Module) and drop_path is not None:
        raise no_drop_path(type(name).__name__)
    if stage is not None and last_stride == 1:
        raise OptionError(
            f"last_stride=1 does not go with stage={stage!r}, whose map is the larger one of an earlier stage; leave "
            "one of them out (model.last_stride, model.stage)"
        )
    size = _sides(image_size)
    if isinstance(name, nn.Module):
        backbone, before_last = _of_module(name, pretrained is True, in_chans, size, stage)
    else:
        backbone, before_last = _build_or_explain(name, pretrained is True, in_chans, drop_path, size, stage)
    if last_stride == 1:
        double_last_map(backbone, before_last, backbone.native_size)
    if isinstance(pretrained, str | Path):
        load_backbone(backbone, pretrained)
    return backbone


def _sides(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """(H, W). Raises OptionError for what is no size."""
    if image_size is None:
        return None
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise OptionError(f"image_size is {image_size!r}; allowed: a side such as 448, or (H, W)")
    return sides[0], sides[1]


# The last stage at the stride of the one before makes the map twice as large, with four times the samples of the
# covariance. The published mpncovresnet does this (14 x 14 instead of 7 x 7 at 224 pixels): every convolution of the
# last stage that halves the map gets stride 1, without dilation, and an average pool of its shortcut that halves the
# map is taken out. The weights keep their shapes, so pretrained ones still load.
WORKS_FOR = "resnet*, resnext*, wide_resnet*, regnet*, efficientnet*, densenet* and resnet*_cifar"


def _halving(backbone: Backbone, boundary: str, size: tuple[int, int]) -> list[MapCall]:
    """The calls after `boundary` that bring the map to its final sides."""
    run = dry_run(backbone, backbone.in_chans, size)
    final = tuple(run.output.shape[-2:])
    inside = [i for i, call in enumerate(run.calls) if f"{call.name}.".startswith(f"body.{boundary}.")]
    after = run.calls[inside[-1] + 1 :] if inside else ()
    return [call for call in after if call.wrote == final and tuple(-(-s // 2) for s in call.read) == final]


def _keep_size(backbone: Backbone, name: str) -> None:
    module = backbone.get_submodule(name)
    if isinstance(module, nn.Conv2d):
        module.stride = (1, 1)
    elif isinstance(module, nn.AvgPool2d):
        kernel = module.kernel_size if isinstance(module.kernel_size, tuple) else (module.kernel_size,) * 2
        if kernel == (2, 2):
            parent, _, leaf = name.rpartition(".")
            setattr(backbone.get_submodule(parent), leaf, nn.Identity())
        else:
            module.stride = 1
    elif type(module).__name__ == "BlurPool2d":  # timm's anti-aliasing: its 3x3 filter keeps the size
        setattr(module, "stride", 1)  # noqa: B010


def double_last_map(backbone: Backbone, boundary: str | None, size: tuple[int, int]) -> None:
    """Set the last stage of `backbone` to stride 1, in place, and check in a dry run that the map is as large
    as that of the stage before.

    `boundary` names the module of `backbone.body` after which the last stage begins; `size` is (H, W) of the
    images of the dry run. Raises OptionError where the stage cannot be edited like this.
    """
    refusal = OptionError(
        f"last_stride=1 does not work for backbone {backbone.name!r}: its last stage does not halve the "
        f"map by strided convolutions alone. It works for {WORKS_FOR}; leave last_stride out for the others."
    )
    calls = _halving(backbone, boundary, size) if boundary else []
    if not calls:
        raise refusal
    for call in calls:
        _keep_size(backbone, call.name)
    try:
        kept = backbone.map_size(size) == calls[0].read
    except ShapeError as error:  # a later layer was built for the smaller map
        raise refusal from error
    if not kept:
        raise refusal


STEP = 32
# A covariance from a map of 3 x 3 has rank 8 at most: the least that is worth a second-order head.
LEAST_SIDE = 3
LARGEST = 1024


@lru_cache(maxsize=8)
def _skeleton(name: str, stage: Stage) -> Backbone:
    """The backbone on the meta device: shapes without memory or computation."""
    with torch.device("meta"):
        return create_backbone(name, stage=stage)


def _large_enough(backbone: Backbone, size: int) -> bool:
    try:
        return min(backbone.map_size(size)) >= LEAST_SIDE
    except ShapeError:
        return False


@lru_cache(maxsize=64)
def default_image_size(name: str, dataset_size: int, stage: Stage = None) -> int:
    """Side in pixels to which images of `dataset_size` are brought for a backbone, cut at `stage` where one is given.

    A network for small images (`*_cifar`) takes them as they are; one that takes a single size, that size;
    any other the smallest multiple of 32, not below `dataset_size`, at which its map is at least 3 x 3
    (`alexnet_bn`: 64 for images of 8 to 64; `resnet18`: 96). Found by dry runs without computation, cached.
    Raises UnknownNameError.

    Examples:
        >>> import gcp
        >>> gcp.models.default_image_size("resnet8_cifar", 32)
        32
    """
    if source(name)[0] == "ours" and name.endswith("_cifar"):
        return dataset_size
    backbone = _skeleton(name, stage)
    if backbone.image_size is not None:
        return backbone.image_size[0]
    first = -(-dataset_size // STEP) * STEP
    for size in range(first, max(first, LARGEST) + 1, STEP):
        if _large_enough(backbone, size):
            return size
    raise GCPError(f"no image size up to {LARGEST} gives {name!r} a map of {LEAST_SIDE}x{LEAST_SIDE}")
