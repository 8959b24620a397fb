"""The channel graph of a model: which axis of which tensor holds which channels, and the record that tracing fills."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gcp.errors import UnknownNameError
from gcp.evolve.channel_graph.dimension import AxisLayout, Channels, Dimension, Heads, Triangle, tie

ROWS, COLUMNS, ONES, ZEROS, TYPICAL = "rows", "columns", "ones", "zeros", "typical"


@dataclass(frozen=True)
class Axis:
    """An axis of a parameter or buffer.

    Attributes:
        tensor: its name in the model.
        axis: which one.
        layout: what lies along it.
        role: ROWS of a weight that writes these channels, COLUMNS of one that reads them; of a vector what a new
            channel begins with: ONES, ZEROS, or TYPICAL, the mean of the others.
    """

    tensor: str
    axis: int
    layout: AxisLayout
    role: str

    @property
    def module(self) -> str:
        return self.tensor.rpartition(".")[0]

    def entries(self, model: nn.Module, dimension: Dimension) -> Tensor:
        """(width, n, ...) what belongs to each channel of a dimension, `n` entries along this axis each."""
        tensor = getattr(model.get_submodule(self.module), self.tensor.rpartition(".")[2])
        return tensor.transpose(0, self.axis)[self.layout.places(dimension)]


@dataclass(frozen=True)
class Attribute:
    """A number that a module holds besides its tensors, such as `in_channels`, and how it follows from the size of a
    layout.
    """

    module: str
    name: str
    layout: AxisLayout
    rule: Callable[[int], Any]


class ProjectionPart(NamedTuple):
    """What the heads of an attention have as queries, keys or values: one of the copies of a layout."""

    layout: Heads
    copy: int


@dataclass(frozen=True)
class LayerNorm:
    """A layer norm over all channels of a dimension: its weight and bias by name."""

    layout: Channels
    weight: str
    bias: str | None


@dataclass
class Attention:
    """The heads of one attention: softmax(q k^T scale) v.

    Attributes:
        module: that computes it.
        query, key, value: what it reads; `value` is None until it is seen.
        out: layout of what it gives.
        scaled: whether the scores are divided by the square root of the channels of a head.
    """

    module: str
    query: ProjectionPart
    key: ProjectionPart
    scaled: bool
    value: ProjectionPart | None = None
    out: Heads | None = None


@dataclass
class Graph:
    """What tracing finds.

    Attributes:
        axes: in the order of the calls, by tensor and axis.
        attributes: by module and name.
        norms: weight of a convolution -> running mean of the batch norm that alone reads what it writes.
        attentions: in the order of the calls.
        layer_norms: the same.
        behind_norm: weights that read what a layer norm gives.
        scaled: weight that writes channels -> vector that scales them (a layer scale).
        affine: head -> (weight, running mean or None) of the convolution, and batch norm, right before its pooling.
        parameters: names of those tensors that are parameters, not buffers.
        dimensions: by name.
        example: images that the model can be called with, on the meta device.
    """

    axes: dict[tuple[str, int], Axis] = field(default_factory=dict)
    attributes: dict[tuple[str, str], Attribute] = field(default_factory=dict)
    norms: dict[str, str] = field(default_factory=dict)
    attentions: list[Attention] = field(default_factory=list)
    layer_norms: list[LayerNorm] = field(default_factory=list)
    behind_norm: set[str] = field(default_factory=set)
    scaled: dict[str, str] = field(default_factory=dict)
    affine: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    parameters: set[str] = field(default_factory=set)
    dimensions: dict[str, Dimension] = field(default_factory=dict)
    example: Tensor = field(default_factory=lambda: torch.empty(0))

    def hold(self, tensor: str, axis: int, layout: AxisLayout, role: str) -> None:
        """Note what lies along an axis; a tensor that is used twice ties both uses."""
        known = self.axes.setdefault((tensor, axis), Axis(tensor, axis, layout, role))
        if known.layout is not layout:
            same = known.role == role
            reason = f"{tensor} is used in two ways"
            tie(known.layout, layout, reason)
            if not same:
                layout.freeze(reason)

    def count(self, module: str, name: str, layout: AxisLayout, rule: Callable[[int], Any] = int) -> None:
        """Note a number of a module."""
        self.attributes.setdefault((module, name), Attribute(module, name, layout, rule))

    def divide(self, dimension: Dimension, heads: Heads) -> None:
        """A dimension turns out to be made of heads."""
        for key, axis in self.axes.items():
            if dimension in axis.layout.dimensions:
                self.axes[key] = replace(axis, layout=heads)
        for name, attribute in self.attributes.items():
            if dimension in attribute.layout.dimensions:
                self.attributes[name] = replace(attribute, layout=heads)
        dimension.divide(heads)

    def written_by(self, layout: AxisLayout) -> list[Axis]:
        """The weights, and biases, whose rows are this very layout."""
        return [axis for axis in self.axes.values() if axis.layout is layout and axis.axis == 0]

    def attention_of(self, dimension: Dimension) -> Attention | None:
        """The one whose heads, or channels of a head, these are."""
        for attention in self.attentions:
            parts = [part.layout for part in (attention.query, attention.key, attention.value) if part is not None]
            if any(dimension in part.dimensions for part in parts):
                return attention
        return None

    def touching(self, dimension: Dimension) -> Iterator[Axis]:
        """The axes along which a dimension lies."""
        return (axis for axis in self.axes.values() if dimension in axis.layout.dimensions)

    def readers(self, dimension: Dimension) -> list[Axis]:
        """The weights that read a dimension."""
        return [axis for axis in self.touching(dimension) if axis.role == COLUMNS]

    def scales(self, dimension: Dimension) -> list[Axis]:
        """What sets the scale of its channels: of batch norms over it where there are any, else of those that write."""
        axes = [axis for axis in self.touching(dimension) if axis.tensor in self.parameters]
        return [axis for axis in axes if axis.role == ONES] or [axis for axis in axes if axis.role == ROWS]

    def fits(self, model: nn.Module) -> bool:
        """Whether a model is the one that was traced, as it is now."""
        own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        axes = self.axes.values()
        return all(a.tensor in own and own[a.tensor].shape[a.axis] == a.layout.size for a in axes)

    def find(self, given: str) -> Dimension:
        """A dimension by name, or by the name of one of its producers. Raises UnknownNameError."""
        if given in self.dimensions:
            return self.dimensions[given]
        fitting = [dimension for dimension in self.dimensions.values() if given in dimension.producers]
        if len(fitting) == 1:
            return fitting[0]
        raise UnknownNameError("width", given, self.dimensions)

    def finish(self, parameters: Iterable[str], loose: Iterable[Dimension]) -> None:
        """Name the dimensions once every call is seen; `loose` may lie along no axis."""
        self.parameters = set(parameters)
        found = dict.fromkeys(dimension.root for dimension in loose)
        for axis in self.axes.values():
            for dimension in axis.layout.dimensions:
                found.setdefault(dimension)
                if axis.role == ROWS and axis.axis == 0 and isinstance(axis.layout, Channels | Heads):
                    _append(dimension.producers, axis.module)
                elif axis.role == COLUMNS:
                    _append(dimension.consumers, axis.module)
                    dimension.pooled = dimension.pooled or isinstance(axis.layout, Triangle)
        owners = {place: dimension for dimension in found for place in dimension.producers or [dimension.place]}
        for dimension in found:
            dimension.graph = self
            if dimension.label is not None:
                dimension.name = dimension.label
                self._name(dimension)
                continue
            place = dimension.producers[0] if dimension.producers else dimension.place
            parent, _, leaf = place.rpartition(".")
            inside = {owner for name, owner in owners.items() if name.startswith(f"{parent}.")}
            dimension.name = parent if parent and leaf.isdecimal() and inside == {dimension} else place or "model"
            self._name(dimension)

    def _name(self, dimension: Dimension) -> None:
        if dimension.name in self.dimensions:  # of two computed weights in one module
            dimension.name = f"{dimension.name} ({len(self.dimensions)})"
        self.dimensions[dimension.name] = dimension


def _append(names: list[str], name: str) -> None:
    if name not in names:
        names.append(name)


class Tag(NamedTuple):
    """The layout of one axis of a tensor.

    Attributes:
        writers: the weights of the layers of which it is a sum.
        normed: whether a layer norm gave it, so that a channel at the mean of the others is zero.
    """

    layout: AxisLayout
    axis: int
    writers: frozenset[str] = frozenset()
    normed: bool = False


class HeadSplit(NamedTuple):
    """The axes of a tensor that hold heads and the channels of each, and of the copies where they are still together.

    Attributes:
        layout: of all copies.
        copy: which of them; None while they are together.
        axes: of the copies, the heads and the channels of a head, None for those that are not there: the scores of an
            attention have heads only.
        scores: the attention whose scores they are.
    """

    layout: Heads
    copy: int | None
    axes: tuple[int | None, int, int | None]
    scores: Attention | None = None


class TraceRecord:
    """Tags by tensor, and the graph that grows from them.

    Attributes:
        names: id of a parameter or buffer -> its name.
        modules: names of the modules that are being called, the innermost last.
        calling: these modules.
        divided: into heads.
        bent: channels that go through an operation under which the mean of channels is not one of them, and which.
        loose: dimensions that may lie along no tensor of the model.
        uses: id of a tensor -> calls that read it.
    """

    def __init__(self, names: dict[int, str]):
        self.graph = Graph()
        self.names = names
        self.modules: list[str] = []
        self.calling: list[nn.Module] = []
        self.loose: list[Dimension] = []
        self.uses: Counter[int] = Counter()
        self._tags: dict[int, tuple[Tensor, Tag | None]] = {}  # the tensor is kept, so that its id stays its own
        self.divided: list[Heads] = []
        self.bent: list[tuple[AxisLayout, str]] = []
        self._views: dict[int, tuple[Tensor, str, int]] = {}
        self._splits: dict[int, tuple[Tensor, HeadSplit]] = {}
        self._origin: dict[int, tuple[str, str | None]] = {}  # (weight, running mean of the batch norm behind it)
        self._outputs: dict[str, list[int]] = {}
        self._norms: dict[int, str] = {}
        self._overwritten: dict[str, str] = {}  # parameter or buffer -> how the model writes into it

    @property
    def where(self) -> str:
        """The innermost module."""
        return (self.modules[-1] if self.modules else "") or "the model"

    def tag_of(self, tensor: object) -> Tag | None:
        found = self._tags.get(id(tensor))
        return found[1] if found else None

    def parameter_of(self, tensor: Tensor) -> tuple[str, int] | None:
        """Name and axes of a parameter or buffer, also where it is expanded."""
        view, name = self._views.get(id(tensor)), self.names.get(id(tensor))
        return view[1:] if view else (name, tensor.ndim) if name else None

    def expanded(self, tensor: Tensor, out: Tensor) -> None:
        """Note that a tensor may be a parameter, with more or longer axes before its last ones."""
        if known := self.parameter_of(tensor):
            self._views[id(out)] = (out, *known)

    def bend(self, tag: Tag, name: str) -> None:
        """Note what `bent` says."""
        if not tag.normed:
            self.bent.append((tag.layout, f"{name} in {self.where}"))

    def split_of(self, tensor: object) -> HeadSplit | None:
        found = self._splits.get(id(tensor))
        return found[1] if found else None

    def split(self, out: object, split: HeadSplit | None) -> None:
        """Note the heads that a tensor carries."""
        if isinstance(out, Tensor) and split is not None:
            self._splits[id(out)] = (out, split)

    def axes_of(self, tensor: object) -> list[Tag]:
        """The axes whose sizes are widths."""
        split, tag = self.split_of(tensor), self.tag_of(tensor)
        if split is None:
            return [tag] if tag is not None else []
        pairs = zip((split.layout.number, split.layout.width), split.axes[1:], strict=True)
        return [Tag(Channels((piece,)), axis) for piece, axis in pairs if axis is not None]

    def tag(self, out: object, tag: Tag | None) -> None:
        """Note what a tensor carries; of what is no tensor nothing is known."""
        if isinstance(out, Tensor):
            self._tags[id(out)] = (out, tag)
            self._origin.pop(id(out), None)  # whatever works in place leaves no convolution's output behind

    def written_into(self, tensor: Tensor, name: str) -> None:
        """Note a write into a part of a tensor, or of what is written: its channels are not alike any more."""
        reason = f"{name} in {self.where} writes into a part of it"
        tags = self.axes_of(tensor)
        for tag in tags:
            tag.layout.freeze(reason)
        if not tags and id(tensor) in self.names:
            self._overwritten[self.names[id(tensor)]] = reason

    def made(self, out: Tensor, weight: str) -> None:
        """Note the layer that a tensor comes from."""
        self._origin[id(out)] = (weight, None)
        self._outputs.setdefault(weight, []).append(id(out))

    def normalised(self, read: Tensor, wrote: Tensor, mean: Tensor | None) -> None:
        """Note a batch norm right behind a layer."""
        origin, name = self._origin.get(id(read)), self.names.get(id(mean))
        if origin and name and origin[1] is None:
            self._norms[id(read)] = name
            self._origin[id(wrote)] = (origin[0], name)

    def pooled(self, x: Tensor, head: str) -> Channels | None:
        """Note what a head pools; None where its channels are not followed."""
        tag, origin = self.tag_of(x), self._origin.get(id(x))
        if origin and len(self._outputs[origin[0]]) == 1:
            self.graph.affine[head] = origin
        return tag.layout if tag and tag.axis == 1 and isinstance(tag.layout, Channels) else None

    def finish(self) -> Graph:
        """The graph, but for its names."""
        for axis in self.graph.axes.values():
            if axis.tensor in self._overwritten:
                axis.layout.freeze(self._overwritten[axis.tensor])
        for norm in self.graph.layer_norms:
            own = norm.layout.dimensions[0]
            for layout, name in self.bent:
                if own in layout.dimensions:
                    own.freeze(f"{norm.weight.rpartition('.')[0]}, a layer norm, and {name} have the same channels")
        for weight, outputs in self._outputs.items():
            means = {self._norms.get(out) if self.uses[out] == 1 else None for out in outputs}
            mean = means.pop()
            if mean is not None and not means:
                self.graph.norms[weight] = mean
        return self.graph
