"""The processes of one run, started by `torchrun` or by any launcher that sets RANK, WORLD_SIZE and LOCAL_RANK.

    rank 0..world-1      one process per device; rank 0 writes every file and every line
    sum, broadcast       the only two ways in which processes speak to each other

A run of one process is a group of one, in which both do nothing: the training loop has no second path.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from gcp.engine.watchdog import Watchdog
from gcp.errors import OptionError

T = TypeVar("T")

# A process that never arrives is the business of the watchdog, which names it; this limit only has to be longer.
PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class Group:
    """This process among those of the run: `rank` of `world`, `local_rank` on its machine.

    Every method but `beat` is a meeting: all processes have to come to it.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    watchdog: Watchdog | None = field(default=None, compare=False)

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def beat(self) -> None:
        """A sign of life between two meetings."""
        if self.watchdog:
            self.watchdog.beat()

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over the processes, in place; the same bits on each."""
        if self._meets():
            dist.all_reduce(tensor)
        return tensor

    def broadcast(self, value: T) -> T:
        """`value` of rank 0: plain Python, small."""
        if not self._meets():
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite `tensors` by those of rank 0."""
        if self._meets():
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def wait(self) -> None:
        """Go on when all are here."""
        self.broadcast(None)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The block runs in rank 0 and then in the others, which find what it has downloaded."""
        if not self.main:
            self.wait()
        yield
        if self.main:
            self.wait()

    def give_way(self) -> None:
        """Called where another process has failed and will say so: the watchdog ends this one meanwhile."""
        if self.watchdog:
            self.watchdog.expect_end()

    def _meets(self) -> bool:
        if self.watchdog:
            self.watchdog.arrive()
        return self.world > 1


ALONE = Group()


def from_environment() -> Group:
    """The group that the launcher announces; a group of one where it announces none.

    Raises:
        OptionError: the variables contradict each other.
    """
    world = _number("WORLD_SIZE", 1)
    if world == 1:
        return Group()
    group = Group(_number("RANK"), world, _number("LOCAL_RANK", 0))
    if not 0 <= group.rank < world:
        raise OptionError(f"RANK={group.rank} is not below WORLD_SIZE={world}. Start the run by torchrun.")
    return group


def _number(name: str, default: int | None = None) -> int:
    value = os.environ.get(name, None if default is None else str(default))
    if value is None or not value.isdigit():
        raise OptionError(
            f"several processes need {name} as a whole number; got {value!r}. Start the run by torchrun, which sets it."
        )
    return int(value)


def connect(group: Group) -> dist.Store | None:
    """The store through which the processes know of each other, before any device is chosen; None for one."""
    if group.world == 1:
        return None
    store, _, _ = next(dist.rendezvous("env://", timeout=timedelta(minutes=10)))
    return store


def start(group: Group, store: dist.Store | None, device: torch.device) -> None:
    """Let the processes of `group` exchange tensors: by NCCL between GPUs, by gloo between CPUs."""
    if store is None:
        return
    options: dict[str, Any] = {}
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend, options["device_id"] = "cpu:gloo,cuda:nccl", device
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("tensors", store),
        rank=group.rank,
        world_size=group.world,
        timeout=PATIENCE,
        **options,
    )


def stop() -> None:
    """End the exchange at the end of a run."""
    if dist.is_initialized():
        dist.destroy_process_group()
