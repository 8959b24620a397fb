"""What the processes of a run agree on at every step: the sums of all slices, and what any of them has to report.

One exchange of five numbers, at the moment when each process waits for its device anyway.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gcp.engine.distributed import Group


class StepStatus(NamedTuple):
    """Loss and right answers of the window, float64 (2,), over all processes; whether any of them found numbers that
    are not finite, was asked to stop, or (rank 0, whose clock counts) wants a checkpoint by the clock.
    """

    sums: Tensor
    broken: bool
    stop: bool
    save: bool


def reduce_step(group: Group, sums: Tensor, broken: bool, stop: bool, save: bool) -> StepStatus:
    """The status of the step over all processes."""
    if group.world == 1:
        return StepStatus(sums, broken, stop, save)
    flags = torch.tensor([broken, stop, save and group.main], dtype=sums.dtype, device=sums.device)
    total = group.sum(torch.cat([sums, flags]))
    return StepStatus(total[:2], *(flag > 0 for flag in total[2:].tolist()))
