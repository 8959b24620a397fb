"""Train a classifier; `python train.py --help` shows how."""

from gcp.cli.main import run
from gcp.cli.train import main

if __name__ == "__main__":
    raise SystemExit(run(main))
