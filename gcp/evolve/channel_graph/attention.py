"""How channels pass through attention: out = softmax(q k^T / sqrt(width)) v for each head.

A linear layer writes queries, keys and values, (B, N, copies * heads * width), which a reshape divides: the number of
heads and the channels of a head (its width) are dimensions of their own. They are followed through moved axes, the
scores, and back into (B, N, heads * width), whether the attention is one call (`scaled_dot_product_attention`) or two
products with a softmax in between. Queries and keys of a head have one width; that of values is another where another
layer writes them. An operation that is not listed here freezes both.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

from gcp.evolve.channel_graph.dimension import Channels, Dimension, Heads, Piece
from gcp.evolve.channel_graph.graph import ROWS, Attention, Graph, HeadSplit, ProjectionPart, Tag, TraceRecord

# How modules call their numbers; the value has to be right as well.
NUMBERS = ("num_heads", "n_heads", "heads", "nhead", "num_attention_heads")
WIDTHS = ("head_dim", "dim_head", "head_size", "attention_head_size")
TOTALS = ("attn_dim", "inner_dim", "all_head_size")
SCALES = ("scale", "scaling", "softmax_scale")

COPIES = frozenset({"contiguous", "to", "float", "double", "half", "bfloat16", "type_as", "type", "clone", "detach"})
MOVES = frozenset({"permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims"})
TIMES = frozenset({"mul", "imul", "rmul", "multiply", "div", "truediv", "idiv", "itruediv", "divide"})
MERGES = frozenset({"flatten", "view", "reshape", "view_as", "reshape_as"})
ADDS = frozenset({"add", "iadd", "radd"})


def divide(record: TraceRecord, name: str, tag: Tag, old: tuple[int, ...], out: Tensor) -> bool:
    """Whether a reshape divides channels into heads; notes them if it does."""
    found = _factors(tag.axis, old, tuple(out.shape))
    layout = tag.layout
    if found is None or not isinstance(layout, Channels) or len(layout.pieces) != 1 or layout.pieces[0].repeat != 1:
        return False
    axis, copies, number, width = found
    whole = layout.pieces[0].dimension
    heads = whole.parts
    if heads is None:
        touching = [each.layout for each in record.graph.touching(whole)]
        if any(each != layout and not _is(each, whole) for each in touching):
            return False
        one, other = (Piece(Dimension(size, record.where)) for size in (number, width))
        heads = Heads(copies, one, other, f"{name} in {record.where}")
        heads.number.of.of_heads = True
        record.graph.divide(whole, heads)
        record.divided.append(heads)
    elif heads.shape != (copies, number, width):
        return False
    axes = (axis, axis + 1, axis + 2) if copies > 1 else (None, axis, axis + 1)
    record.split(out, HeadSplit(heads, None if copies > 1 else 0, axes))
    return True


def _is(layout: Any, dimension: Dimension) -> bool:
    """Whether a layout has this dimension alone, once."""
    pieces = layout.pieces if isinstance(layout, Channels) else ()
    return len(pieces) == 1 and pieces[0].dimension is dimension and pieces[0].repeat == 1


def _factors(axis: int, old: tuple[int, ...], new: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """(first axis, copies, heads, width) where two or three axes of a new shape are one of the old."""
    before, size, behind = prod(old[:axis]), old[axis], prod(old[axis + 1 :])
    for first in reversed(range(len(new))):
        for count in (3, 2):
            inside = new[first : first + count]
            around = (prod(new[:first]), prod(new[first + count :]))
            if len(inside) == count and prod(inside) == size and around == (before, behind):
                return first, inside[0] if count == 3 else 1, inside[-2], inside[-1]
    return None


def follow(
    record: TraceRecord, name: str, call: Callable[..., Any], args: tuple, kwargs: dict, inputs: list, out: Any
) -> None:
    """Note the heads of what a call gave, one of whose inputs has heads; freeze them where they are not followed."""
    splits = [record.split_of(tensor) for tensor, _, _ in inputs]
    known = [split for split in splits if split is not None]
    done = False
    if name == "scaled_dot_product_attention":
        done = _whole(record, args, kwargs, out)
    elif name == "matmul" and len(inputs) == 2:
        done = _product(record, inputs, out)
    elif len(known) == 1:
        place = splits.index(known[0])
        found = _passed(record, name, call, args, kwargs, inputs, place, known[0], out)
        if isinstance(found, Tag):
            record.tag(out, found)
        elif found is not None and not isinstance(out, tuple | list):
            record.split(out, found)
        done = found is not None
    if not done:
        reason = f"{name} in {record.where} cannot be followed"
        for (tensor, _, _), split in zip(inputs, splits, strict=True):
            divided = f"{split.layout.made_by} divides it, and " if split is not None and split.layout.made_by else ""
            for tag in record.axes_of(tensor):
                tag.layout.freeze(divided + reason)


def _passed(
    record: TraceRecord,
    name: str,
    call: Callable[..., Any],
    args: tuple,
    kwargs: dict,
    inputs: list,
    place: int,
    split: HeadSplit,
    out: Any,
) -> HeadSplit | Tag | None:
    shape = inputs[place][2]
    alone, same = len(inputs) == 1, getattr(out, "shape", None) == shape
    if same and (name in COPIES or (name in TIMES and alone)):
        return split
    if split.scores is not None and same:
        if name == "dropout":
            return split
        if name == "softmax":
            axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
            return split if isinstance(axis, int) and axis % len(shape) == len(shape) - 1 else None
        if name in ADDS:
            _masked(record, split, inputs[1 - place][2])
            return split
    if name in MOVES and alone:
        return split._replace(axes=tuple(_moved(split.axes, len(shape), call, args, kwargs)))  # type: ignore[arg-type]
    if name in MERGES and alone and split.scores is not None:
        return _regrouped(split, shape, tuple(out.shape))
    if name in MERGES and alone:
        return _merged(split, shape, tuple(out.shape))
    if name in ("unbind", "getitem") and split.copy is None:
        return _taken(record, name, args, kwargs, split, out)
    return None


def _moved(axes: tuple[int | None, ...], ndim: int, call: Callable[..., Any], args: tuple, kwargs: dict) -> list:
    rest = {key: value for key, value in kwargs.items() if key != "input"}
    moved = tuple(call(torch.empty(tuple(range(2, ndim + 2)), device="meta"), *args[1:], **rest).shape)
    return [None if axis is None else moved.index(axis + 2) for axis in axes]


def _merged(split: HeadSplit, old: tuple[int, ...], new: tuple[int, ...]) -> Tag | None:
    """Heads and their channels side by side again."""
    _, number, width = split.axes
    if split.copy is None or width is None or width != number + 1:
        return None
    size, before, behind = old[number] * old[width], prod(old[:number]), prod(old[width + 1 :])
    for axis, entries in enumerate(new):
        if entries == size and prod(new[:axis]) == before and prod(new[axis + 1 :]) == behind:
            one = Heads(1, split.layout.number, split.layout.width) if split.layout.copies > 1 else split.layout
            return Tag(one, axis)
    return None


def _regrouped(split: HeadSplit, old: tuple[int, ...], new: tuple[int, ...]) -> HeadSplit | None:
    """Scores whose batch is divided, as into windows."""
    number = split.axes[1]
    for axis, entries in enumerate(new):
        if entries == old[number] and prod(new[axis + 1 :]) == prod(old[number + 1 :]):
            return split._replace(axes=(None, axis, None))
    return None


def _taken(record: TraceRecord, name: str, args: tuple, kwargs: dict, split: HeadSplit, out: Any) -> HeadSplit | None:
    """One of the copies, or each of them."""
    copies = split.axes[0]
    assert copies is not None
    axes = tuple(None if axis is None else axis - (axis > copies) for axis in (None, *split.axes[1:]))
    if name == "getitem":
        return split._replace(copy=args[1], axes=axes) if isinstance(args[1], int) and copies == 0 else None  # type: ignore[arg-type]
    ndim = out[0].ndim + 1
    if kwargs.get("dim", args[1] if len(args) > 1 else 0) % ndim != copies:
        return None
    for copy, part in enumerate(out):
        record.split(part, split._replace(copy=copy, axes=axes))  # type: ignore[arg-type]
    return split


def _whole(record: TraceRecord, args: tuple, kwargs: dict, out: Tensor) -> bool:
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale")
    given = dict(zip(names, args, strict=False)) | kwargs
    q, k, v = (record.split_of(given[name]) for name in names[:3])
    ndim = out.ndim
    if q is None or k is None or v is None or any(not _placed(each, ndim, ndim - 1) for each in (q, k, v)):
        return False
    if given["query"].shape[-3] != given["key"].shape[-3]:  # of several groups
        return False
    scores = _scored(record, q, k, given.get("scale") is None)
    if (mask := given.get("attn_mask")) is not None:
        _masked(record, scores, tuple(mask.shape))
    record.split(out, _read(record, scores, v))
    return True


def _placed(split: HeadSplit, ndim: int, width: int) -> bool:
    """Whether the heads are the third axis from the end, as torch takes them, and their channels at `width`."""
    return split.copy is not None and split.axes[1:] == (ndim - 3, width) and split.scores is None


def _product(record: TraceRecord, inputs: list, out: Tensor) -> bool:
    """Queries by keys, or scores by values."""
    (a, b), ndim = (record.split_of(tensor) for tensor, _, _ in inputs), out.ndim
    if b is None or any(len(shape) != ndim for _, _, shape in inputs):
        return False
    if a is None:  # scores that were not followed
        if not _placed(b, ndim, ndim - 1):
            return False
        b.layout.freeze(f"the scores of {record.where} cannot be followed")
        return True
    if a.scores is not None and _placed(b, ndim, ndim - 1):
        record.split(out, _read(record, a, b))
        return True
    if _placed(a, ndim, ndim - 1) and _placed(b, ndim, ndim - 2):
        record.split(out, _scored(record, a, b, False))
        return True
    return False


def _scored(record: TraceRecord, q: HeadSplit, k: HeadSplit, scaled: bool) -> HeadSplit:
    """Note an attention by its queries and keys."""
    q.layout.number.dimension.unite(k.layout.number.dimension)
    q.layout.width.dimension.unite(k.layout.width.dimension)
    assert q.copy is not None and k.copy is not None
    module, width = record.calling[-1] if record.calling else None, q.layout.width
    known = vars(module) if module is not None else {}
    for name in SCALES:
        value = known.get(name)
        if isinstance(value, float) and abs(value * width.size**0.5 - 1) < 1e-12:
            record.graph.count(record.modules[-1], name, Channels((width,)), lambda size: size**-0.5)
            scaled = True
    attention = Attention(record.where, ProjectionPart(q.layout, q.copy), ProjectionPart(k.layout, k.copy), scaled)
    record.graph.attentions.append(attention)
    return HeadSplit(q.layout, 0, (None, q.axes[1], None), attention)


def _masked(record: TraceRecord, scores: HeadSplit, shape: tuple[int, ...]) -> None:
    """A bias of the scores may have an entry for each head."""
    if len(shape) >= 3 and shape[-3] != 1:
        assert scores.scores is not None
        scores.layout.number.dimension.freeze(f"{scores.scores.module} adds a number for each head to its scores")


def _read(record: TraceRecord, scores: HeadSplit, v: HeadSplit) -> HeadSplit:
    """The values by their scores, and what the module says of itself."""
    attention = scores.scores
    assert attention is not None and v.copy is not None
    scores.layout.number.dimension.unite(v.layout.number.dimension)
    attention.value = ProjectionPart(v.layout, v.copy)
    out = Heads(1, v.layout.number, v.layout.width)
    attention.out = out
    module = record.calling[-1] if record.calling else None
    known, where = (vars(module), record.modules[-1]) if module is not None else ({}, "")
    layouts = ((NUMBERS, Channels((out.number,))), (WIDTHS, Channels((out.width,))), (TOTALS, out))
    for names, layout in layouts:
        for name in names:
            if known.get(name) == layout.size:
                record.graph.count(where, name, layout)
    return HeadSplit(out, 0, (None, v.axes[1], v.axes[2]))


def check(graph: Graph, divided: list[Heads]) -> None:
    """Name the dimensions of attentions; freeze those whose queries, keys or values no layer of their own writes, and
    what is divided outside of them.
    """
    parts = [part for each in graph.attentions for part in (each.query, each.key, each.value) if part is not None]
    for heads in divided:
        if not any(part.layout is heads for part in parts):
            heads.freeze(f"{heads.made_by} divides it outside of an attention")
    for attention in graph.attentions:
        prefix = f"{attention.module}." if attention.module != "the model" else ""
        number, width = attention.query.layout.number.dimension, attention.query.layout.width.dimension
        number.label, width.label = f"{prefix}num_heads", f"{prefix}head_dim"
        if attention.value is None:
            attention.query.layout.freeze(f"what {attention.module} does with its scores cannot be followed")
            continue
        for part in (attention.query, attention.key, attention.value):
            writers = [axis for axis in graph.written_by(part.layout) if axis.role == ROWS]
            if len(writers) != 1 or parts.count(part) != 1:
                part.layout.freeze(f"no layer of their own writes queries, keys and values of {attention.module}")
        values = attention.value.layout.width.dimension
        if values is not width:
            values.label = f"{prefix}value_dim"
