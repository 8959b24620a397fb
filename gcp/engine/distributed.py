"""The processes of one run, started by `torchrun` or by any launcher that sets RANK, WORLD_SIZE and LOCAL_RANK.

    rank 0..world-1      one process per device; rank 0 writes all files and all output
    sum, broadcast       the collective operations on which all others here are built

A run of one process is a group of one, in which both do nothing, so that the training loop is the same for any number.
"""

import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from gcp.engine.watchdog import Watchdog
from gcp.errors import OptionError

T = TypeVar("T")

RENDEZVOUS_TIMEOUT = timedelta(minutes=10)
# The watchdog ends a run that hangs and names the late ranks; torch's own limit only has to be longer than its.
COLLECTIVE_TIMEOUT = timedelta(hours=12)


@dataclass(frozen=True)
class Group:
    """This process among those of the run: `rank` of `world`, `local_rank` on its machine.

    The methods are collective, that is all processes have to call them, except `heartbeat`, `before_collective` and
    `wait_for_failure`.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    store: dist.Store | None = field(default=None, compare=False)
    watchdog: Watchdog | None = field(default=None, compare=False)

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def heartbeat(self) -> None:
        """Tell the watchdog that this process is working, in the middle of long work without collective operations."""
        if self.watchdog:
            self.watchdog.heartbeat()

    def before_collective(self) -> None:
        """Tell the watchdog that a collective operation follows. The methods of this class do so themselves; the
        exchange of gradients in the backward of `DistributedDataParallel` does not.
        """
        if self.watchdog:
            self.watchdog.before_collective()

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over the processes, in place; the same bits on each."""
        if self._collective():
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in one of the processes."""
        return bool(self.sum(torch.tensor(float(flag))))

    def broadcast(self, value: T) -> T:
        """The `value` of rank 0, a small object of plain Python."""
        if not self._collective():
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def broadcast_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite `tensors` by those of rank 0."""
        if self._collective():
            for tensor in tensors:
                dist.broadcast(tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor, src=0)

    def barrier(self) -> None:
        """Wait until all processes have called this."""
        self.broadcast(None)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The block runs in rank 0 and then in the others, which find what it has downloaded."""
        if not self.main:
            self.barrier()
        yield
        if self.main:
            self.barrier()

    def wait_for_failure(self) -> None:
        """Give another process that has failed the time to report why; the watchdog then ends this one."""
        if self.watchdog:
            self.watchdog.wait_for_failure()

    def _collective(self) -> bool:
        """Whether there are other processes; announces a collective operation to the watchdog."""
        self.before_collective()
        return self.world > 1


ALONE = Group()


def from_environment() -> Group:
    """The group of the launcher's environment variables; a group of one where they are not set.

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
    """The key-value store of the processes, which needs no device; None for a single process.

    Raises:
        OptionError: not all processes have connected within ten minutes.
    """
    if group.world == 1:
        return None
    store, _, _ = next(dist.rendezvous("env://", timeout=RENDEZVOUS_TIMEOUT))
    return dist.PrefixStore(_unique_prefix(group, store), store)


def _unique_prefix(group: Group, store: dist.Store) -> str:
    """A prefix for keys of the store that all processes of this start agree on and no earlier start has used.

    A launcher that restarts a run may keep its store with all keys of the start before. Each process therefore writes
    a new random identifier. Rank 0 takes its own as the prefix and publishes it together with the identifiers that it
    has read; another rank accepts the prefix only where its own identifier stands beside it, and confirms.
    """
    own, end = uuid.uuid4().hex, time.monotonic() + RENDEZVOUS_TIMEOUT.total_seconds()
    store.set(f"identifier/{group.rank}", own)
    while time.monotonic() < end:
        if group.main:
            read = [store.get(key).decode() if store.check([key]) else "" for key in _keys("identifier", group)]
            store.set("prefix", json.dumps([own, *read]))
            missing = [key for key in _keys(f"{own}/confirmed", group)[1:] if not store.check([key])]
            if not missing:
                return own
        elif store.check(["prefix"]):
            prefix, *read = json.loads(store.get("prefix"))
            if read[group.rank : group.rank + 1] == [own]:
                store.set(f"{prefix}/confirmed/{group.rank}", "")
                return prefix
        time.sleep(0.02)
    absent = ", ".join(key.rpartition("/")[2] for key in missing) if group.main else "0"
    raise OptionError(
        f"rank {absent} of {group.world} has not connected within {RENDEZVOUS_TIMEOUT}. Are all machines started?"
    )


def _keys(prefix: str, group: Group) -> list[str]:
    """One key of the store for each rank."""
    return [f"{prefix}/{rank}" for rank in range(group.world)]


def start(group: Group, device: torch.device) -> None:
    """Let the processes of a connected `group` exchange tensors: by NCCL between GPUs, by gloo between CPUs."""
    if group.store is None or dist.is_initialized():
        return
    options: dict[str, Any] = {}
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend, options["device_id"] = "cpu:gloo,cuda:nccl", device
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("tensors", group.store),
        rank=group.rank,
        world_size=group.world,
        timeout=COLLECTIVE_TIMEOUT,
        **options,
    )


def disconnect() -> None:
    """Destroy the process group at the end of a run, when all processes are there."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


class StepStatus(NamedTuple):
    """What the processes agree on at every step, in one reduction at the moment when each waits for its device anyway.

    Attributes:
        sums: loss and right answers of the window, float64 (2,), over all processes.
        broken: any of them found numbers that are not finite.
        stop: any of them was asked to stop.
        save: rank 0, whose clock counts, wants a checkpoint by the clock.
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
