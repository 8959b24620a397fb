"""Alias of `gcp export`; `python scripts/export.py --help` shows how."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works in a checkout that is not installed

from gcp.cli.main import entry

if __name__ == "__main__":
    raise SystemExit(entry("export"))
