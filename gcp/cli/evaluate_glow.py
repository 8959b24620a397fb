"""`gcp evaluate-glow --checkpoint FILE|RUN [key=value ...]`."""

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

from gcp.cli.arguments import ANSWERED, Arguments, answer, parse
from gcp.cli.evaluate import SPLITS
from gcp.cli.listing import LIST
from gcp.cli.train import check_overrides
from gcp.errors import GCPError, OptionError, UnknownNameError
from gcp.runs.flow.task import FLOW

if TYPE_CHECKING:
    from gcp.engine.distributed import Group

FLAGS = {
    **dict.fromkeys(("--checkpoint", "--predict", "--samples", "--out", "--json"), (1, 1)),
    "--temperature": (1, 20),
    **ANSWERED,
}
ALLOWED = ("data.root", "data.partial", "data.workers", "evaluate.", "run.")  # none that changes images or flow
MOST = 1000  # samples at a temperature: a picture has limits

USAGE = f"""\
Score a trained flow, find the images that are unlikely under it, draw samples.

  gcp evaluate-glow --checkpoint FLOW [split=test|val|train] [--out FOLDER] [--json FILE]
  gcp evaluate-glow --checkpoint FLOW --predict FOLDER [--out FOLDER] [--json FILE]
  gcp evaluate-glow --checkpoint FLOW --samples N [--temperature T ...] --out FOLDER
  torchrun --nproc-per-node=N -m gcp evaluate-glow ...
  gcp evaluate-glow {LIST}

FLOW is a last.pt or best.pt, a run folder or its name under runs/, of which best.pt is taken. Averaged weights
(train.ema) are taken where there are any.

  split=NAME        bits per dimension of a split (test, also where nothing else is asked for), with the standard error
                    over its images and the noise of the training: the number is that of result.json
  --predict FOLDER  bits per dimension of every image in a folder, the least likely first; needs no data set
  --samples N       N samples at each temperature (--temperature, default that of the run); run.seed=N for others
  --out FOLDER      bits.csv (of each image), interpolations.png and reconstructions.png of a split; images.csv with
                    --predict; samples.png with --samples
  --json FILE       the scores

Settings of evaluate.* and run.* can be changed, and data.root, data.partial, data.workers.

Example:
  gcp evaluate-glow --checkpoint runs/digits-glow-svd-1 split=val --samples 24 --out flow
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    arguments = parse(argv, FLAGS)
    if text := answer(arguments, USAGE, FLOW):
        print(text)
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if given := arguments.take("checkpoint"):
        arguments.flags["--checkpoint"] = [given]
    split = arguments.take("split")
    _check(arguments, split)
    if split is None and not {"--predict", "--samples"} & arguments.flags.keys():
        split = "test"
    from gcp.runs.processes import process_group

    with process_group() as group:
        _act(arguments, split, group)
    return 0


def _check(arguments: Arguments, split: str | None) -> None:
    """Refuse what can be refused before anything is read."""
    from gcp.evaluation.files import check_file, check_folder

    flags = arguments.flags
    if "--checkpoint" not in flags:
        raise GCPError(
            "no checkpoint. Type for example\n  gcp evaluate-glow --checkpoint runs/NAME\nor --help for more."
        )
    if split not in (None, *SPLITS):
        raise UnknownNameError("split", str(split), SPLITS)
    if "--samples" in flags:
        _count(flags["--samples"][0])
        if "--out" not in flags:
            raise GCPError("--samples draws a picture: add --out FOLDER")
    elif "--temperature" in flags:
        raise GCPError("--temperature is that of samples: add --samples N --out FOLDER")
    _temperatures(arguments)
    check_overrides(arguments.overrides, ALLOWED, "the evaluation of a flow")
    if "--json" in flags and "--samples" in flags and "--predict" not in flags and split is None:
        raise GCPError("--json holds scores, and --samples scores nothing: add split=test or --predict FOLDER")
    check_file("--json", arguments.value("--json"))
    check_folder(arguments.value("--out"), "--out")


def _count(word: str) -> int:
    if not (word.isascii() and word.isdigit() and 1 <= int(word) <= MOST):
        raise OptionError(f"--samples is {word!r}; allowed: a whole number from 1 to {MOST}.")
    return int(word)


def _temperatures(arguments: Arguments) -> list[float]:
    found = []
    for word in arguments.flags.get("--temperature", []):
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise OptionError(f"--temperature is {word!r}; allowed: numbers > 0, such as 0.7 1.0.")
        found.append(value)
    return found


def _act(arguments: Arguments, split: str | None, group: "Group") -> None:
    from gcp.engine import distributed
    from gcp.evaluation.files import write_values
    from gcp.evaluation.flow import about, draw, format_flow, score_folder, score_split
    from gcp.runs.flow.trained import open_model

    flags = arguments.flags
    trained = open_model(flags["--checkpoint"][0], arguments.overrides, group)
    distributed.start(group, trained.device)
    out = Path(flags["--out"][0]) if "--out" in flags else None
    print(format_flow(trained))
    found = about(trained)
    if split is not None:
        found["scores"] = score_split(trained, split, out, group)
    if folder := arguments.value("--predict"):
        found["folder"] = score_folder(trained, folder, out, group)
    if not group.main:
        return
    if "--samples" in flags and out is not None:
        draw(trained, _count(flags["--samples"][0]), _temperatures(arguments), out)
    if path := arguments.value("--json"):
        write_values(path, found)
