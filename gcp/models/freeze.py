"""Frozen parts: no gradient, and eval mode whatever the model's mode, so that batch statistics stay too."""

from collections.abc import Iterable

from torch import nn

from gcp.errors import UnknownNameError

# A plain attribute, so that copies of a model (an average of its weights, say) stay frozen as well.
MARK = "gcp_frozen"


def is_frozen(module: nn.Module) -> bool:
    """Whether `freeze` was called on this module."""
    return getattr(module, MARK, False)


def freeze(model: nn.Module, names: Iterable[str]) -> None:
    """Freeze parts of a Classifier by name: `features`, or a sub-module such as `features.layer1`.

    Their parameters stop requiring a gradient, and `model.train()` leaves them in eval mode. Nothing is
    frozen where any of the names is unknown: UnknownNameError with the nearest.
    """
    names = [names] if isinstance(names, str) else list(names)
    modules = {name: module for name, module in model.named_modules() if name}
    for name in list(modules):  # the backbone's own names, as its authors know them
        if name.startswith("features.body."):
            modules.setdefault(name.replace("features.body.", "features.", 1), modules[name])
    for name in names:
        if name not in modules:
            raise UnknownNameError("part of the model", name, modules)
    for name in names:
        modules[name].requires_grad_(False)
        modules[name].eval()
        setattr(modules[name], MARK, True)
