"""How channels pass through layers with weights (which write, read or scale them) and through every other operation.

What is not listed here is not followed: its channels are frozen.
"""

from collections.abc import Callable
from math import lcm, prod
from typing import Any

import torch
from torch import Tensor, nn

from gcp.errors import ShapeError
from gcp.evolve.channel_graph import attention
from gcp.evolve.channel_graph.dimension import AxisLayout, Channels, Dimension, Piece, tie
from gcp.evolve.channel_graph.graph import COLUMNS, ONES, ROWS, TYPICAL, ZEROS, LayerNorm, Tag, TraceRecord


def _written(record: TraceRecord, out: Tensor, axis: int, weight: Tensor, bias: Tensor | None) -> None:
    """Rows of a weight are new channels."""
    name = record.names.get(id(weight))
    computed = None if name else _computed(record)
    layout = Channels((Piece(Dimension(out.shape[axis], record.where, computed)),))
    _vector(record, bias, layout, ZEROS)
    record.tag(out, Tag(layout, axis, frozenset([name] if name else [])))
    if name:
        record.graph.hold(name, 0, layout, ROWS)
        record.made(out, name)
    else:
        record.loose.append(layout.dimensions[0])


def _computed(record: TraceRecord) -> str:
    """Why a weight that is no parameter cannot be edited, and the way out where there is one."""
    reason, module = f"the weight of {record.where} is computed from others", record.calling[-1]
    lists = getattr(module, "parametrizations", None)
    if not isinstance(lists, nn.ModuleDict):
        return reason
    kinds = ", ".join(type(each).__name__ for parametrized in lists.values() for each in parametrized.children())
    return f"{reason} ({kinds}): torch.nn.utils.parametrize.remove_parametrizations makes it a parameter again"


def _read(record: TraceRecord, x: Tensor, axis: int, weight: Tensor) -> None:
    """Columns of a weight read channels."""
    tag, name = record.tag_of(x), record.names.get(id(weight))
    if tag is None:
        return
    if name is None or tag.axis != axis:
        tag.layout.freeze(_computed(record) if name is None else f"the weight of {record.where} lies across them")
    else:
        record.graph.hold(name, 1, tag.layout, COLUMNS)
        if tag.normed:
            record.graph.behind_norm.add(name)


def _vector(record: TraceRecord, tensor: Tensor | None, layout: AxisLayout, role: str) -> None:
    if tensor is None:
        return
    if len(tensor) != layout.size:
        raise ShapeError(f"a tensor of {record.where} has {len(tensor)} entries for {layout.size} channels")
    name = record.names.get(id(tensor))
    if name is None:
        layout.freeze(f"a tensor of {record.where} is computed from others")
    else:
        record.graph.hold(name, 0, layout, role)


def _linear(record: TraceRecord, out: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
    _read(record, input, input.ndim - 1, weight)
    _written(record, out, out.ndim - 1, weight, bias)


def _conv(
    record: TraceRecord,
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
    assert tag is not None
    record.bend(tag, "a convolution of groups")
    passed = layout.repeated(wrote // read)
    record.graph.hold(name, 0, passed, ROWS)
    _vector(record, bias, passed, ZEROS)
    record.graph.count(record.where, "groups", layout, lambda size: size // read)
    record.tag(out, Tag(passed, 1))


def _batch_norm(
    record: TraceRecord,
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
    record.tag(out, tag._replace(writers=frozenset()))
    record.bend(tag, "batch norm")
    if tag.axis != 1:
        tag.layout.freeze(f"batch norm in {record.where} lies across it")
        return
    for tensor, role in ((running_mean, ZEROS), (running_var, TYPICAL), (weight, ONES), (bias, ZEROS)):
        _vector(record, tensor, tag.layout, role)
    record.normalised(input, out, running_mean)


def _layer_norm(
    record: TraceRecord,
    out: Tensor,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> None:
    tag, where = record.tag_of(input), record.where
    if tag is None:
        return
    layout, scale, shift = tag.layout, *(record.names.get(id(tensor)) for tensor in (weight, bias))
    alone = isinstance(layout, Channels) and len(layout.pieces) == 1 and layout.pieces[0].repeat == 1
    record.tag(out, tag._replace(writers=frozenset(), normed=True))
    if tag.axis != input.ndim - 1 or len(normalized_shape) != 1 or not alone:
        layout.freeze(f"layer norm in {where} has other axes than these channels alone")
    elif scale is None or (bias is not None and shift is None) or tag.normed:
        what = "comes behind another one" if tag.normed else "has no weight of its own to make up for other channels"
        layout.freeze(f"layer norm in {where} {what}")
    else:
        assert isinstance(layout, Channels)
        _vector(record, weight, layout, ONES)
        _vector(record, bias, layout, ZEROS)
        record.graph.layer_norms.append(LayerNorm(layout, scale, shift))
        module, name = record.calling[-1], record.modules[-1]
        start = vars(module).get("eps_start", (eps, layout.size))
        if hasattr(module, "normalized_shape"):
            record.graph.count(name, "normalized_shape", layout, lambda size: (size,))
        if getattr(module, "eps", None) == eps:  # of the variance times the channels, however many edits there were
            record.graph.count(name, "eps_start", layout, lambda size: start)
            record.graph.count(name, "eps", layout, lambda size: start[0] * start[1] / size)


LAYERS: dict[str, Callable[..., None]] = {
    "linear": _linear,
    "conv1d": _conv,
    "conv2d": _conv,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
}


# Channel by channel, and finite everywhere: a new channel that nobody reads must not become inf or NaN.
ACTIVATIONS = """relu relu6 leaky_relu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh sigmoid tanh softplus
    softsign logsigmoid threshold abs neg square clamp clip dropout dropout2d alpha_dropout feature_dropout"""
MAPS = """max_pool1d avg_pool1d adaptive_avg_pool1d adaptive_max_pool1d max_pool2d avg_pool2d lp_pool2d
    adaptive_avg_pool2d adaptive_max_pool2d interpolate pad"""
COPIES = "contiguous to float double half bfloat16 type_as type clone detach requires_grad"
KEEP = frozenset(f"{ACTIVATIONS} {MAPS} {COPIES}".split())
LINEAR = frozenset(f"{COPIES} dropout neg".split())  # with the mean of channels as with a channel
SUM, PRODUCT = frozenset({"add", "iadd", "radd", "sub"}), frozenset({"mul", "multiply", "imul", "rmul"})
JOIN = frozenset({"add", "sub", "mul", "multiply", "subtract", "maximum", "minimum"})
JOIN |= {f"{side}{name}" for side in "ir" for name in ("add", "sub", "mul")}
DIVIDE = frozenset({"div", "truediv", "idiv", "itruediv", "divide"})
RESHAPE = frozenset({"flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten", "view_as", "reshape_as"})
MOVE = frozenset({"permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims", "mean", "sum", "amax"})
CONCATENATE = frozenset({"cat", "concat", "concatenate"})
PRIMES = (2, 3, 5, 7, 11, 13)


def follow(
    record: TraceRecord, name: str, call: Callable[..., Any], args: tuple, kwargs: dict, inputs: list, out: Any
) -> None:
    """Tag what a call gave by the tags of what it was given.

    `inputs` are (tensor, tag or None, shape) of every tensor among `args` and `kwargs`, as they were before the call.
    """
    if any(record.split_of(tensor) for tensor, _, _ in inputs):
        attention.follow(record, name, call, args, kwargs, inputs, out)
        return
    if name in LAYERS:
        LAYERS[name](record, out, *args, **kwargs)
        return
    if name == "expand":
        record.expanded(args[0], out)
    tagged = [(tag, shape) for _, tag, shape in inputs if tag is not None]
    if not tagged:
        return
    if name in JOIN and isinstance(out, Tensor):
        _join(record, name, out, inputs)
        return
    if name in CONCATENATE:
        record.tag(out, _concatenate(record, inputs, *args, **kwargs))
        return
    tag, shape = tagged[0]
    found: Tag | None = None
    if isinstance(out, Tensor) and len(tagged) == 1:
        kept = name in KEEP or (name in DIVIDE and len(inputs) == 1)  # by a number
        if kept and out.ndim == len(shape) and out.shape[tag.axis] == shape[tag.axis]:
            found = tag
            if name not in LINEAR and name not in DIVIDE:
                record.bend(tag, name)
                found = tag._replace(writers=frozenset(), normed=False)
        elif name == "getitem":
            found = _taken(tag, shape, call, args)
        elif name in RESHAPE:
            found = _reshaped(tag, shape, tuple(out.shape))
            if found is None and attention.divide(record, name, tag, shape, out):
                return
        elif name in MOVE:
            found = _moved(tag, shape, call, args, kwargs)
    if found is None:
        for tag, _ in tagged:
            tag.layout.freeze(f"{name} in {record.where} cannot be followed")
    record.tag(out, found)


def _reshaped(tag: Tag, old: tuple[int, ...], new: tuple[int, ...]) -> Tag | None:
    """The channels may swallow what lies behind them, as in flatten."""
    before, size = prod(old[: tag.axis]), old[tag.axis]
    for axis, entries in enumerate(new):
        times = entries // size
        if prod(new[:axis]) == before and times * size == entries and times * prod(new[axis + 1 :]) == prod(
            old[tag.axis + 1 :]
        ):  # fmt: skip
            if times == 1:
                return tag._replace(axis=axis)
            return Tag(tag.layout.repeated(times), axis) if isinstance(tag.layout, Channels) else None
    return None


def _moved(tag: Tag, shape: tuple[int, ...], call: Callable[..., Any], args: tuple, kwargs: dict) -> Tag | None:
    """Where the channel axis comes to lie, by the same call on a tensor whose axes can be told apart."""
    probe = torch.empty(PRIMES[: len(shape)], device="meta")
    rest = {key: value for key, value in kwargs.items() if key != "input"}
    moved = tuple(call(probe, *args[1:], **rest).shape)
    mark = PRIMES[tag.axis]
    return tag._replace(axis=moved.index(mark)) if mark in moved else None


def _taken(tag: Tag, shape: tuple[int, ...], call: Callable[..., Any], args: tuple) -> Tag | None:
    """Some entries of other axes than that of the channels, such as some of the tokens."""
    picks = args[1] if isinstance(args[1], tuple) else (args[1],)
    if any(not isinstance(pick, int | slice | None | type(Ellipsis)) for pick in picks):
        return None
    mark = 1 + max(shape) * 2
    marked = (*shape[: tag.axis], mark, *shape[tag.axis + 1 :])
    left = tuple(call(torch.empty(marked, device="meta"), args[1]).shape)
    return tag._replace(axis=left.index(mark)) if left.count(mark) == 1 else None


def _join(record: TraceRecord, name: str, out: Tensor, inputs: list) -> None:
    """Sums and products, aligned from the right as broadcasting does."""
    found: Tag | None = None
    size = 1
    for _, tag, shape in inputs:
        if tag is None:
            continue
        back = tag.axis - len(shape)
        if found is None:
            found, size = Tag(tag.layout, out.ndim + back), shape[tag.axis]
        elif found.axis != out.ndim + back:
            reason = f"{name} in {record.where} joins different axes"
            tag.layout.freeze(reason)
            found.layout.freeze(reason)
        elif shape[tag.axis] == size:
            tie(found.layout, tag.layout, f"{name} in {record.where} joins channels of different origin")
        else:  # one channel for all of the other's
            alone = found.layout if size == 1 else tag.layout
            alone.freeze(f"{name} in {record.where} spreads it over all channels of another tensor")
            if size == 1:
                found, size = Tag(tag.layout, found.axis), shape[tag.axis]
    assert found is not None
    tags, back = [tag for _, tag, _ in inputs if tag is not None], found.axis - out.ndim
    normed, writers = all(tag.normed for tag in tags), frozenset[str]().union(*(tag.writers for tag in tags))
    if len({tag.normed for tag in tags}) > 1 and name in SUM:
        found.layout.freeze(f"{name} in {record.where} adds what a layer norm gives to what none gives")
    if len(inputs) == 1:
        normed = normed and name in PRODUCT
    elif len(tags) > 1 and name in PRODUCT:
        normed = False
    if name not in SUM and (name not in PRODUCT or len(tags) > 1):
        record.bend(found._replace(normed=False), name)
        writers = frozenset()
    for tensor, tag, shape in inputs:
        if tag is None and -back <= len(shape) and shape[back] != 1:
            known = record.parameter_of(tensor)
            if known is None or (name not in SUM and name not in PRODUCT):
                who = known[0] if known else "a tensor whose channels are not followed"
                found.layout.freeze(f"{name} in {record.where} joins it with {who}")
            elif name in SUM:
                record.graph.hold(known[0], known[1] + back, found.layout, ZEROS)
                normed = False
            else:
                record.graph.hold(known[0], known[1] + back, found.layout, ONES)
                if not tags[0].normed and (not writers or writers & record.graph.scaled.keys()):
                    record.bend(found, f"{name} by {known[0]}")
                record.graph.scaled.update(dict.fromkeys(() if tags[0].normed else writers, known[0]))
    record.tag(out, found._replace(writers=writers, normed=normed))


def _concatenate(record: TraceRecord, inputs: list, tensors: Any, dim: int = 0, **kwargs: Any) -> Tag | None:
    dim = kwargs.get("axis", dim)
    tags = [tag for _, tag, _ in inputs if tag is not None]
    first, ndim = tags[0], len(inputs[0][2])
    layouts, where = [tag.layout for tag in tags], f"cat in {record.where}"
    if all(tag.axis == first.axis for tag in tags):
        loose = [(record.parameter_of(tensor), shape) for tensor, tag, shape in inputs if tag is None]
        if first.axis != dim % ndim and all(known and shape[first.axis] == first.layout.size for known, shape in loose):
            for layout in layouts[1:]:
                tie(first.layout, layout, f"{where} joins channels of different origin")
            for known, _ in loose:
                assert known is not None
                record.graph.hold(known[0], known[1] + first.axis - ndim, first.layout, ZEROS)
            if len({tag.normed for tag in tags}) > 1:
                first.layout.freeze(f"{where} joins what a layer norm gives with what none gives")
            writers = frozenset[str]().union(*(tag.writers for tag in tags))
            return first._replace(writers=writers, normed=first.normed and not loose)
        channels = [layout for layout in layouts if isinstance(layout, Channels)]
        if first.axis == dim % ndim and not loose and len(channels) == len(layouts):
            for tag in tags:
                record.bend(tag, "cat")
            return Tag(Channels(tuple(piece for layout in channels for piece in layout.pieces)), first.axis)
    for layout in layouts:
        layout.freeze(f"{where} joins it with a tensor whose channels are not followed")
    return None
