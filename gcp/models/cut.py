"""A backbone cut behind a stage: the later layers are taken out, and the map is that of the stage.

An earlier map has more positions and plainer features, which texture is better told by. Models of timm are cut where
their `feature_info` says that a stage ends (blocks of a transformer, stages of a convolutional network) by timm's own
`prune_intermediate_layers`; the last norm of a transformer stays behind the block that is then the last one. A
Sequential, which our own and torchvision's networks are, is cut behind any layer that Sequentials lead to.
"""

from collections import OrderedDict
from typing import Any

from torch import nn

from gcp.errors import OptionError, suggest
from gcp.models.dry_run import dry_run

HALVED = 0.6  # a map at most that part as large; convolutions without padding lose a little more than half


def cut(body: nn.Module, stage: int | str, name: str, in_chans: int, size: tuple[int, int]) -> nn.Module:
    """The body up to the stage, by index (negative ones from the end) or name.

    Args:
        body: a model of timm, which is changed, or a Sequential, which is not.
        stage: of `stages`, or the name of a layer in nested Sequentials.
        name: of the backbone, for messages.
        in_chans: channels of the images.
        size: (H, W) of images that the body takes.

    Raises:
        OptionError: the body has no such stage, or none at all.
    """
    names = stages(body, in_chans, size)
    if not names:
        raise OptionError(
            f"stage={stage!r} does not work for backbone {name!r}: it tells no stages. It works for timm models that "
            "have feature_info, those of torchvision, our own, and an nn.Sequential; set model.stage=null"
        )
    chosen = _chosen(stage, names, name, _layers(body) if isinstance(body, nn.Sequential) else [])
    if isinstance(body, nn.Sequential):
        return _up_to(body, chosen.split("."))
    if chosen != names[-1]:
        pruned: Any = body
        pruned.prune_intermediate_layers([names.index(chosen)], prune_norm=False, prune_head=True)
    return body


def stages(body: Any, in_chans: int, size: tuple[int, int]) -> list[str]:
    """The modules at which stages end, in order; of a Sequential the last ones before the map halves, and the last."""
    if isinstance(body, nn.Sequential):
        return _before_halvings(body, in_chans, size)
    info = getattr(body, "feature_info", None)
    if not isinstance(info, list) or not hasattr(body, "prune_intermediate_layers"):
        return []
    there = {each for each, _ in body.named_modules()}  # a last pool may have been taken out
    return [entry["module"] for entry in info if entry["module"] in there]


def _chosen(stage: int | str, names: list[str], backbone: str, layers: list[str]) -> str:
    if isinstance(stage, int) and not isinstance(stage, bool) and -len(names) <= stage < len(names):
        return names[stage]
    if isinstance(stage, str) and stage in (*names, *layers):
        return stage
    close = suggest(stage, [*names, *layers]) if isinstance(stage, str) else ""
    listed = ", ".join(f"{place} ({each})" for place, each in enumerate(names))
    raise OptionError(
        f"stage is {stage!r}; allowed for backbone {backbone!r} (model.stage): {listed}; negative ones from the end."
        + close
    )


def _plain(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _layers(body: nn.Module, prefix: str = "") -> list[str]:
    """Names of the layers that Sequentials lead to, the Sequentials too."""
    names = []
    for name, child in body.named_children():
        names += [prefix + name, *(_layers(child, f"{prefix}{name}.") if _plain(child) else [])]
    return names


def _up_to(body: nn.Sequential, path: list[str]) -> nn.Sequential:
    """A Sequential of the same children up to the layer at the path, that one included."""
    name, *inner = path
    kept: OrderedDict[str, nn.Module] = OrderedDict()
    for key, child in body.named_children():
        kept[key] = _up_to(child, inner) if key == name and inner else child  # type: ignore[arg-type]
        if key == name:
            break
    return nn.Sequential(kept)


def _before_halvings(body: nn.Sequential, in_chans: int, size: tuple[int, int]) -> list[str]:
    wrote = {call.name: call.wrote for call in dry_run(body, in_chans, size).calls}

    def units(module: nn.Module, prefix: str) -> list[str]:
        """The children, those that halve the map more than once by their own children."""
        found = []
        for name, child in module.named_children():
            inner = units(child, f"{prefix}{name}.") if _plain(child) else []
            sides = {wrote[each] for each in inner if each in wrote}
            found += inner if len(sides) > 2 else [prefix + name]
        return [each for each in found if each in wrote]

    names = units(body, "")
    found, trained = [], False
    for name, after in zip(names, [*names[1:], None], strict=True):
        trained = trained or any(True for _ in body.get_submodule(name).parameters())
        if trained and (after is None or min(wrote[after]) <= HALVED * min(wrote[name])):
            found.append(name)
    return found
