"""Widths that evolve against widths that stay; `python scripts/evolve_study.py --help` shows how."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works in a checkout that is not installed

from gcp.cli.evolve_study import main
from gcp.cli.main import run

if __name__ == "__main__":
    raise SystemExit(run(main))
