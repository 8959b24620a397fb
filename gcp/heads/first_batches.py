r"""What a head takes from the first batches: the scale of its output, and principal directions for its reduction.

**Scale.** Under SGD the logits W f of a linear layer move by the learning rate times |f|^2, so what makes one learning
rate too large or too small is the size of the whole vector f, not that of one of its features:

    size(f) = sqrt(mean of |f|^2 over images)

    output_scale: measured     c = size(average of the map that enters the head) / size(output)
    mean: concat               the mean gets size(pooled) / size(mean), so that both parts weigh the same;
                               measured, each part gets 1/sqrt(2) of the size of that average

These are constants: they change neither what the head can express nor its gradient but by the factor.

**Start of the reduction.** The rows of the convolution are the principal directions of the map that enters, by its
covariance over all positions of the first batches; see `start_reduction` for batch norm and ReLU.

Sums are taken in float64 and over all processes, and the first of them decomposes. Batch norms see the batches as in
training, by the statistics of each; dropout is off, no random number is drawn, and what else a model keeps is restored.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from gcp.errors import DataError, OptionError
from gcp.heads.base import Head
from gcp.heads.reduction import Reduction
from gcp.layers.whitening import Whitening2d

IMAGES = 512  # enough: sizes are known to a few percent, and 49 positions each make 25,000 samples of the covariance
RANK = 1e-10  # part of the largest eigenvalue, below which a direction is rounding

Sum = Callable[[Tensor], Tensor]


def unmeasured(model: nn.Module) -> list[Head]:
    """The heads in `model` that wait for the first batches."""
    heads = [module for module in model.modules() if isinstance(module, Head)]
    return [head for head in heads if head.measured_on is not None and not int(head.measured_on)]


class FirstBatches:
    """The first batches of an iterable, until there are IMAGES images; kept, so that they can be read twice.

    Args:
        batches: the iterable.
        size: images of a batch in all processes; None where a batch tells.
        images: takes what the iterable gives to images on the device of the model.
    """

    def __init__(self, batches: Iterable[Any], size: int | None, images: Callable[[Any], Tensor]):
        self.images, self.kept, count = images, list[Any](), 0
        for batch in batches:
            self.kept.append(batch)
            count += size or len(images(batch))
            if count >= IMAGES:
                break

    def __iter__(self) -> Iterator[Tensor]:
        return map(self.images, self.kept)


def initialize_head(model: nn.Module, batches: Iterable[Any]) -> None:
    """Measure what the head of a model takes from the first batches, where that has not been done: the constants of
    `output_scale="measured"` and `mean="concat"`, and the start of `reduction_init="pca"`. `gcp.fit` does it by itself.

    Args:
        model: with heads of `gcp.create_head`, or a head. On its device, in any mode, which stays.
        batches: of images as the model takes them, or (images, labels); of a head maps (B, C, H, W). The first batches
            that have 512 images together are read, or all.

    Raises:
        DataError: no images, or all of them zero where they enter the head.

    Examples:
        >>> import gcp, torch
        >>> head = gcp.create_head("svd_pade", in_channels=32, dim=8, output_scale="measured")
        >>> maps = torch.randn(16, 32, 7, 7)
        >>> gcp.initialize_head(head, [maps])
        >>> round((head(maps).norm() / maps.mean((2, 3)).norm()).item(), 3)
        1.0
    """
    device = next((tensor.device for tensor in [*model.parameters(), *model.buffers()]), torch.device("cpu"))
    if unmeasured(model):
        measure(model, FirstBatches(batches, None, lambda batch: _images(batch).to(device)))


def _images(batch: Any) -> Tensor:
    images = batch[0] if isinstance(batch, list | tuple) else batch
    if not isinstance(images, Tensor):
        raise DataError(f"a batch is of type {type(batch).__name__}; allowed: a tensor of images, or (images, labels).")
    return images


def describe(head: Head) -> str:
    """One line for the log."""
    parts = []
    if head.reduction_init == "pca":
        parts.append("reduction from their principal directions")
    if head.unit is not None:
        parts.append(f"features of root mean square {float(head.unit):.4g}")
    if head.scales is not None:
        names = ("output", "mean beside it")
        parts += [f"{name} times {scale:.4g}" for name, scale in zip(names, head.scales.tolist(), strict=False)]
    return f"{head.measured_on} images seen by the head: {', '.join(parts)}"


@torch.no_grad()
def measure(model: nn.Module, batches: Iterable[Tensor], sum: Sum = lambda t: t, main: bool = True) -> list[Head]:
    """Measure the heads in `model` that ask for it and have not been measured; returns these.

    Args:
        model: a model that contains the head, or the head itself. Only reduction and constants of the head change.
        batches: what the model takes, on its device, read twice; of several processes as many batches in each.
        sum: of a tensor over all processes, in place.
        main: whether this is the process whose decomposition all take.

    Raises:
        DataError: no images, or a size of zero on all of them.
        OptionError: a convolution that cannot be set.
    """
    heads = unmeasured(model)
    starting = {head: _ChannelMoments(head.in_channels) for head in heads if head.reduction_init == "pca"}
    sizes = {head: _Sizes(head) for head in heads}
    with _as_in_training(model):
        if starting:
            _run(model, batches, [(head.reduction, seen.add, None) for head, seen in starting.items()])
        for head, moments in starting.items():
            start_reduction(head.reduction, *moments.result(sum), sum, main)
        if units := [(head.reduction, head.unit, _Unit()) for head in heads if head.unit is not None]:
            _run(model, batches, [(reduction, None, features.add) for reduction, _, features in units])
        for _, unit, features in units:
            unit.copy_(features.result(sum))
        if heads:
            entering = [(head.reduction, seen.enter, None) for head, seen in sizes.items()]
            _run(model, batches, entering + [(head, None, seen.leave) for head, seen in sizes.items()])
    for seen in sizes.values():
        seen.set_constants(sum)
    return heads


@contextmanager
def _as_in_training(model: nn.Module) -> Iterator[None]:
    """Inside, batch norms that train use the statistics of the batch, and everything else is in evaluation mode."""
    modes = {module: module.training for module in model.modules()}
    model.train()  # which leaves frozen parts of a Classifier in evaluation mode
    norms = [module for module in modes if isinstance(module, _BatchNorm | Whitening2d) and module.training]
    kept = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    model.eval()
    for norm in norms:
        norm.train()
    try:
        yield
    finally:
        for buffer, before in kept:
            buffer.copy_(before)
        for module, training in modes.items():
            module.training = training


def _run(model: nn.Module, batches: Iterable[Tensor], hooks: Sequence[tuple[nn.Module, Any, Any]]) -> None:
    """Call the model on every batch; a hook is a module, and what takes its input and its output."""
    with ExitStack() as stack:
        for module, enter, leave in hooks:
            if enter:
                handle = module.register_forward_pre_hook(lambda _, given, enter=enter: enter(given[0]))
            else:
                handle = module.register_forward_hook(lambda _, given, out, leave=leave: leave(out))
            stack.callback(handle.remove)
        for batch in batches:
            model(batch)


class _ChannelMoments:
    """Mean and covariance of the channels of maps (B, C, H, W) over images and positions."""

    def __init__(self, channels: int):
        self.sums = torch.zeros(channels + 1, channels + 1, dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        self.sums = self.sums.to(x.device)
        for part in x.split(32):
            X = part.double().flatten(2).transpose(0, 1).flatten(1)
            X = torch.cat([X, torch.ones_like(X[:1])])
            self.sums += X @ X.mT

    def result(self, sum: Sum) -> tuple[Tensor, Tensor]:
        """Mean (C,) and covariance (C, C)."""
        sums = sum(self.sums)
        if not sums[-1, -1]:
            raise DataError("there are no images to take the principal directions from.")
        sums = sums / sums[-1, -1]
        mean = sums[-1, :-1]
        return mean, sums[:-1, :-1] - mean[:, None] * mean


def start_reduction(reduction: nn.Module, mean: Tensor, covariance: Tensor, sum: Sum, main: bool) -> None:
    """Let the rows of the convolution be principal directions of features of this mean (C,) and covariance (C, C).

    A direction points to the side of the mean. Where the features span fewer directions than there are rows, the other
    rows stay random. Batch norm gives all rows the same variance.

    Raises:
        OptionError: the weight of the convolution is computed from other parameters and cannot be set to these rows.
    """
    conv = reduction.conv if isinstance(reduction, Reduction) else None
    if not isinstance(conv, nn.Conv2d):
        raise OptionError(
            "head.reduction_init=pca needs a reduction by one convolution; set head.reduction_init=random"
        )
    W = conv.weight.flatten(1).double()
    eigenvalues, V = torch.linalg.eigh(covariance)
    count = min(len(W), int((eigenvalues > RANK * eigenvalues[-1]).sum()))
    rows = V.mT.flip(0)[:count]
    rows = rows * torch.where(rows @ mean < 0, -1.0, 1.0)[:, None]
    W[:count] = sum(rows if main else torch.zeros_like(rows))
    W[count:] /= W[count:].norm(dim=1, keepdim=True)
    weight = W.view_as(conv.weight).to(conv.weight.dtype)
    if is_parametrized(conv, "weight"):
        conv.weight = weight
    else:
        conv.weight.copy_(weight)


class _Unit:
    """Root mean square of reduced features."""

    def __init__(self) -> None:
        self.sums = torch.zeros(2, dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        square = x.double().square().sum()
        self.sums = self.sums.to(x.device) + torch.stack([square, square.new_tensor(x.numel())])

    def result(self, sum: Sum) -> Tensor:
        sums = sum(self.sums)
        if not sums[0] > 0:
            raise DataError("head.mean_unit=batches: there are no features in the first batches, or only zeros.")
        return (sums[0] / sums[1]).sqrt()


class _Sizes:
    """Sums of squares of the average of the map that enters a head, of what it pools, and of the mean beside it."""

    def __init__(self, head: Head):
        self.head, self.sums = head, torch.zeros(4, dtype=torch.float64)  # the last one counts images

    def enter(self, x: Tensor) -> None:
        average = x.mean((2, 3), dtype=torch.float64)
        self.sums = self.sums.to(x.device) + torch.stack(
            [average.square().sum(), *average.new_zeros(2), average.new_tensor(len(x))]
        )

    def leave(self, out: Tensor) -> None:
        if self.head.scales is not None:  # as a head without them
            width = self.head.pooled_features
            parts = zip((out[:, :width], out[:, width:]), self.head.scales, strict=False)
            for place, (part, scale) in enumerate(parts, 1):
                self.sums[place] += (part.double() / scale.double()).square().sum()

    def set_constants(self, sum: Sum) -> None:
        """Give the head what was measured."""
        sums, head = sum(self.sums), self.head
        assert head.measured_on is not None
        head.measured_on.fill_(int(sums[3]))
        if head.scales is None:
            return
        sizes = (sums[:3] / sums[3]).sqrt()
        names = ("the average of the map that enters the head", "the output of the head", "the mean beside it")
        for name, size in list(zip(names, sizes.tolist(), strict=True))[: 1 + len(head.scales)]:
            if not 0 < size < inf:
                raise DataError(
                    f"head.output_scale and head.mean measure the first {int(sums[3])} images, but {name} has the "
                    f"size {size:g} on them. Set head.output_scale=published and head.mean=none, or see to the images."
                )
        goal = sizes[0] / len(head.scales) ** 0.5 if head.output_scale == "measured" else sizes[1]
        head.scales.copy_(goal / sizes[1 : 1 + len(head.scales)])
