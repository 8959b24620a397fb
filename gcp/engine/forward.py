"""The model as a step calls it: gradients averaged over the processes, and compiled.

Both wrappers know the parameters that they were made for. When these are replaced by others, the `version` of the
training state counts up, and the next step is made with new wrappers.
"""

import gc
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gcp.engine.batch_norm import synchronised
from gcp.engine.distributed import ALONE, Group
from gcp.engine.state import TrainingState


class Forward:
    """Wraps the model of a state on its first call, and again whenever its parameters have been replaced."""

    def __init__(self, state: TrainingState, device: torch.device, compile: bool = False, group: Group = ALONE):
        self.state, self.device, self.compile, self.group = state, device, compile, group
        self._wrapped: Callable[[Tensor], Tensor] | None = None
        self._version = state.version

    def __call__(self) -> Callable[[Tensor], Tensor]:
        """Images -> logits, of the model as it is now."""
        if self._wrapped is not None and self._version != self.state.version:
            self._forget()
        if self._wrapped is None:
            model = self.state.model
            model = _distributed(model, self.device) if self.group.world > 1 else model
            self._wrapped = torch.compile(model) if self.compile else model
            self._version = self.state.version
        return self._wrapped

    def _forget(self) -> None:
        """Let go of the wrappers before there are new ones: the exchange of gradients and the compiled graphs hold the
        old parameters, and graphs of shapes that are gone would count against the limit of recompilations.
        """
        self._wrapped = None
        if self.compile or self.group.world > 1:
            gc.collect()
        if self.compile:
            torch.compiler.reset()


def _distributed(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with gradients averaged over the processes; batch-norm statistics of rank 0 where each has its own."""
    known = inspect.signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # its older name
    options: dict[str, Any] = {
        "device_ids": [device] if device.type == "cuda" else None,
        "gradient_as_bucket_view": True,  # no second copy of the gradients
        buffers: not synchronised(model),
    }
    return DistributedDataParallel(model, **options)
