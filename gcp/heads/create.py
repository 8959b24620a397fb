"""Heads by name."""

from typing import Any, NamedTuple

from gcp.errors import OptionError
from gcp.heads.base import HEADS, MEANS, OUTPUT_SCALES, Head, HeadKind
from gcp.heads.reduction import STARTS, check_reduction, normalise
from gcp.layers.spectral_norm import check_method
from gcp.ops.numerics import check_precision
from gcp.options import build, check_choice, defaults
from gcp.registry import Entry
from gcp.solvers import FORMS, SIDES

COMMON = {"side": "auto", "form": "folded", "precision": None}


def list_heads(pattern: str = "*") -> list[Entry[HeadKind]]:
    """Names that match a shell pattern; each has `.summary` and `.paper`.

    Examples:
        >>> import gcp
        >>> [str(head) for head in gcp.list_heads("*_lyapunov")]
        ['mpa_lyapunov', 'mtp_lyapunov']
        >>> gcp.list_heads("newton_schulz")[0].paper is not None
        True
    """
    return HEADS.list(pattern)


def head_options(name: str) -> dict[str, Any]:
    """The head's own options with their defaults."""
    return defaults(HEADS[name].obj.options)


def _check_size(key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionError(f"{key} is {value!r}; allowed: a whole number >= 1.")


def _common(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The common arguments that the head takes; one that it does not take must be at its default."""
    kind = HEADS[name].obj
    for key, value in given.items():
        if key not in kind.takes and value != COMMON[key]:
            takes = ", ".join(kind.takes) or "none of side, form, precision"
            raise OptionError(f"head {name!r} has no {key!r} (given: {value!r}); it takes {takes}.")
    return {key: value for key, value in given.items() if key in kind.takes}


def check_options(
    name: str,
    dim: int | None = None,
    side: str = "auto",
    form: str = "folded",
    precision: str | None = None,
    reduction: str = "conv",
    spectral_norm: str | None = None,
    mean: str = "none",
    output_scale: str = "published",
    reduction_init: str = "random",
    **options: Any,
) -> None:
    """Check the arguments of `create_head` without building.

    Raises:
        UnknownNameError: no head of that name.
        OptionError: an argument that the head does not take, or a value that is not allowed.
    """
    kind = HEADS[name].obj
    build(kind.options, name, options)
    if dim is not None:
        _check_size("dim", dim)
    check_choice("side", side, SIDES)
    check_choice("form", form, FORMS)
    check_precision(precision)
    check_reduction(reduction)
    if spectral_norm is not None:
        check_method(spectral_norm)
    check_choice("mean", mean, MEANS)
    check_choice("output_scale", output_scale, OUTPUT_SCALES)
    check_choice("reduction_init", reduction_init, STARTS)
    if mean != "none" and not kind.head.takes_mean:
        raise OptionError(f"mean={mean!r} adds nothing to head {name!r}, which is of first order; allowed: 'none'.")
    if reduction_init != "random" and not kind.head.reduces:
        raise OptionError(f"reduction_init={reduction_init!r}: head {name!r} has no reduction; allowed: 'random'.")
    kind.head.check(**kind.fixed, **_common(name, {"side": side, "form": form, "precision": precision}), **options)


class Outputs(NamedTuple):
    """What decides whether heads can take each other's place: class, width without the mean, names of tensors."""

    head: type[Head]
    width: int
    tensors: tuple[str, ...]


def head_outputs(name: str, channels: int, **options: Any) -> Outputs:
    """The outputs of a head behind a reduction to `channels`, with its own options; builds nothing."""
    kind, options = HEADS[name].obj, {**HEADS[name].obj.fixed, **options}
    return Outputs(kind.head, kind.head.features(channels, **options), kind.head.tensors(**options))


def outputs_of(head: Head) -> Outputs:
    """The same of a head that is there."""
    common = ("reduction", "scales", "measured_on")
    names = dict.fromkeys(key.split(".")[0] for key in head.state_dict())
    return Outputs(type(head), head.pooled_features, tuple(name for name in names if name not in common))


def exchange_fault(old: Outputs, new: Outputs) -> str | None:
    """Why one head cannot take the place of another; None where it can.

    Heads that share reduction and outputs differ in their arithmetic only. Tensors that an option asks for can be
    handed on to a head of the same kind.
    """
    if old.width != new.width:
        return f"{new.width} outputs in place of {old.width}"
    if old.head is new.head and old.tensors == new.tensors and not new.head.own_tensors:
        return None
    own = dict.fromkeys([*old.tensors, *new.tensors])
    return f"tensors of its own: {', '.join(own)}" if own else None


def create_head(
    name: str,
    in_channels: int,
    dim: int | None = None,
    side: str = "auto",
    form: str = "folded",
    precision: str | None = None,
    reduction: str = "conv",
    spectral_norm: str | None = None,
    mean: str = "none",
    output_scale: str = "published",
    reduction_init: str = "random",
    **options: Any,
) -> Head:
    """Build a pooling head.

    Args:
        name: one of `list_heads()`.
        in_channels: channels C of the feature map.
        dim: channels after the reduction (1x1 convolution, batch norm, ReLU); None leaves the map as it is.
        side: `channel`, `sample` or `auto`, for heads that take a matrix root.
        form: `folded` or `published`, for heads with a backward rule.
        precision: `float32`, `float64` or None for the head's default.
        reduction: kind of reduction, `conv` or `orthogonal`.
        spectral_norm: method of `gcp.layers.spectral_norm` for the convolution of the reduction, None for none.
        mean: `concat` puts the average of the (reduced) features beside the output, `none` does not.
        output_scale: `published`, or `measured`: a constant by which the output varies over images as much as the
            average of the features that enter the head, so that one learning rate serves all heads.
        reduction_init: start of the reduction, `random` or `pca`: principal directions of the first batches.
        **options: the head's own options (`head_options(name)`).

    What is measured is 1, and the reduction random, until `gcp.initialize_head` has seen the first batches; `gcp.fit`
    and a training run call it.

    Raises:
        UnknownNameError, OptionError: with what is allowed.

    Examples:
        >>> import gcp, torch
        >>> head = gcp.create_head("svd_pade", in_channels=64, dim=16)
        >>> head(torch.randn(2, 64, 7, 7)).shape  # 16 * 17 / 2
        torch.Size([2, 136])
        >>> head.out_features
        136
    """
    beside = {"mean": mean, "output_scale": output_scale, "reduction_init": reduction_init}
    check_options(name, dim, side, form, precision, reduction, spectral_norm, **beside, **options)
    _check_size("in_channels", in_channels)
    if reduction_init != "random" and dim is None:
        raise OptionError(f"reduction_init is {reduction_init!r}, but there is no reduction; set dim, or 'random'.")
    common = _common(name, {"side": side, "form": form, "precision": precision})
    head = HEADS[name].obj.build(in_channels, dim, reduction=reduction, **common, **options)
    if spectral_norm is not None:
        normalise(head.reduction, spectral_norm)
    head.configure(**beside)
    return head
