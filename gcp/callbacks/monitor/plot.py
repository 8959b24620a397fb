"""The spectrum at the head over the steps of a run, from its `spectrum.csv`."""

from pathlib import Path
from typing import Any

from gcp.callbacks.monitor.table import read_rows
from gcp.drawing.figure import save

EIGENVALUES, RANK, SHARE, BEFORE = "#4477aa", "#228833", "#aa3377", "#ccbb44"  # apart also for colour-blind readers


def draw(spectrum_csv: str | Path, png: str | Path) -> None:
    """Draw the table into a PNG of 1500 x 900 pixels; a table without rows draws nothing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = read_rows(Path(spectrum_csv))
    if not rows:
        return
    figure = Figure(figsize=(15, 9), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    (eigenvalues, condition), (rank, gradient) = figure.subplots(2, 2, sharex=True)
    _bands(eigenvalues, rows)
    _line(condition, rows, "condition", color=EIGENVALUES, label="where the root is taken")
    _line(condition, rows, "condition_before_norm", color=BEFORE, label="before batch norm and ReLU")
    _dress(condition, "condition number", log=True)
    _ranks(rank, rows)
    _gradients(gradient, rows)
    for axes in (rank, gradient):
        axes.set_xlabel("optimizer step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(f"{Path(spectrum_csv).resolve().parent.name}: medians over the observed images", fontsize=11)
    save(figure, png)


def _series(rows: list[dict[str, str]], *columns: str) -> list[list[float]]:
    """Steps, and the values of each column, of the rows that have them all."""
    names = ("step", *columns)
    filled = [[float(row[name]) for name in names] for row in rows if all(row.get(name) for name in names)]
    return [list(values) for values in zip(*filled, strict=True)] if filled else [[] for _ in names]


def _line(axes: Any, rows: list[dict[str, str]], column: str, factor: float = 1.0, **style: Any) -> None:
    steps, values = _series(rows, column)
    if steps:
        marker = "o" if len(steps) <= 30 else None
        axes.plot(steps, [factor * value for value in values], linewidth=1.8, marker=marker, markersize=3.5, **style)


def _dress(axes: Any, label: str, log: bool = False) -> None:
    axes.set_ylabel(label)
    if log and any(value > 0 for line in axes.get_lines() for value in line.get_ydata()):
        axes.set_yscale("log")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_lines():
        axes.legend(frameon=False)


def _bands(axes: Any, rows: list[dict[str, str]]) -> None:
    for low, high, alpha in (("q0", "q100", 0.12), ("q5", "q95", 0.2), ("q25", "q75", 0.35)):
        steps, lower, upper = _series(rows, low, high)
        percent = f"{low[1:]} to {high[1:]} %"
        axes.fill_between(steps, lower, upper, color=EIGENVALUES, alpha=alpha, linewidth=0, label=percent)
    _line(axes, rows, "q50", color=EIGENVALUES, label="median")
    _dress(axes, "non-null eigenvalues of the covariance", log=True)


def _ranks(axes: Any, rows: list[dict[str, str]]) -> None:
    _line(axes, rows, "effective_rank", color=RANK, label="effective rank")
    _line(axes, rows, "effective_rank_before_norm", color=BEFORE, label="effective rank before batch norm and ReLU")
    _line(axes, rows, "rank", color=EIGENVALUES, label="rank")
    top = 1.1 * max(_series(rows, "channels")[1])
    for column, style in (("channels", "--"), ("samples", ":")):
        steps, values = _series(rows, column)
        if min(values) <= top:
            label = f"{column} ({values[-1]:.0f})"
            axes.plot(steps, values, color="#666666", linestyle=style, linewidth=1.2, label=label)
    _dress(axes, "rank of the covariance")
    axes.set_ylim(0, top)  # far more samples than channels do not bound the rank, and are not drawn


def _gradients(axes: Any, rows: list[dict[str, str]]) -> None:
    _line(axes, rows, "gradient_after", color=EIGENVALUES, label="norm of the gradient at the head's output")
    _line(axes, rows, "gradient_before", color=RANK, label="the same at its input")
    _line(axes, rows, "rule_share", color=SHARE, label="share of it that the rule changes against exact")
    _dress(axes, "gradient: norm, share", log=True)
