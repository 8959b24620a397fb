"""What tracing knows at a moment: which tensor carries which channels on which axis."""

from collections import Counter
from typing import NamedTuple

from torch import Tensor

from gcp.evolve.ties.dimension import Dimension
from gcp.evolve.ties.graph import Graph
from gcp.evolve.ties.layout import Channels, Layout


class Tag(NamedTuple):
    """The layout of one axis of a tensor."""

    layout: Layout
    axis: int


class Record:
    """Tags by tensor, and the graph that grows from them.

    Attributes:
        names: id of a parameter or buffer -> its name.
        modules: names of the modules that are being called, the innermost last.
        loose: dimensions that may lie along no tensor of the model.
        uses: id of a tensor -> calls that read it.
    """

    def __init__(self, names: dict[int, str]):
        self.graph = Graph()
        self.names = names
        self.modules: list[str] = []
        self.loose: list[Dimension] = []
        self.uses: Counter[int] = Counter()
        self._tags: dict[int, tuple[Tensor, Tag | None]] = {}  # the tensor is kept, so that its id stays its own
        self._origin: dict[int, tuple[str, str | None]] = {}  # (weight, running mean of the batch norm behind it)
        self._outputs: dict[str, list[int]] = {}
        self._norms: dict[int, str] = {}

    @property
    def where(self) -> str:
        """The innermost module."""
        return (self.modules[-1] if self.modules else "") or "the model"

    def tag_of(self, tensor: object) -> Tag | None:
        found = self._tags.get(id(tensor))
        return found[1] if found else None

    def tag(self, out: object, tag: Tag | None) -> None:
        """Note what a tensor carries; of what is no tensor nothing is known."""
        if isinstance(out, Tensor):
            self._tags[id(out)] = (out, tag)
            self._origin.pop(id(out), None)  # whatever works in place leaves no convolution's output behind

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
        for weight, outputs in self._outputs.items():
            means = {self._norms.get(out) if self.uses[out] == 1 else None for out in outputs}
            mean = means.pop()
            if mean is not None and not means:
                self.graph.norms[weight] = mean
        return self.graph
