"""Groups of channels that have to change together, and where they lie along an axis of a tensor.

A sum makes the channels of its operands one dimension, a batch norm or a depthwise convolution passes them on. Where
convolutions have groups of more than one channel only whole groups can come and go: `step`. Along an axis lie

    Channels   one after the other, each `repeat` times in a row (flattened maps), several dimensions side by side
               (concatenations)
    Triangle   row-major upper triangle of a matrix over such channels, as the covariance heads pack it
    Heads      for each head of an attention its channels, once or, as queries, keys and values, several times over

An edit of a dimension is a `source`: for each new channel the old one that it continues, -1 for a new one. A layout
turns it into the same for the entries of its axis.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gcp.errors import OptionError
from gcp.kernels.triangle import triangle_size

if TYPE_CHECKING:
    from gcp.evolve.channel_graph.graph import Graph


class Dimension:
    """A width of a model.

    Attributes:
        name: of the module that is the first to write it, without a last number where nothing else is beside it.
        width: channels.
        step: the width has to be a multiple of it.
        reason: why it cannot be edited, None where it can.
        producers: names of the layers that write it, in the order of their calls.
        consumers: names of the layers that read it.
        of_heads: whether its units are the heads of an attention.
        label: its name where it is not that of a layer.
        pooled: whether a head packs the covariance of these channels.
        graph: the ties of the model that it belongs to.
    """

    graph: "Graph"

    def __init__(self, width: int, place: str, reason: str | None = None):
        self.name = self.place = place
        self.width = width
        self.step = 1
        self.reason = reason
        self.producers: list[str] = []
        self.consumers: list[str] = []
        self.label: str | None = None
        self.of_heads = False
        self.pooled = False
        self._into: Dimension | None = None
        self._parts: Heads | None = None  # what it turned out to be made of

    def divide(self, parts: "Heads") -> None:
        """It is made of heads, which are dimensions of their own; what freezes it freezes them."""
        self.root._parts = parts
        if self.root.reason is not None:
            parts.freeze(self.root.reason)

    @property
    def parts(self) -> "Heads | None":
        """The heads that it is made of."""
        return self.root._parts

    @property
    def editable(self) -> bool:
        return self.reason is None

    @property
    def root(self) -> "Dimension":
        """The dimension that this one has become a part of, itself at first."""
        while self._into is not None:
            self = self._into
        return self

    def freeze(self, reason: str) -> None:
        """It cannot be edited; the first reason stays."""
        root = self.root
        root.reason = root.reason or reason
        if root._parts is not None:
            root._parts.freeze(reason)

    def unite(self, other: "Dimension") -> None:
        """Make one of two dimensions of the same width."""
        first, second = self.root, other.root
        if first is second:
            return
        for one, another in ((first, second), (second, first)):
            if one._parts is not None:  # heads on one side, channels on the other
                one.freeze(f"{one.place} is made of heads and {another.place} is not")
        first.step = math.lcm(first.step, second.step)
        first.reason = first.reason or second.reason
        first.label = first.label or second.label
        first.of_heads = first.of_heads or second.of_heads
        second._into = first

    def check(self, width: int) -> None:
        """Raise OptionError where it cannot be edited, or not to `width`."""
        if self.reason is not None:
            raise OptionError(f"width {self.name!r} cannot be edited: {self.reason}")
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise OptionError(f"width of {self.name!r} is {width!r}; allowed: a whole number >= 1")
        if width % self.step:
            low = max(self.step, width // self.step * self.step)
            raise OptionError(
                f"width of {self.name!r} is {width}; allowed: multiples of {self.step}, the channels of a group, such "
                f"as {low} or {low + self.step}"
            )

    def __repr__(self) -> str:
        fixed = "" if self.editable else f", fixed: {self.reason}"
        return f"Dimension({self.name!r}, width={self.width}{fixed})"


@dataclass(frozen=True)
class Piece:
    """All channels of one dimension, each as `repeat` entries in a row."""

    of: Dimension
    repeat: int = 1

    @property
    def dimension(self) -> Dimension:
        return self.of.root

    @property
    def size(self) -> int:
        return self.dimension.width * self.repeat


class AxisLayout:
    """Entries of an axis."""

    @property
    def dimensions(self) -> list[Dimension]:
        """Of which the axis consists, each once."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """How many there are."""
        raise NotImplementedError

    def index(self, dimension: Dimension, source: Tensor) -> Tensor:
        """Source (new width,) of a dimension -> (new size,): for each new entry the old one, or -1."""
        raise NotImplementedError

    def places(self, dimension: Dimension) -> Tensor:
        """(width, n): the entries that belong to each channel of a dimension."""
        raise NotImplementedError

    def freeze(self, reason: str) -> None:
        for dimension in self.dimensions:
            dimension.freeze(reason)


@dataclass(frozen=True)
class Channels(AxisLayout):
    """Pieces side by side."""

    pieces: tuple[Piece, ...]

    @property
    def dimensions(self) -> list[Dimension]:
        return list(dict.fromkeys(piece.dimension for piece in self.pieces))

    def repeated(self, times: int) -> "Channels":
        """Every entry `times` times in a row."""
        return Channels(tuple(Piece(piece.of, piece.repeat * times) for piece in self.pieces))

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)

    def index(self, dimension: Dimension, source: Tensor) -> Tensor:
        parts, start = [], 0
        for piece in self.pieces:
            own = source if piece.dimension is dimension else torch.arange(piece.dimension.width)
            spread = own[:, None] * piece.repeat + torch.arange(piece.repeat) + start
            parts.append(torch.where(own[:, None] < 0, -1, spread).flatten())
            start += piece.size
        return torch.cat(parts)

    def places(self, dimension: Dimension) -> Tensor:
        starts = torch.tensor([0, *(piece.size for piece in self.pieces)]).cumsum(0).tolist()
        blocks = [
            torch.arange(piece.size).view(-1, piece.repeat) + start
            for piece, start in zip(self.pieces, starts, strict=False)
            if piece.dimension is dimension
        ]
        return torch.cat(blocks, 1)


@dataclass(frozen=True)
class Triangle(AxisLayout):
    """Upper triangle of a symmetric matrix over `channels`, packed by the module named `head`."""

    channels: Channels
    head: str

    @property
    def dimensions(self) -> list[Dimension]:
        return self.channels.dimensions

    @property
    def size(self) -> int:
        return triangle_size(self.channels.size)

    def index(self, dimension: Dimension, source: Tensor) -> Tensor:
        old = self.channels.index(dimension, source)
        rows, columns = torch.triu_indices(len(old), len(old))
        low, high = torch.minimum(old[rows], old[columns]), torch.maximum(old[rows], old[columns])
        return torch.where(low < 0, -1, _place(low, high, self.channels.size))

    def places(self, dimension: Dimension) -> Tensor:
        d = self.channels.size
        own, others = self.channels.places(dimension), torch.arange(d)
        low, high = torch.minimum(own[..., None], others), torch.maximum(own[..., None], others)
        return _place(low, high, d).flatten(1)


@dataclass(frozen=True, eq=False)
class Heads(AxisLayout):
    """The heads with the channels of each, `copies` times, such as for queries, keys and values."""

    copies: int
    number: Piece
    width: Piece
    made_by: str = ""  # the operation that divided channels into them

    @property
    def dimensions(self) -> list[Dimension]:
        return list(dict.fromkeys((self.number.dimension, self.width.dimension)))

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def index(self, dimension: Dimension, source: Tensor) -> Tensor:
        heads, channels = (
            source if piece.dimension is dimension else torch.arange(piece.size) for piece in (self.number, self.width)
        )
        old = self._grid()[:, heads.clamp(min=0)][:, :, channels.clamp(min=0)]
        return torch.where((heads[:, None] < 0) | (channels < 0), -1, old).flatten()

    def places(self, dimension: Dimension) -> Tensor:
        axis = 1 if dimension is self.number.dimension else 2
        return self._grid().movedim(axis, 0).flatten(1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(copies, heads, width)."""
        return self.copies, self.number.size, self.width.size

    def of_copy(self, copy: int) -> Tensor:
        """(heads, width): the entries of one of the copies."""
        return self._grid()[copy]

    def _grid(self) -> Tensor:
        return torch.arange(self.size).view(self.shape)


def _place(row: Tensor, column: Tensor, d: int) -> Tensor:
    """Of entry (row, column), row <= column, in the triangle of a d x d matrix."""
    return row * d - row * (row - 1) // 2 + column - row


def tie(a: AxisLayout, b: AxisLayout, reason: str) -> None:
    """Two axes are one and the same: unite their dimensions, or freeze them where they are not made alike."""
    if isinstance(a, Triangle) and isinstance(b, Triangle):
        return tie(a.channels, b.channels, reason)
    if isinstance(a, Heads) and isinstance(b, Heads) and a.shape == b.shape:
        a.number.dimension.unite(b.number.dimension)
        return a.width.dimension.unite(b.width.dimension)
    if isinstance(a, Channels) and isinstance(b, Channels):
        pairs = list(zip(a.pieces, b.pieces, strict=False))
        alike = all(p.repeat == q.repeat and p.size == q.size for p, q in pairs)
        if len(a.pieces) == len(b.pieces) and alike:
            for p, q in pairs:
                p.dimension.unite(q.dimension)
            return None
    a.freeze(reason)
    b.freeze(reason)
    return None
