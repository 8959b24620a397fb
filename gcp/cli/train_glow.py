"""`gcp train-glow --config FILE [key=value ...]`: a normalising flow, trained as by `gcp train`."""

from gcp.cli.listing import LIST
from gcp.cli.train import command
from gcp.runs.flow.task import FLOW

USAGE = f"""\
Train a normalising flow (Glow), a density of images.

  gcp train-glow --config RECIPE [key=value ...]
      a new run, the settings of the recipe (a YAML file, or a name such as glow/digits) changed by key=value
  gcp train-glow resume=RUN [key=value ...]
      continue a run folder where it stopped
  gcp train-glow --config RECIPE run.name=NAME resume=auto [key=value ...]
      continue that run, or begin it
  torchrun --nproc-per-node=N -m gcp train-glow ...
      in N processes, with the same result
  gcp train-glow {LIST}
  gcp train-glow --help

Example:
  gcp train-glow --config glow/digits flow.form=plu

The run folder gets samples.png now and then, and at the end result.json (bits per dimension of the test split, and by
how much it is below a Gaussian's), interpolations.png and reconstructions.png. With resume the same keys may change as
with gcp train.
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    return command(argv, USAGE, FLOW)
