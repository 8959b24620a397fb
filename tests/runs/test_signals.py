"""Ctrl-C and termination as a wish that the run reads between two steps."""

import os
import signal
import threading

import pytest

from gcp.runs.processes import StopSignal

NUMBERS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", NUMBERS)
def test_first_is_noted_and_second_ends_at_once(number):
    with StopSignal() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop() and stop.exit_code == 128 + number
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in NUMBERS]
    with StopSignal():
        assert [signal.getsignal(number) for number in NUMBERS] != before
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_a_closed_stderr_is_no_reason_to_fail(monkeypatch):
    monkeypatch.setattr("gcp.runs.processes.STDERR", 10**6)
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop()


def test_outside_the_main_thread_nothing_is_caught():
    codes = []

    def work():
        with StopSignal() as stop:
            codes.append((stop(), stop.exit_code))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert codes == [(False, 143)]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 7), (signal.SIGTERM, 0)])
def test_a_forked_worker_leaves_the_decision_to_the_run(number, status):
    """The terminal sends Ctrl-C to the workers too: they go on, so that the step can be finished."""
    with StopSignal() as stop:
        pid = os.fork()
        if not pid:
            signal.raise_signal(number)
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status
        assert not stop()
