"""`python scripts/train_glow.py --config FILE [key=value ...]`: a normalising flow, trained as by train.py."""

from gcp.cli import help
from gcp.cli.main import run
from gcp.cli.train import RESUMABLE, command
from gcp.runs.flow.kind import FLOWS

USAGE = f"""\
Train a normalising flow (Glow), a density of images.

  python scripts/train_glow.py --config FILE [key=value ...]   new run, settings of the file changed by key=value
  python scripts/train_glow.py resume=RUN [key=value ...]      continue a run folder where it stopped
  python scripts/train_glow.py --config FILE run.name=NAME resume=auto [key=value ...]
                                                               continue that run, or begin it
  torchrun --nproc-per-node=N scripts/train_glow.py ...        in N processes, with the same result
  python scripts/train_glow.py {help.LIST}
  python scripts/train_glow.py --help

Example:
  python scripts/train_glow.py --config configs/glow/digits.yaml flow.form=plu

The run folder gets samples.png now and then, and at the end result.json (bits per dimension of the test split, and by
how much it is below a Gaussian's), interpolations.png and reconstructions.png. With resume the same keys may change as
with train.py.
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    return command(argv, USAGE, RESUMABLE, FLOWS)


def entry() -> int:
    """The command as a program: exit code of the process."""
    return run(main)
