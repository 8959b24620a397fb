"""Write the info file of WebDataset shards; `python scripts/webdataset_info.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works in a checkout that is not installed

from gcp.cli.main import run
from gcp.cli.webdataset_info import main

if __name__ == "__main__":
    raise SystemExit(run(main))
