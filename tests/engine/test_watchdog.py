"""The watchdog on a real store, with processes that are threads and an end that is recorded."""

import re
import time

import pytest
import torch.distributed as dist

from gcp.engine.watchdog import Watchdog, hang_message


@pytest.fixture
def guard(tmp_path):
    store, guards, left = dist.FileStore(str(tmp_path / "store"), 3), [], {}

    def make(rank, timeout=60.0):
        dog = Watchdog(store, rank, 3, timeout, lambda code: left.setdefault(rank, code), interval=0.02)
        guards.append(dog)
        return dog

    make.left = left
    yield make
    for dog in guards:
        dog.stop()


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_one_failure_ends_the_others_and_is_told_once(guard):
    dogs = [guard(rank) for rank in range(3)]
    for dog in dogs[:2]:
        dog.start()
    assert dogs[2].report_failure() and not dogs[0].report_failure()
    assert until(lambda: len(guard.left) == 2)
    assert guard.left == {0: 1, 1: 1}


def test_a_hang_is_told_once_and_names_who_is_late(guard, capfd):
    dogs = [guard(rank, timeout=0.3) for rank in range(3)]
    for dog in dogs:
        dog.before_collective()
    for dog in (dogs[0], dogs[2]):
        dog.before_collective()
    for dog in dogs:
        dog.start()
    assert until(lambda: len(guard.left) == 3)
    told = capfd.readouterr().err
    assert told.count("error:") == 1 and re.search(r"\b0\.3 s; .*rank 1\.", told)


def test_no_hang_while_somebody_works_nor_before_the_first_step(guard):
    working, waiting = guard(0, timeout=0.3), guard(1, timeout=0.3)
    guard(2)
    for dog in (working, waiting):
        dog.start()
    time.sleep(0.6)
    assert not guard.left
    working.before_collective()
    for _ in range(10):
        working.heartbeat()
        time.sleep(0.06)
    assert not guard.left


def test_the_end_of_the_store_is_the_end_of_the_run(guard):
    dog = guard(0)
    dog._check = lambda: (_ for _ in ()).throw(dist.DistNetworkError("connection reset"))
    dog.start()
    assert until(lambda: guard.left == {0: 1})


def test_message_without_a_late_rank():
    assert "no rank is behind the others" in hang_message([4, 4], 60)
