"""The channel graph of a model, by calling it once on the meta device, where shapes are computed and nothing else.

Every function of torch that the call comes to is seen with its arguments (`TorchFunctionMode`), whatever control flow
lies between them: shape checks, loops, branches by attributes. Symbolic tracing (`torch.fx`) stops at the first of
them. What is found holds for the path that was taken, which for these networks does not depend on values.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from gcp.compress import Factored
from gcp.errors import GCPError, OptionError
from gcp.evolve.channel_graph import attention
from gcp.evolve.channel_graph.dimension import AxisLayout, Channels, Dimension, Piece, Triangle
from gcp.evolve.channel_graph.graph import Tag, TraceRecord
from gcp.evolve.channel_graph.operations import DIVIDE, JOIN, follow
from gcp.evolve.parametrized import freeze_scaled, is_bounded, plain_weights
from gcp.heads.average import FirstOrder
from gcp.heads.base import Head, RootHead
from gcp.heads.covariance import Covariance
from gcp.kernels.triangle import triangle_size

INPUTS, OUTPUTS = ("in_channels", "in_features"), ("out_channels", "out_features", "num_features", "channels")
HOOKS = ("_forward_pre_hooks", "_forward_hooks")
# Reads of sizes (`get` is an attribute, such as shape), writes into a part, and functions that take numbers.
SIZES = frozenset(["get", "size", "numel", "nelement"])
WRITES = frozenset(["setitem", "put", "index_put", "index_fill", "index_copy", "index_add", "masked_fill"])
WRITES |= frozenset(["masked_scatter", "scatter", "scatter_add"])
NUMERIC = (
    JOIN | DIVIDE | frozenset(["pow", "rpow", "rtruediv", "rdiv", "rsub", "clamp", "threshold", "lerp", "addcmul"])
)
NUMERIC |= frozenset(["addcmul", "addcdiv", "tensor", "as_tensor", "scalar_tensor", "new_tensor", "full_like", "fill"])
BATCH = 2  # of more than one, an axis of a batch is not taken for one of a single channel


class Width(int):
    """A size read off a tensor; its dimensions are frozen as soon as it is used as a number, not as a size.

    Sums, products, whole quotients and remainders of sizes are sizes again. A power, a quotient, a float, or an operand
    of a tensor would change with the width, and the outputs with it.
    """

    layout: AxisLayout
    where: str

    @classmethod
    def of(cls, value: int, layout: AxisLayout, where: str) -> "Width":
        made = cls(value)
        made.layout, made.where = layout, where
        return made

    def freeze(self) -> None:
        """Its dimensions stay as they are."""
        self.layout.freeze(f"{self.where} computes with it as a number")

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (int(self),)


def _as_size(name: str) -> Callable[[Width, Any], Any]:
    def operation(self: Width, other: Any) -> Any:
        value = getattr(int, name)(self, other)
        if isinstance(other, float):  # which float then answers
            self.freeze()
        return Width.of(value, self.layout, self.where) if type(value) is int else value

    return operation


def _as_number(name: str) -> Callable[..., Any]:
    def operation(self: Width, *others: Any) -> Any:
        self.freeze()
        return getattr(int, name)(self, *others)

    return operation


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "floordiv", "rfloordiv", "mod", "rmod"):
    setattr(Width, f"__{_name}__", _as_size(f"__{_name}__"))
for _name in ("pow", "rpow", "truediv", "rtruediv", "float"):
    setattr(Width, f"__{_name}__", _as_number(f"__{_name}__"))


class _Watch(TorchFunctionMode):
    """Passes every call on to `follow`, but for those that a head's own checks make."""

    def __init__(self, record: TraceRecord, silent: set[str]):
        super().__init__()
        self.record, self.silent = record, silent

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        record = self.record
        tensors = [t for t in _leaves([*args, *kwargs.values()]) if isinstance(t, Tensor)]
        inputs = [(tensor, record.tag_of(tensor), tuple(tensor.shape)) for tensor in tensors]
        name = getattr(func, "__name__", str(func)).strip("_")
        # Without values batch norm is a chain of small operations in Python, which would take half of the time.
        out = torch.empty_like(tensors[0]) if name == "batch_norm" else func(*args, **kwargs)
        if record.modules and record.modules[-1] in self.silent:
            return out
        if name in SIZES and tensors and (tags := record.axes_of(tensors[0])):
            return _marked(out, name, args, kwargs, tensors[0], tags, record.where)
        if name in WRITES:
            for tensor in tensors:
                record.written_into(tensor, name)
        if name in NUMERIC:
            for value in _leaves([*args, *kwargs.values()]):
                if isinstance(value, Width):
                    value.freeze()
        if any(isinstance(value, Tensor) for value in _leaves([out])):
            record.uses.update({id(tensor) for tensor in tensors})
            follow(record, name, func, args, kwargs, inputs, out)
        return out


def _marked(out: Any, name: str, args: tuple, kwargs: dict, x: Tensor, tags: list[Tag], where: str) -> Any:
    """A size of a tensor, or all of them, with those of its channels as a `Width`."""
    layouts = {tag.axis: tag.layout for tag in tags}
    if isinstance(out, torch.Size):
        return torch.Size(Width.of(n, layouts[axis], where) if axis in layouts else n for axis, n in enumerate(out))
    if type(out) is not int:
        return out  # another attribute
    axis = args[1] if len(args) > 1 else kwargs.get("dim")
    if name == "numel" or name == "nelement":
        return Width.of(out, tags[0].layout, where)
    mine = layouts.get(axis % x.ndim) if isinstance(axis, int) else None
    return Width.of(out, mine, where) if mine is not None else out


def _empty(tensor: Tensor) -> Tensor:
    """Its shape; floating numbers of any precision as float32, which every operation knows."""
    if isinstance(tensor, nn.UninitializedParameter):
        return tensor
    return torch.empty_like(tensor, device="meta", dtype=torch.float32 if tensor.is_floating_point() else tensor.dtype)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _leaves(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _leaves(value)
        else:
            yield value


def default_example(model: nn.Module) -> Tensor:
    """Images of the size that a Classifier was made for. Raises OptionError for models that do not state it."""
    features = getattr(model, "features", None)
    size, channels = getattr(features, "native_size", None), getattr(features, "in_chans", None)
    if size is None or channels is None:
        raise OptionError("this model does not say what images it takes: give an example, a tensor (B, C, H, W)")
    return torch.empty(BATCH, channels, *size, device="meta")


def trace(model: nn.Module, example: Tensor | None = None) -> dict[str, Dimension]:
    """The widths of a model by name, each a group of channels that have to change together.

    Args:
        model: unchanged.
        example: images (B, C, H, W); only their shape and type count; None takes those that a Classifier was
            made for. Names and ties do not depend on the size.

    Raises:
        OptionError: no example where one is needed, or a model in a wrapper.
        GCPError: the model cannot be called on the meta device.
    """
    if isinstance(model, nn.parallel.DistributedDataParallel) or hasattr(model, "_orig_mod"):
        raise OptionError(f"{type(model).__name__} is a wrapper: give the model inside, and wrap it anew afterwards")
    example = default_example(model) if example is None else example
    with plain_weights(model):
        return _trace(model, example)


def _trace(model: nn.Module, example: Tensor) -> dict[str, Dimension]:
    images = _empty(example[:1]).expand(BATCH, *example.shape[1:]).clone()
    state = {name: _empty(tensor) for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    record = TraceRecord({id(tensor): name for name, tensor in state.items()})
    entry = Dimension(images.shape[1], "input", "these are the channels of the images")
    record.loose.append(entry)
    record.tag(images, Tag(Channels((Piece(entry),)), 1))
    with torch.no_grad(), _watched(model, record) as watch, watch:
        try:
            out = functional_call(model, state, (images,))
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            raise GCPError(f"the widths of this model cannot be traced: {_first_line(error)}") from error
    for tensor in _leaves(list(out.values()) if isinstance(out, dict) else [out]):
        for tag in record.axes_of(tensor):
            tag.layout.freeze("it is an output of the model")
    attention.check(record.graph, record.divided)
    freeze_scaled(record.graph, {name for name, weight in model.named_parameters() if is_bounded(weight)})
    _freeze_factored(model, record)
    graph = record.finish()
    graph.example = images
    graph.finish((name for name, _ in model.named_parameters()), record.loose)
    return dict(graph.dimensions)


@contextmanager
def _watched(model: nn.Module, record: TraceRecord) -> Iterator[_Watch]:
    """Module calls are noted by hooks, and those of others see none; what a head makes is described, not made."""
    heads: list[tuple[str, Head]] = []
    training = {module: module.training for module in model.modules()}
    others = {module: [getattr(module, hooks) for hooks in HOOKS] for module in model.modules()}
    model.eval()
    for name, module in model.named_modules():
        for hooks in HOOKS:
            setattr(module, hooks, OrderedDict())
        module.register_forward_pre_hook(_entering(record, name))
        module.register_forward_hook(_leaving(record, name))
        if isinstance(module, Head):
            heads.append((name, module))
            module.__dict__.update(pool=_pooling(record, name, module), complete=lambda pooled, x: pooled)
    try:
        yield _Watch(record, {name for name, _ in heads})
    finally:
        for module, theirs in others.items():
            for hooks, own in zip(HOOKS, theirs, strict=True):
                setattr(module, hooks, own)
        for _, head in heads:
            for method in ("pool", "complete"):
                head.__dict__.pop(method, None)
        for module, mode in training.items():
            module.training = mode


def _entering(record: TraceRecord, name: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple) -> None:
        record.modules.append(name)
        record.calling.append(module)
        tag = record.tag_of(args[0]) if args else None
        if tag:
            _numbers(record, name, module, INPUTS, tag.layout)

    return hook


def _leaving(record: TraceRecord, name: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple, out: object) -> None:
        record.modules.pop()
        record.calling.pop()
        tag = record.tag_of(out)
        if tag:
            _numbers(record, name, module, OUTPUTS, tag.layout)

    return hook


def _numbers(
    record: TraceRecord, name: str, module: nn.Module, attributes: tuple[str, ...], layout: AxisLayout
) -> None:
    """The numbers by which modules know their widths."""
    for attribute in attributes:
        if module.__dict__.get(attribute) == layout.size:
            record.graph.count(name, attribute, layout)


def _pooling(record: TraceRecord, name: str, head: Head) -> Callable[[Tensor], Tensor]:
    def pool(x: Tensor) -> Tensor:
        record.uses[id(x)] += 1
        out = torch.empty(len(x), head.out_features, dtype=x.dtype, device="meta")
        layout, tag = record.pooled(x, name), record.tag_of(x)
        if layout is not None and is_triangle(head):
            record.graph.count(name, "channels", layout)
            record.tag(out, Tag(Triangle(layout, name), 1))
        elif layout is not None and isinstance(head, FirstOrder):
            record.tag(out, Tag(layout, 1))
        elif tag is not None:
            tag.layout.freeze(f"the pooling of {name or 'the model'} ({type(head).__name__}) mixes its channels")
        return out

    return pool


def is_triangle(head: Head) -> bool:
    """Whether it gives the triangle of a matrix over its channels and nothing beside."""
    return isinstance(head, Covariance | RootHead) and head.out_features == triangle_size(head.channels)


def _freeze_factored(model: nn.Module, record: TraceRecord) -> None:
    names = [name for name, module in model.named_modules() if isinstance(module, Factored)]
    for axis in record.graph.axes.values():
        inside = next((name for name in names if f"{axis.tensor}.".startswith(f"{name}.") or not name), None)
        if inside is not None:
            axis.layout.freeze(f"{inside or 'the model'} is factored; change widths before compression")
