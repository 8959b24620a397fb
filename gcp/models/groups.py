"""Parameter groups: each part of a Classifier with its own learning rate and weight decay."""

from typing import Any

from torch import nn

from gcp.errors import OptionError


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
