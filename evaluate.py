"""Score a checkpoint; `python evaluate.py --help` shows how."""

from gcp.cli.evaluate import main
from gcp.cli.main import run

if __name__ == "__main__":
    raise SystemExit(run(main))
