"""`gcp train-glow --config FILE [key=value ...]`: a normalising flow, trained as by `gcp train`."""

from gcp.cli.listing import LIST
from gcp.cli.train import command
from gcp.runs.flow.task import FLOW

USAGE = f"""\
Train a normalising flow (Glow), a density of images.

  gcp train-glow --config RECIPE [key=value ...]
      a new run, with settings of the recipe (a YAML file, or a name such as glow/digits) changed by key=value
  gcp train-glow resume=RUN [key=value ...]
      continue a run where it stopped
  gcp train-glow --config RECIPE run.name=NAME resume=auto [key=value ...]
      continue that run, or begin it if it is not there
  torchrun --nproc-per-node=N -m gcp train-glow ...
      in N processes, with the same result
  gcp train-glow {LIST}
  gcp train-glow --help

Example:
  gcp train-glow --config glow/digits flow.form=plu

The run folder gets samples.png from time to time, and at the end result.json (bits per dimension of the test split, and
how far they are below those of a Gaussian), interpolations.png and reconstructions.png. With resume the same settings
may change as with gcp train.
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    return command(argv, USAGE, FLOW)
