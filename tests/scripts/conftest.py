"""The scripts that are no commands of the package, imported as modules and called in this process."""

import sys
from pathlib import Path

import pytest
import torch

from gcp.kernels.cpu import set_threads

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.append(str(SCRIPTS))


@pytest.fixture
def call(capsys):
    """`call(main, words)` -> exit code, stdout, stderr, as in a process of its own."""
    import benchmarking

    threads = torch.get_num_threads()

    def call(main, words):
        try:
            code = benchmarking.run(lambda _: main(list(map(str, words))))
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    yield call
    set_threads(threads)
