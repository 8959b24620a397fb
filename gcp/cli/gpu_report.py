"""`gcp gpu-report [flags]`: scripts/gpu_report.py of the checkout that this package is run from."""

import subprocess
import sys
from pathlib import Path

from gcp.command import as_typed
from gcp.errors import GCPError

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("scripts/gpu_report.py", "tests/gpu", "configs")  # none of them is installed with the package

USAGE = """\
Everything that needs an NVIDIA GPU, within eight minutes: tests, goals, heads, training steps, short runs.

  gcp gpu-report [--out FOLDER] [--limit SECONDS] [--parts NAME ...] [--rehearse]

  --out FOLDER      folder for report.md and report.json (gpu-report)
  --limit SECONDS   for all parts (480); a part that fails or takes too long does not stop the next
  --parts NAME ...  only these parts; an unknown name lists them
  --rehearse        every part on the CPU at tiny sizes; the figures mean nothing

Needs a checkout, and is then the same as bash scripts/gpu_report.sh. The exit code is 1 if a part failed.
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code of the script; faults are raised as GCPError."""
    if {"-h", "--help"} & set(argv):
        print(as_typed(USAGE))
        return 0
    if missing := [name for name in NEEDED if not (ROOT / name).exists()]:
        raise GCPError(
            f"the report needs a checkout, and {ROOT} has no {' or '.join(missing)}: git clone the repository of this "
            "package, then in its folder type bash scripts/gpu_report.sh."
        )
    # a process of its own, for the script imports the benchmarks beside it; the working folder stays that of the user
    return subprocess.call([sys.executable, str(ROOT / NEEDED[0]), *argv])
