"""Which backbone the weights of a file belong to, by their names and shapes."""

from functools import lru_cache

import torch

from gcp.errors import GCPError, OptionError
from gcp.models.backbone import Backbone
from gcp.models.backbones import create_backbone
from gcp.models.cifar_resnet import DEPTHS
from gcp.models.layouts import Layout, rename
from gcp.models.layouts.layout import BODY, Spelling
from gcp.models.names import check_backbone
from gcp.models.weights import COUNTER, State

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
}


@lru_cache(maxsize=8)
def skeleton(name: str, in_chans: int) -> Backbone:
    """The backbone on the meta device: shapes without memory."""
    with torch.device("meta"):
        return create_backbone(name, in_chans=in_chans)


def in_chans_of(state: State, name: str) -> int:
    """Input channels of weights under our names, by the first convolution of backbone `name`."""
    own = skeleton(name, 3).state_dict(prefix="features.")
    first = next((key for key, value in own.items() if value.ndim == 4), None)
    return state[first].shape[1] if first in state and state[first].ndim == 4 else 3


def spelling_for(state: State, layout: Layout, name: str) -> Spelling | None:
    """The spelling under which a file has every tensor of backbone `name`, in its shape; None where none does.

    Of several, the one that finds a place for most of the file.
    """
    places: dict[Spelling, int] = {}
    for spelling in layout.spellings:
        renamed = {ours: state[theirs] for theirs, ours in rename(state, spelling).items()}
        try:
            own = skeleton(name, in_chans_of(renamed, name)).state_dict(prefix="features.")
        except OptionError:  # it does not take these input channels
            continue
        shapes = {key: tuple(value.shape) for key, value in own.items() if not key.endswith(COUNTER)}
        if all(key in renamed and tuple(renamed[key].shape) == shape for key, shape in shapes.items()):
            places[spelling] = sum(key in own or not key.startswith(BODY) for key in renamed)
    return max(places, key=places.__getitem__) if places else None


def identify(state: State, layout: Layout, hint: str | None = None) -> str | None:
    """The name of the backbone, None where it is none of the usual ones. `hint`: what the file calls it."""
    counts = set()
    for spelling in layout.spellings:
        ours = rename(state, spelling)
        counts.add(sum(state[theirs].ndim == 4 for theirs, key in ours.items() if key.startswith(BODY)))
    names = [name for name, convolutions in CONVOLUTIONS.items() if convolutions in counts]
    if hint is not None and hint not in names:
        names.insert(0, hint)
    return next((name for name in names if _known(name) and spelling_for(state, layout, name) is not None), None)


def _known(name: str) -> bool:
    try:
        check_backbone(name)
    except GCPError:
        return False
    return True
