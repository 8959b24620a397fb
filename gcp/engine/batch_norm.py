"""Synchronised batch norm: its statistics are those of the whole batch, over all processes.

    mean = sum_r sum(x_r) / n,    var = sum_r sum((x_r - mean)^2) / n,    n = sum_r n_r

Both sums run over the processes r and are differentiated, so that the gradient is that of one process with the whole
batch. torch's SyncBatchNorm does the same on GPUs and refuses tensors on the CPU, where this one is used. The part of a
process may be empty. `Whitening2d` sums over the processes by itself once its attribute `processes` is set.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gcp.layers.whitening import Processes, Whitening2d


class SumOverProcesses(torch.autograd.Function):
    """y = sum of x over the processes; the gradient at x is the sum over the processes of the gradients at y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return _all_reduce(x, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _all_reduce(gradients[0], ctx.group), None


def _all_reduce(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    total = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total


class SyncBatchNorm(_BatchNorm):
    """Replaces a batch norm, with the same parameters and buffers, and timm's `drop` and `act` after it.

    (B, C, ...) -> the same shape. The statistics of half-precision inputs are computed in float32.
    """

    def __init__(self, source: _BatchNorm, group: dist.ProcessGroup):
        super().__init__(source.num_features, source.eps, source.momentum, source.affine, source.track_running_stats)
        self._parameters = source._parameters
        self._buffers = source._buffers
        self.training = source.training
        self.group = group
        self.drop: nn.Module = getattr(source, "drop", nn.Identity())
        self.act: nn.Module = getattr(source, "act", nn.Identity())

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions from two on."""

    def __deepcopy__(self, memo: dict) -> "SyncBatchNorm":
        # A process group cannot be copied; a copy of the module, such as that of the averaged weights, has the same.
        copy = SyncBatchNorm.__new__(SyncBatchNorm)
        nn.Module.__init__(copy)
        memo[id(self)] = copy
        copy.__dict__.update({k: v if k == "group" else deepcopy(v, memo) for k, v in self.__dict__.items()})
        return copy

    def forward(self, input: Tensor) -> Tensor:
        if self.training or self.running_mean is None:
            normalised = self._normalise(input)
        else:
            normalised = F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return self.act(self.drop(normalised))

    def _normalise(self, input: Tensor) -> Tensor:
        x = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input
        dims = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        count = _all_reduce(torch.tensor(float(x.numel() // x.shape[1]), dtype=torch.float64), self.group)
        # Sums in float64, so that the mean does not depend on how the batch is divided; C numbers cost little.
        mean = SumOverProcesses.apply(x.sum(dims, dtype=torch.float64), self.group) / count
        centred = x - mean.to(x.dtype).view(shape)
        var = SumOverProcesses.apply(centred.square().sum(dims, dtype=torch.float64), self.group) / count
        self._update_running_statistics(mean.detach(), var.detach() * count / (count - 1).clamp(min=1))
        scale = (var + self.eps).rsqrt().to(x.dtype)
        if self.weight is not None:
            scale = scale * self.weight
        out = centred * scale.view(shape)
        if self.bias is not None:
            out = out + self.bias.view(shape)
        return out.to(input.dtype)

    def _update_running_statistics(self, mean: Tensor, var: Tensor) -> None:
        """As torch does, with the unbiased variance."""
        if self.running_mean is None or self.running_var is None:
            return
        rate = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            rate = 1.0 / float(self.num_batches_tracked) if rate is None else rate
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), rate or 0.0)
        self.running_var.lerp_(var.to(self.running_var.dtype), rate or 0.0)


def synchronise(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` with every batch norm synchronised; parameters and buffers stay the same objects under the same names."""
    whitening = [module for module in model.modules() if isinstance(module, Whitening2d)]
    if device.type == "cuda" and not whitening:
        return _synchronise_on_gpu(model)
    # A group of its own: collective operations of one group must have the same order in all processes, and the order
    # of those of the gradients is another one.
    group = cast(dist.ProcessGroup, dist.new_group())
    for module in whitening:
        module.processes = Processes(group)
    if device.type == "cuda":
        return _synchronise_on_gpu(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, SyncBatchNorm):
                setattr(parent, name, SyncBatchNorm(child, group))
    return model


def _synchronise_on_gpu(model: nn.Module) -> nn.Module:
    from timm.layers import convert_sync_batchnorm

    return convert_sync_batchnorm(model)


def _is_synchronised(module: nn.Module) -> bool:
    """Whether the statistics of a module are taken over all processes."""
    if isinstance(module, Whitening2d):
        return module.processes.group is not None
    return isinstance(module, SyncBatchNorm | nn.SyncBatchNorm)


def synchronised(model: nn.Module) -> bool:
    """Whether every batch norm of `model` is synchronised."""
    return all(_is_synchronised(module) for module in model.modules() if isinstance(module, _BatchNorm | Whitening2d))


@contextmanager
def running_statistics(model: nn.Module) -> Iterator[None]:
    """Inside, synchronised batch norms normalise with their running statistics, so that one process can run the model
    alone; all else in `model` keeps its mode.
    """
    active = [module for module in model.modules() if _is_synchronised(module) and module.training]
    for module in active:
        module.eval()
    try:
        yield
    finally:
        for module in active:
            module.train()
