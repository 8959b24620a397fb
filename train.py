"""Alias of `gcp train`; `python train.py --help` shows how."""

from gcp.cli.main import entry

if __name__ == "__main__":
    raise SystemExit(entry("train"))
