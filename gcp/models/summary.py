"""What a file of weights is: its layout, its backbone by names and shapes, and the arguments that build its model."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gcp.errors import CheckpointError, GCPError, OptionError
from gcp.kernels.triangle import triangle_size
from gcp.models.backbone import Backbone
from gcp.models.backbones import check_backbone, create_backbone
from gcp.models.bodies import DEPTHS
from gcp.models.checkpoints import Checkpoint
from gcp.models.layouts import BODY, CLASSIFIER, Layout, Spelling, recognise, rename
from gcp.models.names import LUKEMELAS
from gcp.models.weights import COUNTER, COVARIANCE, VARIANCE, State, factors_in, triangle_side

# Backbone -> convolutions, of those that files come with no name of: what is not here is asked for.
CONVOLUTIONS = {
    "alexnet_bn": 5,
    "torchvision/alexnet": 5,
    **{f"torchvision/vgg{depth}{norm}": depth - 3 for norm in ("_bn", "") for depth in (11, 13, 16, 19)},
    **{f"resnet{depth}_cifar": depth + 1 for depth in DEPTHS},
    "resnet18": 20,
    "resnet34": 36,
    **dict.fromkeys(("resnet50", "wide_resnet50_2", "resnext50_32x4d"), 53),
    **dict.fromkeys(("resnet101", "wide_resnet101_2", "resnext101_32x8d"), 104),
    "resnet152": 155,
    **{f"densenet{depth}": depth - 1 for depth in (121, 161, 169, 201)},
    "torchvision/inception_v3": 94,
    "convnext_tiny": 22,
    "convnext_small": 40,
    "convnext_base": 40,
    **{f"vit_{size}_patch16_224": 1 for size in ("tiny", "small", "base")},
    **{f"vit_{size}_patch14_dinov2": 1 for size in ("small", "base")},
}


# With TensorFlow's padding, which timm's models of the same tensors without `tf_` do not have.
BY_LUKEMELAS = (*(f"tf_efficientnet_lite{n}" for n in range(5)), *(f"tf_efficientnet_b{n}" for n in range(8)))


@lru_cache(maxsize=8)
def meta_backbone(name: str, in_chans: int, stage: int | str | None = None) -> Backbone:
    """The backbone on the meta device: shapes without memory."""
    with torch.device("meta"):
        return create_backbone(name, in_chans=in_chans, stage=stage)


def in_chans_of(state: State, name: str) -> int:
    """Input channels of weights under our names, by the first convolution of backbone `name`."""
    own = meta_backbone(name, 3).state_dict(prefix="features.")
    first = next((key for key, value in own.items() if value.ndim == 4), None)
    return state[first].shape[1] if first in state and state[first].ndim == 4 else 3


def spelling_for(state: State, layout: Layout, name: str, stage: int | str | None = None) -> Spelling | None:
    """The spelling under which a file has every tensor of backbone `name`, in its shape; None where none does. `stage`:
    at which it was cut.

    Of several, the one that finds a place for most of the file.
    """
    places: dict[Spelling, int] = {}
    for spelling in layout.spellings:
        renamed = {ours: state[theirs] for theirs, ours in rename(state, spelling).items()}
        try:
            own = meta_backbone(name, in_chans_of(renamed, name), stage).state_dict(prefix="features.")
        except OptionError:  # it does not take these input channels
            continue
        whitened = {key.removesuffix(COVARIANCE) + VARIANCE for key in renamed if key.endswith(COVARIANCE)}
        own_keys = [key for key in own if not key.endswith(COUNTER) and key not in whitened]
        shapes = {key: tuple(own[key].shape) for key in own_keys}
        if all(key in renamed and tuple(renamed[key].shape) == shape for key, shape in shapes.items()):
            places[spelling] = sum(key in own or not key.startswith(BODY) for key in renamed)
    return max(places, key=places.__getitem__) if places else None


def identify(
    state: State, layout: Layout, hint: str | None = None, stage: int | str | None = None
) -> str | None:  # fmt: skip
    """The name of the backbone, None where it is none of the usual ones. `hint`: what the file calls it, `stage`: at
    which it says that it was cut.
    """
    counts = set()
    for spelling in layout.spellings:
        ours = rename(state, spelling)
        counts.add(sum(state[theirs].ndim == 4 for theirs, key in ours.items() if key.startswith(BODY)))
    names = [name for name, convolutions in CONVOLUTIONS.items() if convolutions in counts]
    if hint is not None and hint not in names:
        names.insert(0, hint)
    if stage is not None:
        names = [hint] if hint is not None else []
    return next((name for name in names if _known(name) and spelling_for(state, layout, name, stage) is not None), None)


def _known(name: str) -> bool:
    try:
        check_backbone(name)
    except GCPError:
        return False
    return True


ASSUMED = "svd_pade"  # the exact root and its exact gradient, where a file does not say which head it was trained with
PUBLISHED_DROPOUT = 0.5  # of classifiers whose linear layers stand at 0, 3, 6: a ReLU and a dropout lie between them
TOKEN = "token_classifier.weight"  # of a classifier that reads a token apart
CONVERTED = "source"  # key under which a converted file says where it comes from


@dataclass(frozen=True)
class Summary:
    """What a file holds.

    `backbone` is None where it is none of the usual ones. `head` is what the file or its layout says, else
    `head_told` is False and it is what the width of the classifier allows. `width`: what the classifier reads;
    `dim`: channels after the reduction; `order`: of the triangle, "upper", "unknown", or "" where there is none.
    """

    layout: str
    backbone: str | None
    head: str | None
    head_told: bool
    dim: int | None
    width: int | None
    hidden: tuple[int, ...]
    num_classes: int | None
    last_stride: int | None
    order: str
    epoch: int | None
    tensors: int
    parameters: int
    arguments: dict[str, Any]
    spelling: Spelling


def plain_value(value: Any) -> Any:
    """A number of torch or NumPy as a number of Python; None for what is no number, text or truth."""
    if isinstance(value, Tensor | np.generic):
        value = value.item() if value.ndim == 0 else None
    return value if isinstance(value, bool | int | float | str) else None


def summarise(checkpoint: Checkpoint, backbone: str | None = None, head: str | None = None) -> Summary:
    """Find out what a file is; `backbone` and `head` say what it does not.

    Raises:
        CheckpointError: the file is not of the backbone that was named.
    """
    shapes = _dense_shapes(checkpoint)
    entry = recognise(shapes)
    layout = entry.obj
    told = _told(checkpoint) if entry == "own" else {}
    hint = told.get("backbone") or plain_value(checkpoint.about.get("arch"))
    hint = hint if isinstance(hint, str) else None
    if hint is None and LUKEMELAS in checkpoint.names:
        hint = next((name for name in BY_LUKEMELAS if spelling_for(shapes, layout, name)), None)
    evolved = bool(told.get("widths"))  # its shapes are no backbone's
    stage = told.get("stage")
    name = backbone or (hint if evolved else identify(shapes, layout, hint, stage))
    spelling = spelling_for(shapes, layout, name, stage) if name and not evolved else layout.spellings[0]
    if spelling is None:
        raise CheckpointError(f"{checkpoint.path} does not hold the weights of backbone {name!r}; see --inspect")
    state = {ours: shapes[theirs] for theirs, ours in rename(shapes, spelling).items()}
    linear = [state[key] for key in sorted(state, key=_place) if key.startswith(CLASSIFIER) and state[key].ndim == 2]
    norm = state.get("head.reduction.1.weight")  # of the convolution there may be parameters of other shapes
    dim = None if norm is None else norm.shape[0]
    width = linear[0].shape[1] if linear else None
    found = head or told.get("head") or layout.arguments.get("head")
    arguments = {
        "backbone": name,
        "head": found or _possible(width, state, dim, name),
        "num_classes": linear[-1].shape[0] if linear else None,
        "dim": dim,
        "hidden": tuple(weight.shape[0] for weight in linear[:-1]),
        "in_chans": in_chans_of(state, name) if name else 3,
        **({"dropout": PUBLISHED_DROPOUT} if "classifier.3.weight" in state else {}),
        "token": "sum" if TOKEN in state else "none",
        **{key: value for key, value in layout.arguments.items() if key != "head"},
        **{key: value for key, value in told.items() if key not in ("backbone", "head")},
    }
    return Summary(
        layout=str(entry),
        backbone=name,
        head=arguments["head"],
        head_told=found is not None,
        dim=dim,
        width=width,
        hidden=arguments["hidden"],
        num_classes=arguments["num_classes"],
        last_stride=arguments.get("last_stride"),
        order=_order(layout.packs, width, arguments["head"]),
        epoch=_epoch(checkpoint.about),
        tensors=len(checkpoint.state),
        parameters=sum(value.numel() for value in checkpoint.state.values()),
        arguments=arguments,
        spelling=spelling,
    )


def _dense_shapes(checkpoint: Checkpoint) -> State:
    """The tensors of a file, or their shapes as they were before layers were factored."""
    factors = factors_in(checkpoint.about)
    if not factors:
        return checkpoint.state
    from gcp.compress.factors import dense_shapes

    return dense_shapes(checkpoint.state, factors)


def _order(packs: bool, width: int | None, head: str | None) -> str:
    if width is None or triangle_side(width) is None or head == "average":
        return ""
    return "unknown" if packs else "upper"


def _told(checkpoint: Checkpoint) -> dict[str, Any]:
    """Arguments of `create_model` that the configuration in a file of ours says."""
    config = checkpoint.about.get("config")
    if not isinstance(config, dict) or not all(isinstance(config.get(key), dict) for key in ("model", "head")):
        return {}
    model, head = config["model"], dict(config["head"])
    told = {"backbone": plain_value(model.get("backbone")), "head": plain_value(head.pop("name", None))}
    keys = ("last_stride", "dropout", "factors", "widths", "classifier_norm", "norm", "token", "stage")
    told |= {key: model[key] for key in keys if key in model}
    data = config.get("data")
    size = data.get("image_size") if isinstance(data, dict) else None
    told |= {"image_size": size} if isinstance(size, int) else {}
    return told | {key: value for key, value in head.items() if key != "dim"}


def _place(key: str) -> int:
    """Place of a layer in the classifier; files keep their tensors in any order."""
    place = key.removeprefix(CLASSIFIER).partition(".")[0]
    return int(place) if place.isdecimal() else 0


def _possible(width: int | None, state: dict[str, Tensor], dim: int | None, backbone: str | None) -> str | None:
    """A head whose output has this width."""
    if "head.buckets" in state:
        return "compact_bilinear"
    channels = dim or (meta_backbone(backbone, 3).channels if backbone else None)
    if width is None or channels is None:
        return None
    return {channels: "average", channels**2: "bilinear", triangle_size(channels): ASSUMED}.get(width)


def _epoch(about: dict[str, Any]) -> int | None:
    """Epochs done, wherever a file says it: ours, and `epoch` of the others."""
    for place in (about, about.get("scores"), about.get("progress"), about.get(CONVERTED), about.get("meta")):
        epoch = plain_value(place.get("epoch")) if isinstance(place, dict) else None
        if isinstance(epoch, int):
            return epoch
    return None
