"""The end of a run: the test split, scored once, with the final weights and with those best on validation."""

import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import median

import torch
from torch import nn

from gcp.engine import checkpoint
from gcp.engine.evaluate import Samples
from gcp.engine.folder import RunFolder
from gcp.engine.state import TrainingState, load_weights
from gcp.errors import CheckpointError

log = logging.getLogger("gcp")

METRICS = (("top1", "top-1 %"), ("top5", "top-5 %"), ("macro", "macro %"), ("loss", "loss"))
COLUMNS = {"loss": "val_loss", "top1": "val_accuracy"}


def score_run(
    state: TrainingState,
    folder: RunFolder,
    rule: str,
    score: Callable[[], dict],
    adapt: Callable[[dict], None] = lambda _: None,
    columns: Mapping[str, str] = COLUMNS,
) -> dict:
    """Contents of `result.json`.

    Args:
        state: the finished run; its evaluated weights are those of `best.pt` afterwards.
        folder: of the run.
        rule: how validation was held out.
        score: () -> scores of the evaluated weights on the test split.
        adapt: (checkpoint) gives the model the head that the checkpoint was scored with.
        columns: scores of the validation split, with the columns of the table that hold them.

    Where nothing was held out, or `best.pt` is missing or damaged, there are the final weights alone.
    """
    progress = state.progress
    final = {**score(), "step": progress.step, "epoch": progress.epoch}
    seconds = sum(row["seconds"] for row in progress.history)
    try:
        saved = checkpoint.load(folder.best)
    except CheckpointError as error:
        log.warning("the weights that were best on validation are lost, the final ones alone are scored: %s", error)
        return {"test": {"final": final}, "selection": f"{folder.best.name} is lost. {rule}", "seconds": seconds}
    validation = saved["scores"]
    if validation is None:
        return {"test": {"final": final}, "selection": f"nothing is chosen. {rule}", "seconds": seconds}
    place = {key: validation[key] for key in ("step", "epoch")}
    if validation["step"] == progress.step:
        best = dict(final)
    else:
        adapt(saved)
        load_weights(state.evaluated, saved["model"], str(folder.best))
        best = {**score(), **place}
    last_row = progress.history[-1] if progress.history else {}
    return {
        "test": {"final": final, "best": best},
        "validation": {
            "final": {key: last_row.get(column) for key, column in columns.items()},
            "best": validation,
        },
        "selection": f"best is chosen on the validation split. {rule}",
        "seconds": seconds,
    }


def read_result(folder: RunFolder, shown: Callable[[dict], str] | None = None) -> dict | None:
    """Contents of the `result.json` of a run, None where there is none that can be read and `shown`."""
    if not folder.result.is_file():
        return None
    try:
        result = json.loads(folder.result.read_text(encoding="utf-8"))
        (shown or format_result)(result)
        return result if isinstance(result["test"]["final"]["step"], int) else None
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        log.warning("%s cannot be read and is made again: %s", folder.result, error)
        return None


def format_result(
    result: dict, stage: int | None = None, metrics: Sequence[tuple[str, str]] = METRICS
) -> str:  # fmt: skip
    """The table that is printed at the end, of a stage with its number; `metrics`: scores with their headings."""
    title = "test split" if stage is None else f"test split, stage {stage}"
    test = result["test"]
    names = {"final": "final weights", "best": "best on validation"}
    rows = [(names[key], scores) for key, scores in test.items()]
    shown = [(key, title) for key, title in metrics if test["final"].get(key) is not None]
    lines = [f"{title:<20}" + "".join(f"{title:>10}" for _, title in shown) + f"{'epoch':>8}"]
    for name, scores in rows:
        cells = "".join(f"{scores[key]:>10.4f}" if key == "loss" else f"{scores[key]:>10.2f}" for key, _ in shown)
        lines.append(f"{name:<20}{cells}{scores['epoch']:>8}")
    return "\n".join(lines)


def most_confused(samples: Samples) -> tuple[int, int, int, int] | None:
    """The class, the one that most of its images are taken for, how many, and of how many; None without a mistake."""
    wrong = ~samples.right
    if not wrong.any():
        return None
    pairs = samples.labels[wrong] * samples.num_classes + samples.predicted[wrong]
    found, counts = pairs.unique(return_counts=True)
    true, other = divmod(int(found[counts.argmax()]), samples.num_classes)
    return true, other, int(counts.max()), int((samples.labels == true).sum())


MIB = 2**20


def cost(history: Sequence[dict], model: nn.Module, device: torch.device) -> dict:
    """For `result.json`.

    Args:
        history: rows of the finished epochs.
        model: that was trained.
        device: that it is on.

    Returns:
        `seconds_per_step` and `images_per_second`: medians over the epochs, in which evaluation does not count, the
        first one left out where there are others; None without an epoch. `peak_memory_mib`, of this process since it
        began: `memory` names what was measured. `parameters`, trained or not.
    """
    steps = [later["step"] - earlier["step"] for earlier, later in pairwise([{"step": 0}, *history])]
    rows = list(zip(history, steps, strict=True))
    rows = rows[1:] or rows
    return {
        "seconds_per_step": median(row["seconds"] / count for row, count in rows) if rows else None,
        "images_per_second": median(row["images_per_second"] for row, _ in rows) if rows else None,
        **_memory(device),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def _memory(device: torch.device) -> dict:
    if device.type == "cuda":
        return {"peak_memory_mib": torch.cuda.max_memory_allocated(device) / MIB, "memory": "allocated on the GPU"}
    try:
        import resource
    except ImportError:  # not on this system
        return {"peak_memory_mib": None, "memory": "not measured"}
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"peak_memory_mib": peak / MIB, "memory": "resident set of the process"}
