"""Numbers and lists as a reader wants them: few digits, a sign where it matters, a dash where there is nothing."""

from collections.abc import Sequence

from gcp.drawing import digits

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
    return NOTHING if value is None else digits.power(value)


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
