"""Settings that each variant gets for itself, chosen on validation images before the seeds of the study are run.

Every variant is run with every combination of the values that are tuned, with `tune_seeds` seeds that the study does
not report: the same number of runs for each, so that none wins by being tuned longer. The combination with the highest
mean accuracy of the final weights on the validation images is chosen, of equal ones that with the lowest loss. Test
scores of these runs are never read. `tuning.csv` has all of them.

A study that is extended may find a better value for a variant that has been run: these runs are moved to `replaced`.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, prod
from pathlib import Path
from statistics import mean
from typing import Any

from gcp.config import load
from gcp.config.load import flat
from gcp.engine.folder import write_text
from gcp.errors import GCPError, counted
from gcp.studies.cells import FAILED, Cell, Outcome, cells_of, read
from gcp.studies.grid import Study, Variant, shown, variants

FIRST_SEED = 1_000_000  # of these runs; a study has seeds from 0 on
FOLDER, LOG = "tuning", "tuning.csv"
REPLACED = "replaced"


@dataclass(frozen=True)
class Trial:
    """A combination of tuned values of a variant, with a run for each seed."""

    variant: Variant
    values: dict[str, Any]
    cells: tuple[Cell, ...]

    @property
    def score(self) -> tuple[float, float]:
        """Mean validation accuracy in percent, and minus the mean loss; -inf where a run has none."""
        found = [_validation(read(cell)) for cell in self.cells]
        if any(value is None for pair in found for value in pair):
            return -inf, -inf
        return mean(pair[0] or 0.0 for pair in found), -mean(pair[1] or 0.0 for pair in found)


def _validation(record: Outcome) -> tuple[float | None, float | None]:
    """Accuracy and loss of the final weights on the validation images."""
    found = ((record.result or {}).get("validation") or {}).get("final") or {}
    return found.get("top1"), found.get("loss")


def trial_study(study: Study) -> Study:
    """The study of these runs: the values that are tuned vary as well."""
    seeds = [FIRST_SEED + number for number in range(study.tune_seeds)]
    grid = {**study.grid, **study.tune}
    return replace(study, grid=grid, tune={}, chosen={}, seeds=seeds, reference=None, published={})


def trials(study: Study, folder: Path, chosen: Sequence[Variant]) -> list[Trial]:
    """All of those of the `chosen` variants of a study, in the order of its values."""
    sub, made = trial_study(study), []
    for each in variants(sub):
        values = {key: each.values[key] for key in study.grid}
        owner = next((variant for variant in chosen if variant.values == values), None)
        if owner is not None:
            cells = cells_of(sub, folder / FOLDER, [each])
            made.append(Trial(owner, {key: each.values[key] for key in study.tune}, tuple(cells)))
    return made


def choose(every: Iterable[Trial]) -> dict[str, dict[str, Any]]:
    """The values of the best trial by label of a variant.

    Raises:
        GCPError: no trial of a variant has a score.
    """
    best: dict[str, Trial] = {}
    for trial in every:
        label = trial.variant.label
        if label not in best or trial.score > best[label].score:
            best[label] = trial
    lost = [label for label, trial in best.items() if trial.score[0] == -inf]
    if lost:
        raise GCPError(
            f"--tune: none of the values gives {'; '.join(lost)} a validation score: their runs failed, or nothing is "
            f"held out (data.val_fraction). See {FOLDER}/cells, and {LOG}"
        )
    return {label: trial.values for label, trial in best.items()}


def set_aside(
    study: Study, folder: Path, chosen: Mapping[str, Mapping[str, Any]], kept: Iterable[Variant]
) -> list[str]:
    """Move the runs of the `kept` variants that have other values than were chosen for them, and say which."""
    said: dict[str, int] = {}
    for variant in kept:
        for cell in cells_of(study, folder, [variant]):
            if not cell.folder.config.is_file():
                continue
            settings = flat(load(cell.folder.config, written=True))
            before, now = {key: settings[key] for key in study.tune}, chosen[variant.label]
            if before == now:
                continue
            (folder / REPLACED).mkdir(exist_ok=True)
            number = len(list((folder / REPLACED).iterdir()))
            cell.folder.path.rename(folder / REPLACED / f"{cell.id}-{part(before)}-{number}")
            line = f"{variant.label}: {part(now)} in the place of {part(before)}"
            said[line] = said.get(line, 0) + 1
    return [f"{line}; {counted(count, 'run')} moved to {folder / REPLACED}" for line, count in said.items()]


def write_log(folder: Path, study: Study, every: Sequence[Trial]) -> list[dict[str, Any]]:
    """Write `tuning.csv`, a row for each run, and return the score of each trial as a row of `StudyProgress`."""
    text = io.StringIO()
    columns = ["variant", *study.tune, "seed", "state", "val_top1", "val_loss", "chosen", "message"]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for trial in every:
        picked = study.chosen.get(trial.variant.label) == trial.values
        for cell in trial.cells:
            record = read(cell)
            top1, loss = _validation(record)
            row: dict[str, Any] = {
                "variant": trial.variant.label,
                **{key: shown(value) for key, value in trial.values.items()},
            }
            row |= {"seed": cell.seed, "state": record.state, "chosen": int(picked)}
            row |= {
                "val_top1": "" if top1 is None else f"{top1:.6g}",
                "val_loss": "" if loss is None else f"{loss:.6g}",
            }
            row |= {"message": record.message.partition("\n")[0] if record.state == FAILED else ""}
            writer.writerow(row)
    write_text(folder / LOG, text.getvalue())
    scored = [(trial, trial.score[0]) for trial in every]
    return [
        {"variant": f"{trial.variant.label}, {part(trial.values)}", "val_mean": None if score == -inf else score}
        for trial, score in scored
    ]


def part(values: Mapping[str, Any]) -> str:
    """`lr=0.1, dim=64`."""
    return ", ".join(f"{key.rpartition('.')[2]}={shown(value)}" for key, value in values.items())


def budget(tune: Mapping[str, Sequence[Any]], seeds: int) -> str:
    """What every variant was given."""
    axes = "; ".join(f"{key}={','.join(map(shown, values))}" for key, values in tune.items())
    settings = prod(len(values) for values in tune.values())
    return (
        f"each variant had {counted(settings * seeds, 'run')} to be tuned, {settings} settings ({axes}) with "
        f"{counted(seeds, 'seed')} each that the table does not have, and the one with the highest validation accuracy "
        "was taken; a run that failed counts as the worst, and test scores were not read"
    )


def edges(tune: Mapping[str, Sequence[Any]], values: Mapping[str, Any]) -> list[str]:
    """The chosen values that are the smallest or largest of those that were tried."""
    found = []
    for key, value in values.items():
        tried = tune.get(key, ())
        if len(tried) < 2 or not all(isinstance(each, int | float) and not isinstance(each, bool) for each in tried):
            continue
        for least, word in ((min(tried), "smallest"), (max(tried), "largest")):
            if value == least:
                found.append(f"{key}={shown(value)} is the {word} that was tried, and one beyond may be better")
    return found


def notes(study: Study) -> list[str]:
    """For the tables: the budget, what was chosen, and what lies at the edge."""
    if not study.chosen:
        return []
    lines = [f"Tuned on validation: {budget(study.tune, study.tune_seeds)}."]
    for label, values in study.chosen.items():
        warning = "".join(f". Warning: {edge}" for edge in edges(study.tune, values))
        lines.append(f"{label}: {part(values)}{warning}")
    return lines
