"""Write the report of a study; `python scripts/report.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works in a checkout that is not installed

from gcp.cli.main import run
from gcp.cli.report import main

if __name__ == "__main__":
    raise SystemExit(run(main))
