"""How channels pass through the layers that have weights: these write new channels, read them, or scale them."""

from collections.abc import Callable
from math import lcm
from typing import Any

from torch import Tensor

from gcp.errors import ShapeError
from gcp.evolve.ties.dimension import Dimension
from gcp.evolve.ties.graph import COLUMNS, ONES, ROWS, TYPICAL, ZEROS
from gcp.evolve.ties.layout import Channels, Layout, Piece
from gcp.evolve.ties.record import Record, Tag


def _written(record: Record, out: Tensor, axis: int, weight: Tensor, bias: Tensor | None) -> None:
    """Rows of a weight are new channels."""
    name = record.names.get(id(weight))
    computed = None if name else f"the weight of {record.where} is computed from others"
    layout = Channels((Piece(Dimension(out.shape[axis], record.where, computed)),))
    _vector(record, bias, layout, ZEROS)
    record.tag(out, Tag(layout, axis))
    if name:
        record.graph.hold(name, 0, layout, ROWS)
        record.made(out, name)
    else:
        record.loose.append(layout.dimensions[0])


def _read(record: Record, x: Tensor, axis: int, weight: Tensor) -> None:
    """Columns of a weight read channels."""
    tag, name = record.tag_of(x), record.names.get(id(weight))
    if tag is None:
        return
    if name is None or tag.axis != axis:
        why = "is computed from others" if name is None else "lies across them"
        tag.layout.freeze(f"the weight of {record.where} {why}")
    else:
        record.graph.hold(name, 1, tag.layout, COLUMNS)


def _vector(record: Record, tensor: Tensor | None, layout: Layout, role: str) -> None:
    if tensor is None:
        return
    if len(tensor) != layout.size:
        raise ShapeError(f"a tensor of {record.where} has {len(tensor)} entries for {layout.size} channels")
    name = record.names.get(id(tensor))
    if name is None:
        layout.freeze(f"a tensor of {record.where} is computed from others")
    else:
        record.graph.hold(name, 0, layout, role)


def _linear(record: Record, out: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
    _read(record, input, input.ndim - 1, weight)
    _written(record, out, out.ndim - 1, weight, bias)


def _conv2d(
    record: Record,
    out: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> None:
    if groups == 1:
        _read(record, input, 1, weight)
        _written(record, out, 1, weight, bias)
        return
    tag, name = record.tag_of(input), record.names.get(id(weight))
    read, wrote = input.shape[1] // groups, out.shape[1] // groups
    layout = tag.layout if tag is not None and tag.axis == 1 else None
    whole = isinstance(layout, Channels) and wrote % read == 0 and all(
        piece.size % read == 0 and read % piece.repeat == 0 for piece in layout.pieces
    )  # fmt: skip
    if not whole or name is None or not isinstance(layout, Channels):
        reason = f"the {groups} groups of {record.where} cannot be followed"
        if tag is not None:
            tag.layout.freeze(reason)
        _written(record, out, 1, weight, bias)
        made = record.tag_of(out)
        assert made is not None
        made.layout.freeze(reason)
        return
    for piece in layout.pieces:
        piece.dimension.step = lcm(piece.dimension.step, read // piece.repeat)
    passed = layout.repeated(wrote // read)
    record.graph.hold(name, 0, passed, ROWS)
    _vector(record, bias, passed, ZEROS)
    record.graph.count(record.where, "groups", layout, read)
    record.tag(out, Tag(passed, 1))


def _batch_norm(
    record: Record,
    out: Tensor,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *_: Any,
    **__: Any,
) -> None:
    tag = record.tag_of(input)
    if tag is None:
        return
    record.tag(out, tag)
    if tag.axis != 1:
        tag.layout.freeze(f"batch norm in {record.where} lies across it")
        return
    for tensor, role in ((running_mean, ZEROS), (running_var, TYPICAL), (weight, ONES), (bias, ZEROS)):
        _vector(record, tensor, tag.layout, role)
    record.normalised(input, out, running_mean)


LAYERS: dict[str, Callable[..., None]] = {"linear": _linear, "conv2d": _conv2d, "batch_norm": _batch_norm}
