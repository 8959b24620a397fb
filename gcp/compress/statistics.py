"""Statistics of the layers on calibration data: second moments of inputs or outputs, summed in float64 over batches.

A layer W (m, n) needs one symmetric matrix on its smaller side: of its outputs where m <= n, else of its inputs.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gcp.compress.factored import Factored
from gcp.errors import DataError, NonFiniteError, OptionError

# share of E|v|^2 below which a variance is rounding: the square of float32's, with room for the sums in float64
CONSTANT = 1e-12


class Statistics:
    """Sums over the positions that one layer saw.

    Attributes:
        inputs, outputs: moments of rows (N, channels) of what it read and wrote; None where no method needs them.
        magnitude: sum of |input| by channel, for `asvd`.
        read, written: positions seen in its inputs and outputs.
        samples: entries of the batches.
    """

    def __init__(self, layer: Any, method: str):
        self.layer, self.method = layer, method
        self.inputs: Moments | None = None
        self.outputs: Moments | None = None
        self.magnitude: Tensor | float = 0.0
        self.read = self.written = self.samples = 0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in one call."""
        layer = self.layer
        self.samples += x.shape[0]
        self.read += x.numel() // layer.weight.shape[1]
        self.written += y.numel() // layer.weight.shape[0]
        if self.method == "asvd":
            self.magnitude = self.magnitude + rows(layer, x).double().abs().sum(0)
        if self.method == "output_pca":
            if output_side(layer):
                self.outputs = self.outputs or Moments()
                self.outputs.add(rows(layer, y))
            if not output_side(layer) or has_kernel(layer):
                self.inputs = self.inputs or Moments()
                self.inputs.add(rows(layer, x))


class Moments:
    """Count, sum and second moment of rows (N, d)."""

    def __init__(self) -> None:
        self.count = 0
        self.sum: Tensor | float = 0.0
        self.square: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """Take in rows (N, d)."""
        values = values.double()
        self.count += len(values)
        self.sum = self.sum + values.sum(0)
        self.square = self.square + values.mT @ values

    def second(self, centred: bool) -> Tensor:
        """E[v v^T] (d, d), or the covariance; zero where what is left of constant values is rounding."""
        assert isinstance(self.sum, Tensor) and isinstance(self.square, Tensor)
        mean = self.sum / self.count
        second = self.square / self.count
        if not centred:
            return second
        covariance = second - torch.outer(mean, mean)
        return torch.where(covariance.trace() > CONSTANT * second.trace(), covariance, 0.0)


class Deviation:
    """Sums over the difference of a layer and its factored form on the same inputs."""

    def __init__(self, layer: Any, new: Factored):
        self.layer, self.new = layer, new
        self.count = 0
        self.energy = self.squared = 0.0
        self.total: Tensor | float = 0.0
        self.shift: Tensor | float = 0.0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in one call."""
        own = rows(self.layer, y).double()
        difference = own - rows(self.layer, self.new(x)).double()
        self.count += len(own)
        self.total = self.total + own.sum(0)
        self.shift = self.shift + difference.sum(0)
        self.energy += own.square().sum().item()
        self.squared += difference.square().sum().item()

    @property
    def mean(self) -> Tensor:
        """Mean difference by channel: what a bias can take back."""
        assert isinstance(self.shift, Tensor)
        return self.shift / self.count

    @property
    def relative(self) -> float:
        """Root of the mean squared difference over that of the outputs, of a layer with a bias about their mean."""
        assert isinstance(self.total, Tensor)
        energy = self.energy
        if self.layer.bias is not None:
            energy -= self.total.square().sum().item() / self.count
        return (self.squared / energy) ** 0.5 if energy > 0 else float(self.squared > 0)


def rows(layer: nn.Module, values: Tensor) -> Tensor:
    """Inputs or outputs of a layer as rows (N, channels)."""
    if isinstance(layer, nn.Conv2d):
        values = values.movedim(-3, -1)
    return values.flatten(0, -2) if values.ndim > 1 else values[None]


def has_kernel(layer: nn.Module) -> bool:
    """Whether the layer looks at more than one position."""
    return isinstance(layer, nn.Conv2d) and layer.weight[0, 0].numel() > 1


def output_side(layer: Any) -> bool:
    """Whether the outputs of a layer are its smaller side; of a kernel wider than 1x1 they are taken for it."""
    return has_kernel(layer) or layer.weight.shape[0] <= layer.weight[0].numel()


SampleFilter = Callable[[int], bool]  # whether the sample of that number belongs to it
EVERY = 4


def fit(number: int) -> bool:
    """Samples that the factors are made from."""
    return number % EVERY != EVERY - 1


def held(number: int) -> bool:
    """Samples that errors are measured on."""
    return not fit(number)


def stream(
    model: nn.Module,
    data: Iterable[Any],
    take: dict[nn.Module, Callable[[Tensor, Tensor], None]],
    part: SampleFilter = fit,
) -> None:
    """Run data through a model in evaluation mode and hand (input, output) of layers to their functions.

    Raises NonFiniteError where a layer meets inf or NaN.
    """
    hooks = [layer.register_forward_hook(_hook(function)) for layer, function in take.items()]
    try:
        with evaluation(model), torch.no_grad():
            for batch in _inputs(model, data, part):
                model(batch)
    finally:
        for hook in hooks:
            hook.remove()


def output_error(model: nn.Module, other: nn.Module, data: Iterable[Any], part: SampleFilter) -> float | None:
    """Root of the mean squared difference of two models' outputs over that of the first; None for no tensors."""
    squared = energy = 0.0
    with evaluation(model), evaluation(other), torch.no_grad():
        for batch in _inputs(model, data, part):
            one, two = model(batch), other(batch)
            if not isinstance(one, Tensor):
                return None
            squared += (two.double() - one.double()).square().sum().item()
            energy += one.double().square().sum().item()
    return (squared / energy) ** 0.5 if energy else float(squared > 0)


def _hook(function: Callable[[Tensor, Tensor], None]) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not torch.isfinite(output).all():
            raise NonFiniteError(f"on the calibration data a {type(module).__name__} gives inf or NaN")
        function(inputs[0], output)

    return hook


def count_samples(data: Any) -> int:
    """Samples in calibration data. Raises OptionError for data of another kind, or that cannot be read twice."""
    if not isinstance(data, Iterable):
        raise OptionError(f"data must be a tensor or an iterable of batches, got {type(data).__name__}")
    if isinstance(data, Iterator):
        raise OptionError("data can be read only once and is needed twice: give a list of batches or a DataLoader")
    count = sum(len(batch) for batch in _batches(data))
    if not count:
        raise DataError("the calibration data hold no batch")
    return count


def _batches(data: Iterable[Any]) -> Iterator[Tensor]:
    """A tensor is one batch, of a tuple the first entry counts."""
    for batch in [data] if isinstance(data, Tensor) else data:
        images = batch[0] if isinstance(batch, Sequence) else batch
        if not isinstance(images, Tensor):
            raise OptionError(f"a batch must be a tensor, or a tuple that begins with one; got {type(images).__name__}")
        yield images


def _inputs(model: nn.Module, data: Iterable[Any], part: SampleFilter) -> Iterator[Tensor]:
    """Batches of the samples of a part, where the model is."""
    place, seen = next(model.parameters(), torch.empty(0)), 0
    for images in _batches(data):
        chosen = images[[part(seen + number) for number in range(len(images))]]
        seen += len(images)
        if len(chosen):
            yield chosen.to(place) if chosen.is_floating_point() else chosen.to(place.device)


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; every module has its own mode back afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
