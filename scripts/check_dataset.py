"""What a data set on this machine holds, and what is wrong with it; `python scripts/check_dataset.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works in a checkout that is not installed

from gcp.cli.check_dataset import main
from gcp.cli.main import run

if __name__ == "__main__":
    raise SystemExit(run(main))
