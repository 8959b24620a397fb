"""`gcp predict MODEL FOLDER [CSV] [key=value ...]`: the classes of images without labels."""

import shlex

from gcp.cli import evaluate
from gcp.cli.arguments import parse, wanted
from gcp.command import as_typed
from gcp.errors import GCPError

USAGE = """\
Predict the classes of all images in a folder, into a CSV.

  gcp predict MODEL FOLDER [CSV] [key=value ...]

  MODEL    what evaluate takes: a checkpoint, a run folder or its name under runs/, a file of another project
  FOLDER   images, also in folders below it
  CSV      predictions.csv unless given

Images that cannot be read are left out and listed at the end; the exit code is then 3.

The same as `gcp evaluate --checkpoint MODEL --predict FOLDER [CSV]`; settings of data.*, evaluate.* and run.*.

Example:
  gcp predict runs/digits-resnet20_cifar-svd_pade-1 photos
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    if not argv or {"-h", "--help"} & set(argv):
        print(as_typed(USAGE))
        return 0
    count = next((number for number, word in enumerate(argv) if word.startswith("-") or "=" in word), len(argv))
    paths, others = argv[:count], argv[count:]
    if len(paths) not in (2, 3):
        raise GCPError(wanted("predict", "a CSV", paths))
    parse(others, evaluate.FLAGS, {"OUT": f"gcp predict {shlex.join(paths[:2])} {{}}"})
    return evaluate.main(["--checkpoint", paths[0], "--predict", *paths[1:], *others])
