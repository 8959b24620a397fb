"""The parts of a classifier in training: frozen ones, and the learning rate and weight decay of each.

A frozen part has no gradient and stays in eval mode whatever the model's mode, so that its batch statistics stay too.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import torch
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

    Examples:
        >>> import gcp
        >>> model = gcp.create_model("resnet8_cifar", num_classes=10, dim=16)
        >>> gcp.models.freeze(model, ["features"])
        >>> any(p.requires_grad for p in model.features.parameters())
        False
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
        for module in part_modules(model, name) if name == "classifier" else [modules[name]]:
            module.requires_grad_(False)
            module.eval()
            setattr(module, MARK, True)


def part_modules(model: nn.Module, part: str) -> list[nn.Module]:
    """The modules of `features`, `head` or `classifier`, to which the classifier of the token belongs."""
    found = [getattr(model, part)]
    beside = getattr(model, "token_classifier", None) if part == "classifier" else None
    return found if beside is None else [*found, beside]


def checkpoint_blocks(features: Any) -> None:
    """Let a backbone of timm compute its blocks anew in the backward pass.

    Raises OptionError where it has no blocks for that.
    """
    try:
        features.body.set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:
        raise OptionError(
            f"backbone {features.name!r} cannot compute its blocks anew; set run.grad_checkpointing=false"
        ) from error


def parameter_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    features_lr_factor: float = 1,
    head_lr_factor: float = 1,
    head_weight_decay: float | None = None,
    classifier_lr_factor: float | None = None,
    classifier_weight_decay: float | None = None,
    decay_all: bool = False,
    layer_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Groups for an optimizer: `name`, `lr`, `weight_decay`, `params`, one per part and decay.

    The learning rate of a part is `lr` times its factor; None means as the head's for the classifier, and
    `weight_decay` for the head. As in timm there is no decay for norms, biases, and what the backbone's
    `no_weight_decay()` names, unless `decay_all`; there is never any for a parameter with the attribute
    `no_weight_decay = True`. What does not decay is in a group `PART.no_decay`. With `layer_decay` the learning rate of
    the backbone falls by this factor from layer to layer, the last being one below the head, in groups `features.N`.
    Only trainable parameters, each once, in the order features, head, classifier. Raises OptionError where everything
    is frozen.

    Examples:
        >>> import gcp
        >>> model = gcp.create_model("resnet8_cifar", num_classes=10, dim=16)
        >>> groups = gcp.models.parameter_groups(model, lr=0.01, weight_decay=1e-4, head_lr_factor=10)
        >>> {group["name"]: group["lr"] for group in groups if "no_decay" not in group["name"]}
        {'features': 0.01, 'head': 0.1, 'classifier': 0.1}
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
        modules = part_modules(model, part)
        every = [p for each in modules for p in each.parameters()]
        params = [p for p in every if p.requires_grad and id(p) not in seen]
        seen.update(id(p) for p in params)
        kept = set() if decay_all else {each for module in modules for each in undecayed(module)}
        if part == "features" and layer_decay is not None:
            groups += _layer_groups(modules[0], params, lr * factor, decay, kept, layer_decay)
        else:
            groups += part_groups(part, params, lr * factor, decay, kept)
    if not groups:
        raise OptionError("nothing is left to train: every parameter is frozen; shorten model.freeze")
    return groups


def part_groups(
    part: str, params: list[nn.Parameter], lr: float, weight_decay: float, kept: Collection[int] = ()
) -> list[dict[str, Any]]:
    """The groups of one part: `PART`, and `PART.no_decay` for parameters with the attribute `no_weight_decay = True`
    and those whose `id` is in `kept`; none that is empty.
    """

    def free(parameter: nn.Parameter) -> bool:
        return getattr(parameter, "no_weight_decay", False) or id(parameter) in kept

    exempt = [p for p in params if free(p)]
    decayed = [p for p in params if not free(p)]
    both = ((part, decayed, weight_decay), (f"{part}.no_decay", exempt, 0.0))
    return [
        {"name": name, "lr": lr, "weight_decay": decay, "params": members} for name, members, decay in both if members
    ]


def undecayed(module: nn.Module) -> set[int]:
    """`id` of the trainable parameters that timm leaves without decay: vectors, biases, and those that the module, or
    the body of a backbone, names in `no_weight_decay()`.
    """
    from timm.optim import param_groups_weight_decay

    body = getattr(module, "body", None)
    names = _named(module, "") | (_named(body, "body.") if body is not None else set())
    groups = param_groups_weight_decay(module, 1.0, no_weight_decay_list=names)
    return {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]}


def _named(module: Any, prefix: str) -> set[str]:
    names = getattr(module, "no_weight_decay", None)
    return {prefix + name for name in names()} if callable(names) else set()


class _BelowAClassifier(nn.Module):
    """The body of a backbone as timm's functions see a whole model: with one more layer, the last."""

    LAST = "classifier_of_gcp"

    def __init__(self, body: Any):
        super().__init__()
        self.named: list[tuple[str, nn.Parameter]] = [
            *body.named_parameters(), (self.LAST, nn.Parameter(torch.zeros(1)))
        ]  # fmt: skip
        if hasattr(body, "group_matcher"):
            self.group_matcher = body.group_matcher
        else:
            self.pretrained_cfg = {"classifier": self.LAST}

    def named_parameters(self, *_: Any, **__: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Of the body, and the last."""
        return iter(self.named)


def _layer_groups(
    features: Any, params: list[nn.Parameter], lr: float, weight_decay: float, kept: set[int], layer_decay: float
) -> list[dict[str, Any]]:
    """The groups of the backbone by the factor of their layer, the highest first."""
    from timm.optim import param_groups_layer_decay

    scales: dict[int, float] = {}
    for group in param_groups_layer_decay(_BelowAClassifier(features.body), 1.0, layer_decay=layer_decay):
        scales.update(dict.fromkeys(map(id, group["params"]), group["lr_scale"]))
    by_scale: dict[float, list[nn.Parameter]] = {}
    for parameter in params:
        by_scale.setdefault(scales.get(id(parameter), 1.0), []).append(parameter)
    groups = []
    for number, scale in enumerate(sorted(by_scale, reverse=True)):
        groups += part_groups(f"features.{number}", by_scale[scale], lr * scale, weight_decay, kept)
    return groups
