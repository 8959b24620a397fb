"""Optimizers by name, through timm's factory, and learning-rate schedules as pure functions of the optimizer step.

One thing differs from timm: its `sgd` is Nesterov's. Here `nesterov` says so, whatever the name; only names
that carry it themselves (`nesterov`, `nlars`, `nmuon`, ...) keep it.

    learning rate of a group at step t  =  its base rate * learning_rate_factor(name, t, total, ...)

Nothing is stored between steps, so a resumed run has the right rate without any state.


    constant    1
    step        gamma ** floor(t / every)
    multistep   gamma ** (number of milestones <= t)
    cosine      min + (1 - min) (1 + cos(pi u)) / 2,  u = (t - warmup) / (total - warmup)
                (Loshchilov and Hutter, SGDR, ICLR 2017, one period)
    onecycle    cosine from 1/25 up to 1 over the first 30 % of the run, then cosine down to 4e-6 at its last step
                (Smith and Topin, Super-Convergence, 2019; the curve is that of
                `torch.optim.lr_scheduler.OneCycleLR`; the momentum is not cycled)

Warm-up multiplies the first `warmup` steps by (t + 1) / (warmup + 1).
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from gcp.errors import OptionError, UnknownNameError, suggest

Groups = Iterable[dict]


def create_optimizer(
    groups: Groups,
    name: str = "sgd",
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    betas: Sequence[float] | None = None,
    eps: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> torch.optim.Optimizer:
    """Optimizer over parameter groups; every group remembers its own rate as `base_lr`.

    Args:
        groups: dicts with `params` and, optionally, `name`, `lr`, `weight_decay`.
        name: any name of `timm.optim.list_optimizers()`.
        lr: rate of groups that bring none.
        momentum: for optimizers that have one.
        weight_decay: of groups that bring none.
        nesterov: Nesterov momentum.
        betas: of optimizers of the kind of Adam; None is their own choice.
        eps: added to the denominator; None is their own choice.
        options: further arguments of the optimizer.

    Raises:
        UnknownNameError: no such optimizer.
        OptionError: nothing to train, an optimizer that needs second derivatives or a package that is not
            installed, or something that it has no argument for.
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
    given = {"betas": None if betas is None else tuple(betas), "eps": eps, **(options or {})}
    arguments: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if strange := [key for key in arguments if key not in optimizer_options(name)]:
        raise OptionError(
            f"optimizer {name!r} has no option {strange[0]!r}; allowed: {', '.join(optimizer_options(name))}."
            f"{suggest(strange[0], optimizer_options(name))}"
        )
    if not name.lower().startswith("n") or nesterov:
        accepts = "nesterov" in inspect.signature(get_optimizer_class(name, bind_defaults=False)).parameters
        if nesterov and not accepts:
            raise OptionError(f"optimizer {name!r} has no Nesterov momentum. Set optim.nesterov=false.")
        if accepts:
            arguments["nesterov"] = nesterov
    try:
        optimizer = create_optimizer_v2(
            groups, opt=name, lr=lr, momentum=momentum, weight_decay=weight_decay, **arguments
        )
    except (ImportError, RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise OptionError(f"optimizer {name!r} cannot be built here: {error}") from error
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    return optimizer


OWN_KEYS = ("params", "lr", "weight_decay", "momentum", "nesterov", "self", "kwargs", "args")


def optimizer_options(name: str) -> list[str]:
    """The arguments of an optimizer of timm that are no keys of their own in a configuration, betas and eps included.

    Raises UnknownNameError.
    """
    from timm.optim import get_optimizer_class, list_optimizers

    if name.lower() not in list_optimizers():
        raise UnknownNameError("optimizer", name, list(map(str, list_optimizers())))
    taken = inspect.signature(get_optimizer_class(name, bind_defaults=False)).parameters
    return [key for key in taken if key not in OWN_KEYS]


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


RISE = 0.3  # share of a one-cycle run in which the rate rises
START = 1 / 25  # one-cycle: rate at the first step over the peak
END = START / 1e4  # one-cycle: rate at the last step over the peak


def _cosine(start: float, end: float, u: float) -> float:
    """Half a cosine from `start` at u = 0 to `end` at u = 1, constant beyond."""
    return end + (start - end) * (1 + math.cos(math.pi * min(max(u, 0.0), 1.0))) / 2


def _constant(step: int, **_: object) -> float:
    return 1.0


def _step(step: int, *, every: int, gamma: float, **_: object) -> float:
    if every < 1:
        raise OptionError(f"schedule 'step' needs every >= 1 step, got {every}. Give schedule.every.")
    return gamma ** (step // every)


def _multistep(step: int, *, milestones: Sequence[int], gamma: float, **_: object) -> float:
    return gamma ** sum(step >= milestone for milestone in milestones)


def _cosine_schedule(step: int, *, total: int, warmup: int, min_factor: float, **_: object) -> float:
    return _cosine(1.0, min_factor, (step - warmup) / max(1, total - warmup))


def _onecycle(step: int, *, total: int, **_: object) -> float:
    peak, last = RISE * total - 1, total - 1
    if step <= peak:
        return _cosine(START, 1.0, step / peak)
    return _cosine(1.0, END, (step - peak) / (last - peak))


SCHEDULES: dict[str, Callable[..., float]] = {
    "constant": _constant,
    "step": _step,
    "multistep": _multistep,
    "cosine": _cosine_schedule,
    "onecycle": _onecycle,
}


def learning_rate_factor(
    name: str,
    step: int,
    total: int,
    warmup: int = 0,
    milestones: Sequence[int] = (),
    every: int = 0,
    gamma: float = 0.1,
    min_factor: float = 0.0,
) -> float:
    """Factor on every base learning rate at an optimizer step.

    Args:
        name: constant, step, multistep, cosine or onecycle.
        step: optimizer steps already made (0 at the first).
        total: optimizer steps of the whole run.
        warmup: steps of linear warm-up.
        milestones: steps after which `multistep` multiplies by `gamma` once more.
        every: steps between two decays of `step`.
        gamma: factor of one decay of `step` and `multistep`.
        min_factor: smallest factor; holds after the warm-up.

    Raises:
        UnknownNameError: no schedule of that name.
        OptionError: `step` without `every`.
    """
    if name not in SCHEDULES:
        raise UnknownNameError("schedule", name, SCHEDULES)
    factor = SCHEDULES[name](
        step,
        total=total,
        warmup=warmup,
        milestones=milestones,
        every=every,
        gamma=gamma,
        min_factor=min_factor,
    )
    rise = min(1.0, (step + 1) / (warmup + 1))
    return max(factor, min_factor) * rise
