"""`python evaluate.py --checkpoint FILE|RUN [key=value ...]`."""

import logging
from pathlib import Path

from gcp.cli import help
from gcp.cli.arguments import parse
from gcp.cli.main import run
from gcp.cli.train import check_overrides
from gcp.errors import CheckpointError, GCPError, UnknownNameError

FLAGS = {"--checkpoint": (1, 1), "--json": (1, 1), **help.FLAGS}
SPLITS = ("test", "val", "train")
ALLOWED = ("data.", "evaluate.", "run.")

USAGE = f"""\
Score a checkpoint.

  python evaluate.py --checkpoint FILE|RUN [key=value ...] [--json FILE]
  python evaluate.py {help.LIST}

FILE is a last.pt or best.pt; RUN is a run folder or its name under runs/, of which best.pt is taken,
of a run in several stages that of the last stage which has one.
split=test|val|train chooses the split (test). Settings of data.*, evaluate.* and run.* can be changed.
Of a last.pt with averaged weights (train.ema) the averaged weights are scored.

Example:
  python evaluate.py --checkpoint runs/digits-resnet20_cifar-svd_pade-1 split=val
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    arguments = parse(argv, FLAGS)
    if text := help.answer(arguments, USAGE):
        print(text)
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = arguments.take("checkpoint") or arguments.value("--checkpoint")
    split = arguments.take("split") or "test"
    if given is None:
        raise GCPError(
            "no checkpoint. Type for example\n  python evaluate.py --checkpoint runs/NAME/best.pt\nor --help for more."
        )
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    check_overrides(arguments.overrides, ALLOWED, "an evaluation")
    result = score_checkpoint(find_checkpoint(given), split, arguments.overrides)
    _report(result)
    path = arguments.value("--json")
    if path is not None:
        _write(path, result)
    return 0


def find_checkpoint(given: str) -> Path:
    """The file itself, or the best (else the last) checkpoint of a run folder or of its last stage.

    Raises:
        CheckpointError: nothing there.
        GCPError: no such run.
    """
    from gcp.engine.folder import find_run_folder

    if Path(given).is_file() or given.endswith(".pt"):
        return Path(given)
    folder = find_run_folder(given)
    for place in (folder, *reversed(folder.stages())):
        for path in (place.best, place.last):
            if path.is_file():
                return path
    raise CheckpointError(f"{folder.path} has no checkpoint yet")


def score_checkpoint(path: Path, split: str, overrides: list[str]) -> dict:
    """Rebuild the model of a checkpoint and score it on a split. Accuracies in percent.

    Raises:
        CheckpointError: damaged, not ours, or of other classes than the data set has.
        ConfigError: overrides that do not fit.
    """
    from gcp.cli import build
    from gcp.cli.hybrid import build_pooling
    from gcp.cli.same_data import check_classes
    from gcp.config import from_dict
    from gcp.engine import checkpoint
    from gcp.engine.evaluate import evaluate
    from gcp.engine.state import load_weights

    saved = checkpoint.load(path)
    if "config" not in saved or "classes" not in saved:
        raise CheckpointError(f"{path} does not say of which model it is: it has no configuration")
    config = from_dict(saved["config"], overrides, source=f"the configuration in {path}")
    device = build.build_device(config)
    splits = build.build_splits(config)
    check_classes(saved, splits, str(path))
    switched = saved.get("switched")
    model = build.build_model(config, len(saved["classes"]), device, weights=False, switched=switched)
    averaged = saved.get("ema") is not None
    load_weights(model, saved["ema"] if averaged else saved["model"], str(path))
    loader = build.build_score_loader(config, splits, split, device)
    scores = evaluate(model, loader, device, config.run.amp, config.run.channels_last)
    return {
        "checkpoint": str(path),
        "averaged_weights": averaged,
        "data": config.data.name,
        "split": split,
        "rule": splits.rule,
        "backbone": config.model.backbone,
        "head": build_pooling(config, switched).name,
        **scores.as_dict(),
    }


def _report(result: dict) -> None:
    averaged = " (averaged weights)" if result["averaged_weights"] else ""
    print(f"{'checkpoint':<12}{result['checkpoint']}{averaged}")
    print(f"{'model':<12}{result['backbone']} + {result['head']}")
    print(f"{'split':<12}{result['split']} of {result['data']}, {result['count']} images")
    for key, title in (("top1", "top-1"), ("top5", "top-5"), ("macro", "macro")):
        if result[key] is not None:
            print(f"{title:<12}{result[key]:.2f} %")
    print(f"{'loss':<12}{result['loss']:.4f}")


def _write(path: str, result: dict) -> None:
    from gcp.engine.files import write_json

    try:
        write_json(path, result)
    except OSError as error:
        raise GCPError(f"cannot write {path}: {error}") from error


def entry() -> int:
    """The command as a program: exit code of the process."""
    return run(main)
