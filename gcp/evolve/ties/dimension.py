"""Channels that have to change together: what every tensor that they touch has in common.

A sum ties the channels of its operands, a batch norm or a depthwise convolution passes them on: all of them are one
dimension. Where convolutions have groups of more than one channel only whole groups can come and go: `step`.
"""

import math
from typing import TYPE_CHECKING

from gcp.errors import OptionError

if TYPE_CHECKING:
    from gcp.evolve.ties.graph import Graph


class Dimension:
    """A width of a model.

    Attributes:
        name: of the module that is the first to write it, without a last number where nothing else is beside it.
        width: channels.
        step: the width has to be a multiple of it.
        reason: why it cannot be edited, None where it can.
        producers: names of the layers that write it, in the order of their calls.
        consumers: names of the layers that read it.
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
        self.pooled = False
        self._into: Dimension | None = None

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

    def unite(self, other: "Dimension") -> None:
        """Make one of two dimensions of the same width."""
        first, second = self.root, other.root
        if first is second:
            return
        first.step = math.lcm(first.step, second.step)
        first.reason = first.reason or second.reason
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
