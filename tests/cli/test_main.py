"""How a command ends."""

import errno
import sys

import pytest
import torch

from gcp.cli.main import run
from gcp.errors import ConfigError, GCPError


def command(error=None, code=None):
    def main(argv):
        if error is not None:
            raise error
        print("argv", *argv)
        return code

    return main


def test_success(capsys, monkeypatch):
    assert run(command(), ["a", "b=1"]) == 0
    assert run(command(code=143), []) == 143
    monkeypatch.setattr(sys, "argv", ["train.py", "x"])
    assert run(command()) == 0
    assert capsys.readouterr() == ("argv a b=1\nargv\nargv x\n", "")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (GCPError("no such thing"), "error: no such thing\n"),
        (ConfigError(["a: x", "b: y"], "z.yaml"), "error: 2 faults in z.yaml:\n  a: x\n  b: y\n"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), "error: [Errno 28] No space left on device: 'x'\n"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "error: [Errno 13] Permission denied: 'x'\n"),
        (
            torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. More."),
            "error: CUDA out of memory. Lower train.batch_size (and raise train.accumulate) or data.image_size.\n",
        ),
    ],
)
def test_a_fault_of_the_user_is_a_message_and_code_2(error, message, capsys):
    assert run(command(error), []) == 2
    assert capsys.readouterr() == ("", message)


def test_interrupted(capsys):
    assert run(command(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyError("x"), OSError(errno.EIO, "x")])
def test_a_defect_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        run(command(error), [])


def test_a_reader_that_leaves(spawn):
    """`python train.py --list heads | head -1` is no fault."""
    with spawn("train.py", "--list", "heads") as process:
        process.stdout.close()
        error = process.stderr.read()
    assert (process.returncode, error) == (0, "")


def test_as_a_process(spawn):
    """What only a real process shows: the exit code, and stderr without a traceback."""
    with spawn("train.py", "--confg", "x") as process:
        out, error = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert error.startswith("error: unknown flag '--confg'. Did you mean '--config'?") and error.count("\n") == 1
