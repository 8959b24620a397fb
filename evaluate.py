"""Alias of `gcp evaluate`; `python evaluate.py --help` shows how."""

from gcp.cli.main import entry

if __name__ == "__main__":
    raise SystemExit(entry("evaluate"))
