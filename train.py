"""Train a classifier; `python train.py --help` shows how."""

from gcp.cli.train import entry

if __name__ == "__main__":
    raise SystemExit(entry())
