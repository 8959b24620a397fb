"""Score a checkpoint; `python evaluate.py --help` shows how."""

from gcp.cli.evaluate import entry

if __name__ == "__main__":
    raise SystemExit(entry())
