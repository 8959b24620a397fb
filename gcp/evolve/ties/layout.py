"""Where the channels of dimensions lie along an axis of a tensor.

    Channels   one after the other, each `repeat` times in a row (flattened maps), several dimensions side by side
               (concatenations)
    Triangle   row-major upper triangle of a matrix over such channels, as the covariance heads pack it

An edit of a dimension is a `source`: for each new channel the old one that it continues, -1 for a new one. A layout
turns it into the same for the entries of its axis.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gcp.evolve.ties.dimension import Dimension
from gcp.ops.triangle import triangle_size


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


class Layout:
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
class Channels(Layout):
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
class Triangle(Layout):
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


def _place(row: Tensor, column: Tensor, d: int) -> Tensor:
    """Of entry (row, column), row <= column, in the triangle of a d x d matrix."""
    return row * d - row * (row - 1) // 2 + column - row


def tie(a: Layout, b: Layout, reason: str) -> None:
    """Two axes are one and the same: unite their dimensions, or freeze them where they are not made alike."""
    if isinstance(a, Triangle) and isinstance(b, Triangle):
        return tie(a.channels, b.channels, reason)
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
