"""A trained model with its layers as products of thinner ones."""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from gcp.compress.basis import METHODS, basis
from gcp.compress.choose import LayerPlan, count, each, numbers, row_of, still_open, together
from gcp.compress.factored import TuckerConv2d
from gcp.compress.ranks import candidates
from gcp.compress.report import CompressionReport
from gcp.compress.statistics import (
    EVERY,
    Deviation,
    SampleFilter,
    Statistics,
    count_samples,
    fit,
    held,
    output_error,
    stream,
)
from gcp.compress.survey import put_in_place, survey
from gcp.errors import OptionError, UnknownNameError

TARGETS = ("rank", "ratio", "energy", "params", "error")


def decompose(
    model: nn.Module,
    *,
    rank: int | None = None,
    ratio: float | None = None,
    energy: float | None = None,
    params: float | None = None,
    error: float | None = None,
    method: str | None = None,
    data: Iterable[Any] | None = None,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] = (),
    force: bool = False,
) -> tuple[nn.Module, CompressionReport]:
    """A copy of a model with Linear and Conv2d layers factored, and a report. Exactly one target is given.

    Args:
        model: any module on any device; a Linear or Conv2d itself as well. It is not changed.
        rank: of every layer, the layer's greatest where that is less.
        ratio: of every layer, this share of its greatest rank, above 0 to 1.
        energy: of every layer the smallest rank that keeps this share of the squared error's norm, above 0 to 1.
        params: of the whole model, this share of the parameters that it has with every layer dense; the ranks are
            chosen together.
        error: the root of the sum over layers of their squared relative errors, at most; chosen together.
        method: svd, asvd or output_pca (see `gcp.compress.basis`); None is output_pca with data, svd without.
        data: batches of inputs, or of tuples that begin with them, the same at every pass; or one tensor of inputs.
            Every fourth sample is held out: errors are estimated and measured on these.
        include: shell patterns of layer names, None for all.
        exclude: patterns of layers that stay as they are.
        force: also factor a layer where that needs more parameters than it has (rank, ratio, energy).

    Returns:
        The model, whose layers keep dtype, device, mode, `requires_grad` and shared use, and the CompressionReport.

    Raises:
        OptionError: no or two targets, a value outside its range, a budget that cannot be met, data of another kind.
        UnknownNameError: method, or a pattern that no layer fits.
        NonFiniteError: weights or activations with inf or NaN.
        DataError: no batch in the data.
    """
    target, value = _target({"rank": rank, "ratio": ratio, "energy": energy, "params": params, "error": error})
    method = _method(method, data)
    unseen = held if data is not None and count_samples(data) >= EVERY else fit
    dense, model = model, _copy(model)
    parameters = count(model, dense=True)
    include = [include] if isinstance(include, str) else include
    layers = survey(model, include, [exclude] if isinstance(exclude, str) else exclude)
    plans = [
        LayerPlan(layer, row_of(layer), Statistics(layer.module, method), Statistics(layer.module, method))
        for layer in layers
    ]
    _observe(model, plans, data, unseen)
    for plan in still_open(plans):
        plan.basis = basis(plan.layer.module, method, plan.statistics, plan.unseen)
        plan.choices = candidates(plan.basis)
    gap = 0.0
    if target in ("params", "error"):
        gap = together(plans, target, value, count(model), parameters)
    else:
        each(plans, target, value, force)
    _measure(model, plans, method, data, unseen)
    for plan in plans:
        _account(plan, data is not None)
        if plan.new is not None:
            if plan.layer.names == [""]:
                model = plan.new
            else:
                put_in_place(model, plan.layer.names, plan.new)
    error = None if data is None else output_error(dense, model, data, unseen)
    return model, CompressionReport(method, [plan.row for plan in plans], parameters, count(model), error, gap)


def _copy(model: nn.Module) -> nn.Module:
    """A copy whose parameters keep their marks (no_weight_decay), which a deep copy of a parameter loses."""
    copy = deepcopy(model)
    for old, new in zip(model.parameters(), copy.parameters(), strict=True):
        new.__dict__.update(old.__dict__)
    return copy


def _target(targets: dict[str, float | None]) -> tuple[str, float]:
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) != 1:
        got = " and ".join(f"{name}={value!r}" for name, value in given.items()) or "none"
        raise OptionError(f"one target is needed of {', '.join(TARGETS)}; got {got}")
    ((name, value),) = given.items()
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name == "rank" and not (number and isinstance(value, int) and value >= 1):
        raise OptionError(f"rank must be a whole number >= 1, got {value!r}")
    if name == "error" and not (number and value >= 0):
        raise OptionError(f"error must be a number >= 0, got {value!r}")
    if name in ("ratio", "energy", "params") and not (number and 0 < value <= 1):
        raise OptionError(f"{name} must be a number above 0, at most 1, got {value!r}")
    return name, value


def _method(method: str | None, data: Any) -> str:
    method = method or ("svd" if data is None else "output_pca")
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    if data is None and method != "svd":
        raise OptionError(f"method {method!r} needs calibration data: give data, or method='svd'")
    return method


def _observe(model: nn.Module, plans: list[LayerPlan], data: Iterable[Any] | None, unseen: SampleFilter) -> None:
    if data is None:
        return
    stream(model, data, {plan.layer.module: plan.statistics.add for plan in still_open(plans)}, fit)
    stream(model, data, {plan.layer.module: plan.unseen.add for plan in still_open(plans)}, unseen)
    for plan in still_open(plans):
        if not plan.statistics.written:
            plan.row.reason = "the data do not reach it: it is never called"


@torch.no_grad()
def _measure(
    model: nn.Module, plans: list[LayerPlan], method: str, data: Iterable[Any] | None, unseen: SampleFilter
) -> None:
    """Compare every layer with its factored form; `output_pca` puts the mean difference into the bias."""
    done = [plan for plan in plans if plan.new is not None]
    if data is None:
        for plan in done:
            assert plan.new is not None
            plan.row.measured = _weight_error(plan.layer.module.weight, plan.new.weight)
        return
    if method == "output_pca":
        for plan, deviation in _deviations(model, done, data, fit):
            if plan.new is not None and plan.new.bias is not None:
                plan.new.bias.add_(deviation.mean.to(plan.new.bias))
    for plan, deviation in _deviations(model, done, data, unseen):
        plan.row.measured = deviation.relative


def _deviations(
    model: nn.Module, plans: list[LayerPlan], data: Iterable[Any], part: SampleFilter
) -> list[tuple[LayerPlan, Deviation]]:
    pairs = [(plan, Deviation(plan.layer.module, plan.new)) for plan in plans if plan.new is not None]
    stream(model, data, {plan.layer.module: deviation.add for plan, deviation in pairs}, part)
    return pairs


def _weight_error(old: Tensor, new: Tensor) -> float:
    precise = torch.promote_types(old.dtype, torch.float32)
    norm = torch.linalg.vector_norm(old.to(precise)).item()
    return torch.linalg.vector_norm(new.to(precise).sub(old)).item() / norm if norm else 0.0


def _account(plan: LayerPlan, data: bool) -> None:
    """Parameters and FLOPs of a layer before and after."""
    row, new, seen = plan.row, plan.new, plan.statistics
    if new is not None:
        row.parameters_after = numbers(new)
    read, written = (seen.read / seen.samples, seen.written / seen.samples) if data and seen.samples else (1.0, 1.0)
    row.seen = seen.written if data else None
    row.flops = row.flops_after = round(2 * row.m * row.n * written)
    if new is not None:
        weights = [factor.weight.numel() for _, factor in new.factors()]
        at_input = weights.pop(0) if isinstance(new, TuckerConv2d) else 0
        row.flops_after = round(2 * (at_input * read + sum(weights) * written))
