"""Mixed precision: the autocast region of a forward, and the loss scale that fp16 needs."""

from contextlib import AbstractContextManager

import torch

from gcp.errors import OptionError, UnknownNameError

AMP = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, amp: str) -> AbstractContextManager:
    """Autocast region for `amp` in none, bf16, fp16 on a device."""
    if amp not in AMP:
        raise UnknownNameError("mixed precision", amp, AMP)
    return torch.autocast(device.type, dtype=AMP[amp] or torch.bfloat16, enabled=amp != "none")


def create_scaler(device: torch.device, amp: str) -> torch.amp.GradScaler:
    """Gradient scaler; it does nothing unless `amp` is fp16.

    Raises:
        OptionError: fp16 on the CPU, whose convolutions have no usable fp16 path.
    """
    if amp == "fp16" and device.type == "cpu":
        raise OptionError("run.amp: fp16 needs a GPU. On the CPU use run.amp=bf16 or run.amp=none.")
    return torch.amp.GradScaler(device.type, enabled=amp == "fp16")
