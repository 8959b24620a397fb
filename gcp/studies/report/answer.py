"""What the study found, in sentences: who is best, who cannot be told apart, who is worse, who failed and why."""

from statistics import median

from gcp.errors import counted
from gcp.studies.report.records import number, numbers
from gcp.studies.report.study import Study
from gcp.studies.report.wording import listed, percent, share, signed, significant, spread


def answer(study: Study) -> list[str]:
    """The sentences, the most important one first."""
    parts = (
        _unfinished,
        _best,
        _better,
        _equal,
        _undecided,
        _worse,
        _untested,
        _resolution,
        _failed,
        _non_finite,
        _cost,
    )
    return [sentence for part in parts if (sentence := part(study))]


def _unfinished(study: Study) -> str:
    pending = len(study.in_state("pending"))
    if not pending:
        return ""
    return f"Preliminary: {share(pending, len(study.cells), 'run')} have not finished, and what follows may change."


def _best(study: Study) -> str:
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
        return f"{text}. That it is ahead of {study.rival} may be chance."
    return f"{text}."


def _difference(study: Study, label: str) -> str:
    row = study.row(label) or {}
    return (
        f"{signed(number(row, 'difference'))} points from {study.rival} (95 % interval "
        f"{signed(number(row, 'low'))} to {signed(number(row, 'high'))})"
    )


def _each(study: Study, labels: list[str]) -> str:
    return listed([f"{label} ({signed(number(study.row(label) or {}, 'difference'))})" for label in labels])


def _better(study: Study) -> str:
    labels = study.with_standing("better")
    return f"Better than {study.rival}, in points: {_each(study, labels)}." if labels else ""


def _undecided(study: Study) -> str:
    labels = study.with_standing("undecided")
    if not labels:
        return ""
    return (
        f"Not to be told apart from {study.rival} by these runs, in points: {_each(study, labels)}. That is no "
        "proof that they are equal."
    )


def _equal(study: Study) -> str:
    labels = study.with_standing("equal")
    return f"The same accuracy as {study.rival} with every seed: {listed(labels)}." if labels else ""


def _worse(study: Study) -> str:
    labels = study.with_standing("worse")
    return f"Worse than {study.rival}, in points: {_each(study, labels)}." if labels else ""


def _untested(study: Study) -> str:
    labels = [label for label in study.with_standing("untested") if number(study.row(label) or {}, "mean") is not None]
    if not labels:
        return ""
    if not study.tested:
        return "No differences are tested, because there is no table.csv."
    told = [f"{label} ({reason})" if (reason := (study.row(label) or {}).get("verdict")) else label for label in labels]
    return f"Not tested, for want of seeds, of any spread between them or of a counterpart: {listed(told)}."


def _resolution(study: Study) -> str:
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
        f"{percent(median(widths))} points to either side: smaller differences cannot be seen, more seeds show them."
    )


def _failed(study: Study) -> str:
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


def _non_finite(study: Study) -> str:
    hit = [cell for cell in study.cells if number(cell, "nonfinite")]
    labels = list(dict.fromkeys(cell.get("variant", "") for cell in hit))
    return f"Inf or NaN came up in {share(len(hit), len(study.cells), 'run')}: {listed(labels)}." if hit else ""


def _cost(study: Study) -> str:
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


def headline(study: Study) -> str:
    """One sentence for the description of the page."""
    scores = numbers(study.rows, "mean")
    return f"{counted(len(study.rows), 'variant')} compared" + (f", best {percent(max(scores))} %" if scores else "")
