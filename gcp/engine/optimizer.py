"""Optimizers by name, through timm's factory, with the groups of a model's parts.

One thing differs from timm: its `sgd` is Nesterov's. Here `nesterov` says so, whatever the name; only names
that carry it themselves (`nesterov`, `nlars`, `nmuon`, ...) keep it.
"""

import inspect
from collections.abc import Iterable
from typing import Any

import torch

from gcp.errors import OptionError, UnknownNameError

Groups = Iterable[dict]


def create_optimizer(
    groups: Groups,
    name: str = "sgd",
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> torch.optim.Optimizer:
    """Optimizer over parameter groups; every group remembers its own rate as `base_lr`.

    Args:
        groups: dicts with `params` and, optionally, `name`, `lr`, `weight_decay`.
        name: any name of `timm.optim.list_optimizers()`.
        lr: rate of groups that bring none.
        momentum: for optimizers that have one.
        weight_decay: of groups that bring none.
        nesterov: Nesterov momentum.

    Raises:
        UnknownNameError: no such optimizer.
        OptionError: nothing to train, an optimizer that needs second derivatives or a package that is not
            installed, or `nesterov` where there is none.
    """
    from timm.optim import create_optimizer_v2, get_optimizer_class, list_optimizers

    known = [str(entry) for entry in list_optimizers()]
    if name.lower() not in known:
        raise UnknownNameError("optimizer", name, known)
    groups = [{**group, "params": list(group["params"])} for group in groups]
    if not any(group["params"] for group in groups):
        raise OptionError("nothing to train: every parameter is frozen. Shorten model.freeze.")
    if name.lower() == "adahessian":
        raise OptionError("optimizer 'adahessian' needs second derivatives, which the heads do not have")
    options: dict[str, Any] = {}
    if not name.lower().startswith("n") or nesterov:
        accepts = "nesterov" in inspect.signature(get_optimizer_class(name, bind_defaults=False)).parameters
        if nesterov and not accepts:
            raise OptionError(f"optimizer {name!r} has no Nesterov momentum. Set optim.nesterov=false.")
        if accepts:
            options["nesterov"] = nesterov
    try:
        optimizer = create_optimizer_v2(
            groups, opt=name, lr=lr, momentum=momentum, weight_decay=weight_decay, **options
        )
    except (ImportError, RuntimeError, AssertionError) as error:
        raise OptionError(f"optimizer {name!r} cannot be built here: {error}") from error
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    return optimizer


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the rate of every group to its base rate times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def learning_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Present rate of each named part: a group's name up to its first dot or slash, first group of a part."""
    rates: dict[str, float] = {}
    for index, group in enumerate(optimizer.param_groups):
        part = str(group.get("name", f"group{index}")).replace("/", ".").split(".")[0]
        rates.setdefault(part, float(group["lr"]))
    return rates
