"""`python -m gcp COMMAND ...`."""

from gcp.cli.main import entry

if __name__ == "__main__":
    raise SystemExit(entry())
