"""Time of Glow with three forms of 1x1 convolutions; `python scripts/benchmark_glow.py --help` shows how."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works in a checkout that is not installed

from gcp.cli.benchmarks.glow import main
from gcp.cli.main import run

if __name__ == "__main__":
    raise SystemExit(run(main))
