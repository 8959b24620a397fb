"""Calibration data through a model, in batches; every fourth sample is held out to measure errors on."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gcp.errors import DataError, NonFiniteError, OptionError

Part = Callable[[int], bool]  # whether the sample of that number belongs to it
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
    part: Part = fit,
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


def output_error(model: nn.Module, other: nn.Module, data: Iterable[Any], part: Part) -> float | None:
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


def _inputs(model: nn.Module, data: Iterable[Any], part: Part) -> Iterator[Tensor]:
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
