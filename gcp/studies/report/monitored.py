"""What the monitor of the spectrum wrote down in the runs of each variant."""

from typing import NamedTuple

from gcp.studies.report.bands import Band, band, series
from gcp.studies.report.records import Record, number
from gcp.studies.report.study import Study

COLUMNS = (
    *("q0", "q5", "q25", "q50", "q75", "q95", "q100", "condition", "effective_rank", "rank", "samples", "channels"),
    *("rule_share", "condition_before_norm", "effective_rank_before_norm"),
)


class Monitored(NamedTuple):
    """A variant and its bands over the seeds, by column; columns without a number are absent."""

    label: str
    bands: dict[str, Band]

    def last(self, column: str) -> float | None:
        """The median of the seeds at the last record."""
        return self.bands[column].middle[-1] if column in self.bands else None


def monitored(study: Study) -> tuple[str, list[Monitored]]:
    """Unit of the axis of time, and the variants of which some run was monitored."""
    unit, scale = _time(study)
    found = [_monitored(study, row, scale) for row in study.rows]
    return unit, [each for each in found if each.bands]


def _time(study: Study) -> tuple[str, float | None]:
    """Unit of the axis and epochs per step: epochs where a run tells how many steps one has, else steps."""
    for cell in study.in_state("done"):
        rows = study.curve(cell)
        epoch, step = (number(rows[-1], key) for key in ("epoch", "step")) if rows else (None, None)
        if epoch and step:
            return "epoch", epoch / step
    return "step", None


def _monitored(study: Study, row: Record, scale: float | None) -> Monitored:
    tables = [study.curve(cell, "spectrum.csv") for cell in study.cells_of(row["variant"])]
    bands = {}
    for column in COLUMNS:
        if found := band([series(table, column, "step", scale or 1.0) for table in tables], len(study.rows)):
            bands[column] = found
    return Monitored(row["variant"], bands)
