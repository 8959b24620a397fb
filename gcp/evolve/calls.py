"""Looking at a model at work: the calls of chosen layers, with what they read and what they write.

Rows are positions: a linear layer is a matrix over the entries of a row, a convolution one over the patch around it.
At most `ROWS_SEEN` of them are taken, the same ones in every pass over the same images.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from gcp.errors import NonFiniteError, OptionError

ROWS_SEEN = 16384
HELD_OUT = 4  # one of so many images measures the error, the others fit
Images = Tensor | Sequence[Tensor]


class LayerCall:
    """One call of a linear layer or convolution: its weight by name, and what it reads."""

    def __init__(self, name: str, x: Tensor, weight: Tensor, bias: Tensor | None, patch: dict[str, Any] | None):
        self.name, self.x, self.weight, self.bias = name, x, weight, bias
        self.patch = patch
        self.kernel = (1,) * (4 - weight.ndim) + tuple(weight.shape[2:])  # of a convolution

    def inputs(self) -> Tensor:
        """(n, columns of the weight, flattened), float64."""
        if self.patch is None:
            return self._some(self.x.flatten(0, -2)).double()
        rows = []
        for image, places in enumerate(self._places(self._positions())):
            patches = functional.unfold(self._padded(image), self.kernel, **self._steps())
            rows.append(patches[0, :, places].mT)
        return torch.cat(rows).double()

    def outputs(self, out: Tensor) -> Tensor:
        """(n, rows of the weight) of what the layer gave, float64; rows as in `inputs`."""
        if self.patch is None:
            return self._some(out.flatten(0, -2)).double()
        flat = out.flatten(2)
        return torch.cat([flat[i, :, p].mT for i, p in enumerate(self._places(flat.shape[2]))]).double()

    def channels(self) -> Tensor:
        """(n, channels) of what it reads, position by position, float64."""
        rows = self.x.flatten(0, -2) if self.patch is None else self.x.flatten(2).mT.flatten(0, 1)
        return self._some(rows).double()

    def _some(self, rows: Tensor) -> Tensor:
        return rows[:: -(-len(rows) // ROWS_SEEN)]

    def _places(self, positions: int) -> Iterator[Tensor]:
        """For each image the positions that are taken of it; they move on from image to image."""
        images = len(self.x)
        stride = -(-positions * images // ROWS_SEEN)
        for image in range(images):
            yield torch.arange(image % stride % positions, positions, stride, device=self.x.device)

    def _positions(self) -> int:
        assert self.patch is not None
        return int(functional.conv2d(
            torch.empty(1, 1, *self.x.shape[2:], device="meta"),
            torch.empty(1, 1, *self.kernel, device="meta"),
            stride=self.patch["stride"], padding=self.patch["padding"], dilation=self.patch["dilation"],
        ).numel())  # fmt: skip

    def _steps(self) -> dict[str, Any]:
        assert self.patch is not None
        return {"stride": self.patch["stride"], "dilation": self.patch["dilation"]}

    def _padded(self, image: int) -> Tensor:
        assert self.patch is not None
        x, padding = self.x[image : image + 1], self.patch["padding"]
        kernel, dilation = self.kernel, _pair(self.patch["dilation"])
        if padding == "valid":
            return x
        if padding == "same":
            total = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
            high, wide = ((t // 2, t - t // 2) for t in total)
            return functional.pad(x, (*wide, *high))
        high_, wide_ = _pair(padding)
        return functional.pad(x, (wide_, wide_, high_, high_))


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    return (value[0], value[0]) if len(value) == 1 else (value[0], value[1])


Visit = Callable[[LayerCall, Callable[[], Tensor]], Tensor]


class _Visits(TorchFunctionMode):
    def __init__(self, names: dict[int, str], visit: Visit):
        super().__init__()
        self.names, self.visit = names, visit

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        maker = {"linear": _linear, "conv1d": _conv1d, "conv2d": _conv2d}.get(getattr(func, "__name__", ""))
        call = maker(self.names, *args, **kwargs) if maker else None
        return self.visit(call, lambda: func(*args, **kwargs)) if call else func(*args, **kwargs)


def _linear(names: dict[int, str], input: Tensor, weight: Tensor, bias: Tensor | None = None) -> LayerCall | None:
    name = names.get(id(weight))
    return LayerCall(name, input, weight, bias, None) if name else None


def _conv2d(
    names: dict[int, str],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> LayerCall | None:
    name = names.get(id(weight))
    patch = {"stride": stride, "padding": padding, "dilation": dilation}
    return LayerCall(name, input, weight, bias, patch) if name else None


def _conv1d(names: dict[int, str], input: Tensor, *args: Any, **kwargs: Any) -> LayerCall | None:
    """As a convolution of maps of height one."""
    call = _conv2d(names, input.unsqueeze(2), *args, **kwargs)
    if call is not None and call.patch is not None:
        for key, high in (("stride", 1), ("padding", 0), ("dilation", 1)):
            if not isinstance(value := call.patch[key], str):
                call.patch[key] = (high, _pair(value)[0])
    return call


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, without gradients; the mode of every part is put back."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in training.items():
            module.training = mode


def watch(model: nn.Module, images: Tensor, weights: Sequence[str], visit: Visit) -> Tensor | None:
    """LayerCall a model, in evaluation mode; `visit` stands in for every call of a layer with one of these weights.

    Returns what the model gives, None where that is no tensor.
    """
    names = {id(model.get_parameter(name)): name for name in weights}
    with at_rest(model), _Visits(names, visit):
        out = model(images)
    return out if isinstance(out, Tensor) else None


def outputs(model: nn.Module, images: Tensor) -> Tensor | None:
    """What a model gives in evaluation mode, None where that is no tensor. Raises NonFiniteError."""
    with at_rest(model):
        out = model(images)
    if not isinstance(out, Tensor):
        return None
    if not out.isfinite().all():
        raise NonFiniteError("the model gives inf or NaN on these images, in evaluation mode")
    return out.double()


def change(before: Tensor | None, after: Tensor | None) -> float | None:
    """Relative to what was: |after - before| / |before|, 0 where both are 0."""
    if before is None or after is None:
        return None
    return float((after - before).norm() / before.norm().clamp(min=torch.finfo(before.dtype).tiny))


def parts(images: Images | None, model: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Images that fit and images that measure, on the device of the model; the same where there are few."""
    if images is None:
        return None
    batches = [images] if isinstance(images, Tensor) else list(images)
    other = next((batch for batch in batches if not isinstance(batch, Tensor)), None)
    if other is not None or not all(map(len, batches)) or not batches:
        what = "empty" if other is None else f"{type(images).__name__} of {type(other).__name__}"
        ways = "a tensor (B, C, H, W), or a sequence of such batches, [images for images, labels in LOADER]"
        raise OptionError(f"images is {what}; allowed: {ways}")
    device = next((p.device for p in model.parameters()), batches[0].device)
    whole = torch.cat([batch.to(device) for batch in batches])
    if len(whole) < HELD_OUT:
        return whole, whole
    fit = torch.arange(len(whole), device=device) % HELD_OUT != HELD_OUT - 1
    return whole[fit], whole[~fit]
