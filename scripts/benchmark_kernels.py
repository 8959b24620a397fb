"""Eigensolvers and kernels on a GPU, and its goals; `python scripts/benchmark_kernels.py --help` shows how."""

import os
import sys
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler measures memory, and talks about itself
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works in a checkout that is not installed

from gcp.cli.benchmarks.kernels import main
from gcp.cli.main import run

if __name__ == "__main__":
    raise SystemExit(run(main))
