"""Weights of others into files of this library and back; `python scripts/convert_checkpoint.py --help` shows how."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works in a checkout that is not installed

from gcp.cli.convert import main
from gcp.cli.main import run

if __name__ == "__main__":
    raise SystemExit(run(main))
