"""The processes of one run, started by `torchrun` or by any launcher that sets RANK, WORLD_SIZE and LOCAL_RANK.

    rank 0..world-1      one process per device; rank 0 writes every file and every line
    sum, broadcast       the only two ways in which processes speak to each other

A run of one process is a group of one, in which both do nothing: the training loop has no second path.
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

ARRIVAL = timedelta(minutes=10)
# A process that never arrives is the business of the watchdog, which names it; this limit only has to be longer.
PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class Group:
    """This process among those of the run: `rank` of `world`, `local_rank` on its machine.

    Every method but `beat` and `arrive` is a meeting: all processes have to come to it.
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

    def beat(self) -> None:
        """A sign of life between two meetings."""
        if self.watchdog:
            self.watchdog.beat()

    def arrive(self) -> None:
        """Called where others may be waited for without a word, as in the exchange of gradients."""
        if self.watchdog:
            self.watchdog.arrive()

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over the processes, in place; the same bits on each."""
        if self._meets():
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in one of the processes."""
        return bool(self.sum(torch.tensor(float(flag))))

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
                dist.broadcast(tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor, src=0)

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
        self.arrive()
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
    """The store through which the processes know of each other, before any device is chosen; None for one.

    Raises:
        OptionError: some of them have not come within ten minutes.
    """
    if group.world == 1:
        return None
    store, _, _ = next(dist.rendezvous("env://", timeout=ARRIVAL))
    return dist.PrefixStore(_fresh_name(group, store), store)


def _fresh_name(group: Group, store: dist.Store) -> str:
    """A name that all processes of this start know and no earlier one has used.

    A launcher that restarts a run may keep its store, with everything in it. Each process therefore says a number that
    is new; rank 0 repeats those that it has heard beside the name, and who finds its own there may believe the name.
    """
    own, end = uuid.uuid4().hex, time.monotonic() + ARRIVAL.total_seconds()
    store.set(f"hello/{group.rank}", own)
    while time.monotonic() < end:
        if group.main:
            heard = [store.get(key).decode() if store.check([key]) else "" for key in _keys("hello", group)]
            store.set("welcome", json.dumps([own, *heard]))
            lost = [key for key in _keys(f"{own}/here", group)[1:] if not store.check([key])]
            if not lost:
                return own
        elif store.check(["welcome"]):
            name, *heard = json.loads(store.get("welcome"))
            if heard[group.rank : group.rank + 1] == [own]:
                store.set(f"{name}/here/{group.rank}", "")
                return name
        time.sleep(0.02)
    absent = ", ".join(key.rpartition("/")[2] for key in lost) if group.main else "0"
    raise OptionError(f"rank {absent} of {group.world} has not come within {ARRIVAL}. Are all machines started?")


def _keys(name: str, group: Group) -> list[str]:
    return [f"{name}/{rank}" for rank in range(group.world)]


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
        timeout=PATIENCE,
        **options,
    )


def leave() -> None:
    """End the exchange at the end of a run."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


class StepStatus(NamedTuple):
    """What the processes agree on at every step, in one exchange at the moment when each waits for its device anyway.

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
