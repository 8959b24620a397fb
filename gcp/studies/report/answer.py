"""What the study found, in sentences: who is best, who cannot be told apart, who is worse, who failed and why."""

from collections.abc import Sequence
from statistics import median

from gcp.drawing import labels
from gcp.errors import counted
from gcp.studies.report.results import StudyResults, number, numbers

NOTHING = "-"


def percent(value: float | None) -> str:
    """An accuracy in percent, two decimals."""
    return NOTHING if value is None else f"{value:.2f}"


def signed(value: float | None) -> str:
    """A difference in points with its sign, two decimals."""
    return NOTHING if value is None else f"{value:+.2f}"


def interval(low: float | None, high: float | None) -> str:
    """`[-0.31, +0.12]`."""
    return NOTHING if low is None or high is None else f"[{signed(low)}, {signed(high)}]"


def spread(mean: float | None, std: float | None) -> str:
    """`98.20 ± 0.31`, without the second half where there is one run."""
    return percent(mean) if mean is None or std is None else f"{mean:.2f} ± {std:.2f}"


def significant(value: float | None) -> str:
    """Three significant digits, thousands apart; powers of ten beyond 1e5 and below 1e-3."""
    if value is None:
        return NOTHING
    if value and not 1e-3 <= abs(value) < 1e5:
        return power(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def power(value: float | None) -> str:
    """`3e-7`, one digit: for errors and condition numbers."""
    return NOTHING if value is None else labels.power(value)


def probability(value: float | None) -> str:
    """A p value: two digits, `< 0.001` below."""
    return NOTHING if value is None else "< 0.001" if value < 1e-3 else f"{value:.2g}"


def whole(value: float | None) -> str:
    """A count."""
    return NOTHING if value is None else f"{value:,.0f}"


def listed(names: Sequence[str], most: int = 20) -> str:
    """`a, b and c`, with semicolons between names that hold commas; past `most` the rest is counted."""
    comma = "; " if any("," in name for name in names) else ", "
    shown = [*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])]
    last = "; and " if comma == "; " else " and "
    return last.join(part for part in (comma.join(shown[:-1]), *shown[-1:]) if part) or "none"


def share(part: int, total: int, noun: str) -> str:
    """`3 of 5 runs`, `all 5 runs`, `none of 5 runs`."""
    amount = "none of" if not part else "all" if part == total else f"{part} of"
    return f"{amount} {total} {noun}{'' if total == 1 else 's'}"


def answer(study: StudyResults) -> list[str]:
    """The sentences, the most important one first."""
    parts = (
        _unfinished,
        _chance,
        _best,
        _better,
        _equal,
        _undecided,
        _worse,
        _untested,
        _resolution,
        _sampling,
        _failed,
        _non_finite,
        _cost,
    )
    return [sentence for part in parts if (sentence := part(study))]


def _unfinished(study: StudyResults) -> str:
    pending = len(study.in_state("pending"))
    if not pending:
        return ""
    return f"Preliminary: {share(pending, len(study.cells), 'run')} have not finished, and what follows may change."


def _chance(study: StudyResults) -> str:
    rows = [row for row in study.rows if row.get("at_chance") == "1"]
    if not rows:
        return ""
    level = f"the {percent(number(rows[0], 'chance'))} % of naming the commonest class for every image"
    if len(rows) == len(study.rows):
        return f"No variant is above chance, {level}: nothing has been learnt, and there is nothing to compare."
    labels = listed([f"{row['variant']} ({percent(number(row, 'mean'))} %)" for row in rows])
    return f"Not above chance, {level}, so not trained at all: {labels}."


def _best(study: StudyResults) -> str:
    known = [row for row in study.rows if number(row, "mean") is not None]
    if not known:
        return "There is no result: no run has finished."
    best = max(known, key=lambda row: number(row, "mean") or 0.0)
    runs = counted(int(number(best, "n") or 0), "run")
    text = (
        f"The highest mean accuracy is that of {best['variant']}: {spread(number(best, 'mean'), number(best, 'std'))} %"
    )
    text += f" over {runs}"
    if study.is_reference(best):
        return f"{text}. It is {'the' if study.row(study.reference) else 'a'} reference."
    if study.standing(best) == "better":
        return f"{text}, {_difference(study, best['variant'])}."
    if study.standing(best) == "undecided":
        return f"{text}. That it is ahead of {study.compared_to} may be chance."
    return f"{text}."


def _difference(study: StudyResults, label: str) -> str:
    row = study.row(label) or {}
    return (
        f"{signed(number(row, 'difference'))} points from {study.compared_to} (95 % interval "
        f"{signed(number(row, 'low'))} to {signed(number(row, 'high'))})"
    )


def _each(study: StudyResults, labels: list[str]) -> str:
    return listed([f"{label} ({signed(number(study.row(label) or {}, 'difference'))})" for label in labels])


def _better(study: StudyResults) -> str:
    labels = study.with_standing("better")
    return f"Better than {study.compared_to}, in points: {_each(study, labels)}." if labels else ""


def _undecided(study: StudyResults) -> str:
    labels = study.with_standing("undecided")
    if not labels:
        return ""
    return (
        f"Not to be told apart from {study.compared_to} by these runs, in points: {_each(study, labels)}. That is no "
        "proof that they are equal."
    )


def _equal(study: StudyResults) -> str:
    labels = study.with_standing("equal")
    return f"The same accuracy as {study.compared_to} with every seed: {listed(labels)}." if labels else ""


def _worse(study: StudyResults) -> str:
    labels = study.with_standing("worse")
    return f"Worse than {study.compared_to}, in points: {_each(study, labels)}." if labels else ""


def _untested(study: StudyResults) -> str:
    labels = [label for label in study.with_standing("untested") if number(study.row(label) or {}, "mean") is not None]
    if not labels:
        return ""
    if not study.tested:
        return "No differences are tested, because there is no table.csv."
    told = [f"{label} ({reason})" if (reason := (study.row(label) or {}).get("verdict")) else label for label in labels]
    return f"Not tested, for want of seeds, of any spread between them or of a counterpart: {listed(told)}."


def _resolution(study: StudyResults) -> str:
    widths = [
        (high - low) / 2
        for row in study.rows
        if (low := number(row, "low")) is not None
        and (high := number(row, "high")) is not None
        and not study.is_reference(row)
    ]
    if not widths:
        return ""
    return (
        f"With {counted(len(study.seeds), 'seed')} the typical interval of a difference reaches "
        f"{percent(median(widths))} points to either side: smaller differences cannot be seen, more seeds "
        f"{'or more test images ' if _over_images(study) else ''}show them."
    )


def _over_images(study: StudyResults) -> bool:
    return any(row.get("interval") == "seeds and images" for row in study.rows)


def _sampling(study: StudyResults) -> str:
    """What the intervals are over."""
    if not any(number(row, "low") is not None for row in study.rows):
        return ""
    if _over_images(study):
        count = whole(max(numbers(study.rows, "test_images"), default=None))
        return f"Intervals and verdicts count the spread over seeds and the sampling of the {count} test images."
    return (
        "Intervals and verdicts are over seeds alone, on one set of test images: they do not say what other images "
        "would show, which can be as much again."
    )


def _failed(study: StudyResults) -> str:
    failed = study.in_state("failed")
    if not failed:
        return ""
    parts = []
    for row in study.rows:
        own = [cell for cell in failed if cell.get("variant") == row["variant"]]
        if own:
            total = sum(cell.get("variant") == row["variant"] for cell in study.cells)
            parts.append(f"{row['variant']} ({share(len(own), total, 'run')}: {_reason(own[0].get('message', ''))})")
    return f"Failed, and left out of means and tests: {listed(parts)}."


def _reason(message: str) -> str:
    """The first line of a message, cut to a sentence."""
    line = next(iter(message.strip().splitlines()), "") or "no message"
    return line.rstrip(".") if len(line) <= 120 else f"{line[:119]}…"


def _non_finite(study: StudyResults) -> str:
    hit = [cell for cell in study.cells if number(cell, "nonfinite")]
    labels = list(dict.fromkeys(cell.get("variant", "") for cell in hit))
    return f"Inf or NaN came up in {share(len(hit), len(study.cells), 'run')}: {listed(labels)}." if hit else ""


def _cost(study: StudyResults) -> str:
    known = [row for row in study.rows if number(row, "seconds_per_step")]
    if len(known) < 2:
        return ""
    fast, slow = (choose(known, key=lambda row: number(row, "seconds_per_step") or 0.0) for choose in (min, max))
    least, most = ((number(row, "seconds_per_step") or 0.0) * 1e3 for row in (fast, slow))
    if least == most:
        return f"A step takes {significant(least)} ms with every variant."
    return (
        f"A step takes from {significant(least)} ms ({fast['variant']}) to {significant(most)} ms ({slow['variant']}), "
        f"{significant(most / least)} times as long."
    )


def headline(study: StudyResults) -> str:
    """One sentence for the description of the page."""
    scores = numbers(study.rows, "mean")
    return f"{counted(len(study.rows), 'variant')} compared" + (f", best {percent(max(scores))} %" if scores else "")
