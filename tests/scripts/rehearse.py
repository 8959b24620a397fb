"""The rehearsal of the GPU report, `python rehearse.py OUT`: each part is forked from here, where all is imported.

PYTHONPATH has the checkout and its scripts. Fifteen interpreters that import torch, timm and the
rest would take longer than the parts.
"""

import os
import runpy
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import benchmark_heads  # noqa: F401
import benchmark_kernels  # noqa: F401
import benchmark_step  # noqa: F401
import gpu_report
import pytest  # noqa: F401
import timm  # noqa: F401

import gcp.cli.train
import gcp.runs.classifier  # noqa: F401


class Forked:
    """As much of subprocess.Popen as the report uses."""

    def __init__(self, words: list[str], cwd: Path, **_: object):
        self.args, self.returncode = words, None
        self.output = tempfile.TemporaryFile()  # noqa: SIM115, is read after the part has ended
        self.pid = os.fork()
        if not self.pid:
            os._exit(self._become(words[1:], cwd))

    def _become(self, words: list[str], cwd: Path) -> int:
        os.setsid()
        os.chdir(cwd)
        for handle in (1, 2):
            os.dup2(self.output.fileno(), handle)
        try:
            if words[0] == "-m":
                sys.argv = words[1:]
                runpy.run_module(words[1], run_name="__main__", alter_sys=True)
            else:
                sys.argv = words
                runpy.run_path(words[0], run_name="__main__")
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        return code

    def communicate(self, timeout: float = 60) -> tuple[str, None]:
        end = time.monotonic() + timeout
        while self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.01)
        self.output.seek(0)
        return self.output.read().decode(errors="replace"), None


if __name__ == "__main__":
    # its own name alone: the standard library calls subprocess.Popen too
    gpu_report.subprocess = SimpleNamespace(**vars(subprocess) | {"Popen": Forked})
    raise SystemExit(gpu_report.main(["--rehearse", "--out", sys.argv[1]]))
