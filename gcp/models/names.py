"""The names of the backbones: our own, torchvision's families, every model of timm."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import lru_cache, partial

from torch import nn

from gcp.errors import UnknownNameError
from gcp.models.alexnet import alexnet_bn
from gcp.models.cifar_resnet import DEPTHS, cifar_resnet
from gcp.registry import Entry, Registry

PREFIX = "torchvision/"
REGISTERED = "gcp_"

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
    from gcp.models.torchvision_body import names

    torchvision = names()
    theirs = _timm_entries()
    known = {*OURS, *theirs}
    pairs = [(name, family) for name, family in torchvision.items() if name not in known]
    pairs += [(PREFIX + name, family) for name, family in torchvision.items()]
    entries = (Entry(name, name, f"torchvision, family {family}") for name, family in pairs)
    return (*OURS.list(), *entries, *theirs)


def list_backbones(pattern: str = "*") -> list[Entry]:
    """Backbones whose name matches a shell pattern: ours, torchvision's, timm's. Each has a `.summary`."""
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


def check_backbone(name: str) -> None:
    """Raise UnknownNameError, with the nearest name, unless `name` is a backbone. Builds nothing."""
    source(name)
