"""`gcp evaluate --checkpoint FILE|RUN [key=value ...]`."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from gcp.cli.arguments import ANSWERED, Arguments, answer, parse, with_checkpoint
from gcp.cli.listing import LIST
from gcp.cli.train import check_overrides
from gcp.drawing.terminal import print_facts
from gcp.errors import GCPError, UnknownNameError

if TYPE_CHECKING:
    from gcp.engine.distributed import Group
    from gcp.runs.scored_model import ScoredModel

FLAGS = {
    **dict.fromkeys(("--checkpoint", "--timm", "--order", "--compare", "--report", "--json"), (1, 1)),
    "--predict": (1, 2),
    "--cam": (1, 1000),
    "--calibrate": (0, 0),
    **ANSWERED,
}
EXAMPLES = {
    "--checkpoint": "gcp evaluate --checkpoint runs/NAME",
    "--compare": "gcp evaluate runs/NAME --compare runs/OTHER",
    "--predict": "gcp evaluate runs/NAME --predict photos",
    "--cam": "gcp evaluate runs/NAME --cam photos/first.jpg",
    "--report": "gcp evaluate runs/NAME --report report",
    "--json": "gcp evaluate runs/NAME --json scores.json",
}
SPLITS = ("test", "val", "train")
ORDERS = ("upper", "lower")
ALLOWED = ("data.", "evaluate.", "run.")

USAGE = f"""\
Score a model, compare two of them, predict, or show where a model looks.

  gcp evaluate MODEL [key=value ...] [--report FOLDER] [--json FILE]      (or --checkpoint MODEL, here and below)
  gcp evaluate --checkpoint MODEL --compare OTHER [--report FOLDER]
  gcp evaluate --checkpoint MODEL --predict FOLDER [CSV]
  gcp evaluate --checkpoint MODEL --calibrate
  gcp evaluate --checkpoint MODEL --cam IMAGE ... [--report FOLDER]
  gcp evaluate --timm NAME [--checkpoint FILE] data.name=NAME ...
  torchrun --nproc-per-node=N -m gcp evaluate ...
  gcp evaluate {LIST}

MODEL is a last.pt or best.pt; a run folder or its name under runs/, which stands for its best.pt (of a run in several
stages, that of the last stage that has one); a file of any layout that gcp convert reads, .safetensors too; or the
name of weights of timm. With --timm the model is one of timm's own, with weights from a file or from timm.

  --report FOLDER   per_class.csv, predictions.csv, confusion.png, confused.png (the most confused pairs with images),
                    calibration.png, scores.json; comparison.json with --compare; cam.png with --cam
  --json FILE       only the scores
  --compare OTHER   score both models on the images of the first, with McNemar's exact test
  --predict FOLDER  write the classes of all images in a folder into a CSV (predictions.csv); images that cannot be
                    read are left out and listed, and the exit code is 3
  --calibrate       fit a temperature on the validation images and store it in the checkpoint; from then on the logits
                    are divided by it wherever the model is loaded; then score
  --cam IMAGE ...   class activation maps for the predicted classes (cam.png)
  --order ORDER     upper or lower: which triangle a file of another project holds (upper)

split=test|val|train chooses the split (test). Settings of data.*, evaluate.* and run.* may be changed, such as
evaluate.crops=one|mirror|ten. A file that does not say which images it was trained on needs data.name and data.root.
If a last.pt has averaged weights (train.ema), these are scored.

Example:
  gcp evaluate --checkpoint runs/digits-resnet20_cifar-svd_pade-1 split=val --report report
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    arguments = parse(with_checkpoint(argv), FLAGS, EXAMPLES)
    if text := answer(arguments, USAGE):
        print(text)
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if given := arguments.take("checkpoint"):
        arguments.flags["--checkpoint"] = [given]
    split = arguments.take("split") or "test"
    _check(arguments, split)
    from gcp.runs.processes import process_group

    with process_group() as group:
        return _act(arguments, split, group)


def _check(arguments: Arguments, split: str) -> None:
    """Refuse what can be refused before anything is read."""
    from gcp.evaluation.files import check_file, check_folder

    flags = arguments.flags
    if not {"--checkpoint", "--timm"} & flags.keys():
        raise GCPError(
            "no checkpoint. Type for example\n  gcp evaluate --checkpoint runs/NAME/best.pt\nor --help for more."
        )
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    if (order := arguments.value("--order")) not in (None, *ORDERS):
        raise UnknownNameError("order", str(order), ORDERS)
    if "--compare" in flags and {"--predict", "--cam"} & flags.keys():
        raise GCPError("--compare scores two models; leave --predict and --cam for a command of their own.")
    check_overrides(arguments.overrides, ALLOWED, "an evaluation", ("split", "checkpoint"))
    check_file("--json", arguments.value("--json"))
    check_folder(arguments.value("--report"))
    if folder := next((word for word in flags.get("--cam", []) if Path(word).is_dir()), None):
        raise GCPError(f"{folder} is a folder; --cam takes images. Type for example --cam {folder}/*.jpg")
    if len(flags.get("--predict", [])) == 2:
        check_file("--predict", flags["--predict"][1])


def _act(arguments: Arguments, split: str, group: "Group") -> int:
    from gcp.engine import distributed
    from gcp.runs.open_model import open_model, open_timm_model

    given, timm, overrides = arguments.value("--checkpoint"), arguments.value("--timm"), arguments.overrides
    scored = not {"--predict", "--cam"} & arguments.flags.keys()
    if timm is not None:
        scored_model = open_timm_model(timm, given, overrides, group, scored)
    else:
        scored_model = open_model(str(given), overrides, group, arguments.value("--order"), scored=scored)
    distributed.start(group, scored_model.device)
    code = 0
    if "--calibrate" in arguments.flags:
        from gcp.evaluation.calibration import calibrate

        if group.world > 1:
            raise GCPError("--calibrate works in one process; leave torchrun out")
        calibrate(scored_model)
    if "--predict" in arguments.flags:
        from gcp.evaluation.unlabelled import predict

        code = predict(scored_model, *arguments.flags["--predict"], group=group)
    if "--cam" in arguments.flags:
        from gcp.evaluation.attention import draw

        draw(scored_model, arguments.flags["--cam"], arguments.value("--report"), group)
    if scored:
        _score(scored_model, arguments, split, group)
    return code


def _score(scored_model: "ScoredModel", arguments: Arguments, split: str, group: "Group") -> None:
    from gcp.evaluation.files import write_evaluation, write_scores
    from gcp.evaluation.scoring import format_comparison, format_scores, score, versus

    first = score(scored_model, split, group)
    print_facts(format_scores(first))
    comparison = None
    if other := arguments.value("--compare"):
        second, comparison = versus(first, other, arguments.overrides, group)
        print()
        print_facts(format_scores(second))
        print(f"\n{format_comparison(comparison)}")
    if group.main:
        write_scores(arguments.value("--json"), first)
        write_evaluation(arguments.value("--report"), first, comparison)
