"""Exponential moving average of the weights: the copy of the model that is evaluated.

    w_ema <- w_ema + (1 - d_t) (w - w_ema),      d_t = min(decay, (1 + t) / (10 + t))

at optimizer step t = 0, 1, ... The ramp lets a short run forget its first weights. Buffers (batch-norm statistics)
are copied, not averaged: they are averages already.
"""

from copy import deepcopy

import torch
from torch import nn

from gcp.errors import OptionError


class EMA:
    """A frozen copy of a model that follows it."""

    def __init__(self, model: nn.Module, decay: float):
        if not 0 < decay < 1:
            raise OptionError(f"ema: a decay between 0 and 1 is needed, got {decay}")
        self.decay = decay
        self.module = deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Follow `model` after optimizer step `step` (0 for the first)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.module.parameters()), list(model.parameters()), 1 - decay)
        for mine, theirs in zip(self.module.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)
