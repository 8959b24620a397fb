"""The parts of a classifier in training: frozen ones, and the learning rate and weight decay of each.

A frozen part has no gradient and stays in eval mode whatever the model's mode, so that its batch statistics stay too.
"""

from collections.abc import Iterable
from typing import Any

from torch import nn

from gcp.errors import OptionError, UnknownNameError

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


def parameter_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    features_lr_factor: float = 1,
    head_lr_factor: float = 1,
    head_weight_decay: float | None = None,
    classifier_lr_factor: float | None = None,
    classifier_weight_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Groups for an optimizer: `name`, `lr`, `weight_decay`, `params`, one per part and decay.

    The learning rate of a part is `lr` times its factor; None means as the head's for the classifier, and
    `weight_decay` for the head. A parameter with the attribute `no_weight_decay = True` goes to a group
    `PART.no_decay` with decay 0. Only trainable parameters, each once, in the order features, head,
    classifier. Raises OptionError where everything is frozen.
    """
    if head_weight_decay is None:
        head_weight_decay = weight_decay
    if classifier_lr_factor is None:
        classifier_lr_factor = head_lr_factor
    if classifier_weight_decay is None:
        classifier_weight_decay = head_weight_decay
    rates = {
        "features": (features_lr_factor, weight_decay),
        "head": (head_lr_factor, head_weight_decay),
        "classifier": (classifier_lr_factor, classifier_weight_decay),
    }
    seen: set[int] = set()
    groups = []
    for part, (factor, decay) in rates.items():
        params = [p for p in getattr(model, part).parameters() if p.requires_grad and id(p) not in seen]
        seen.update(id(p) for p in params)
        groups += part_groups(part, params, lr * factor, decay)
    if not groups:
        raise OptionError("nothing is left to train: every parameter is frozen; shorten model.freeze")
    return groups


def part_groups(part: str, params: list[nn.Parameter], lr: float, weight_decay: float) -> list[dict[str, Any]]:
    """The groups of one part: `PART`, and `PART.no_decay` for parameters with the attribute `no_weight_decay = True`;
    none that is empty.
    """
    exempt = [p for p in params if getattr(p, "no_weight_decay", False)]
    decayed = [p for p in params if not getattr(p, "no_weight_decay", False)]
    both = ((part, decayed, weight_decay), (f"{part}.no_decay", exempt, 0.0))
    return [
        {"name": name, "lr": lr, "weight_decay": decay, "params": members} for name, members, decay in both if members
    ]
