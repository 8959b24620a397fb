"""Widths that evolve on the digits of scikit-learn, against the widths of the start and against the final ones.

A residual network of 8 layers begins with half the usual widths (narrow), twice as wide (wide), both with policy
spectrum, or with 2 million parameters (huge), with policy budget and 12.5 thousand as the bound. Three runs each:

    fixed      the widths of the start
    evolved    from there
    scratch    the final widths of evolved, trained from the beginning for as long

Settings key=value go to every run, those of the section evolve to the runs that evolve. Runs that are finished stay, so
that the same command continues a study that was stopped. cells.csv has a row for each run; it, table.md and study.png,
the means over seeds, are written after every three. Exit code: 0, or 1 where a run has failed.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import Any

import benchmarking

from gcp.config import load
from gcp.drawing.figure import LIGHT, write_figure
from gcp.drawing.labels import whole_counts
from gcp.engine.folder import write_text
from gcp.engine.metrics import write_metrics
from gcp.errors import GCPError
from gcp.studies.statistics import compare_paired, mean_and_deviation

ROOT = Path(__file__).resolve().parents[1]
ARM_COLOURS = {"fixed": LIGHT["mute"], "evolved": LIGHT["red"], "scratch": LIGHT["blue"]}
MARKERS = "osD^v"


# of resnet8_cifar
USUAL = {
    "conv1": 16,
    "layer1.0.conv1": 16,
    "layer2.0.conv1": 32,
    "layer2.0.conv2": 32,
    "layer3.0.conv1": 64,
    "layer3.0.conv2": 64,
}


@dataclass(frozen=True)
class Start:
    """The usual widths times `factor`, `dim` channels after the reduction, and how the widths evolve."""

    factor: float
    dim: int
    evolution: tuple[str, ...]


EVERY = ("evolve.every=1", "evolve.start=1", "evolve.stop=60 %", "evolve.min_width=4")
BUDGET = (*EVERY, "evolve.policy=budget", "evolve.budget=12.5k parameters", "evolve.factor=2")
STARTS = {
    "narrow": Start(0.5, 12, EVERY),
    "wide": Start(2, 64, EVERY),
    "huge": Start(5, 128, BUDGET),  # 2 million parameters
}


OPTIMIZERS = {
    "sgd": ["optim.name=sgd", "optim.lr=0.1", "optim.weight_decay=5e-4"],
    "adamw": ["optim.name=adamw", "optim.lr=0.01", "optim.weight_decay=0.05"],
}


HEADS = ("svd_pade", "average")


# the digits have 8x8 pixels; 16 leave the last stage 4x4 positions
COMMON = ["model.backbone=resnet8_cifar", "data.image_size=16", "train.epochs=15", "run.threads=1"]
ARMS = ("fixed", "evolved", "scratch")


@dataclass(frozen=True)
class EvolutionRun:
    """One run."""

    start: str
    optimizer: str
    head: str
    seed: int
    arm: str
    out: Path

    def other(self, arm: str) -> "EvolutionRun":
        """Another run of the same triple."""
        return replace(self, arm=arm)

    @property
    def variant(self) -> str:
        """All but the seed."""
        return f"{self.start}, {self.optimizer}, {self.head}, {self.arm}"

    @property
    def folder(self) -> Path:
        return self.out / "cells" / f"{self.variant.replace(', ', '-')}-seed{self.seed}"

    def result(self) -> dict[str, Any] | None:
        """What it has come to, None where it has not."""
        path = self.folder / "result.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def words(self) -> list[str]:
        """The settings that make it. The evolved run has to be finished before the one from scratch."""
        start = STARTS[self.start]
        dim, shape = start.dim, {f"features.body.{name}": round(start.factor * usual) for name, usual in USUAL.items()}
        if self.arm == "scratch":
            result = self.other("evolved").result()
            assert result is not None
            shape = result["widths"]
            dim = shape.pop("head.reduction")
        return [
            *COMMON,
            *OPTIMIZERS[self.optimizer],
            *(start.evolution if self.arm == "evolved" else ()),
            f"head.name={self.head}",
            f"head.dim={dim}",
            f"model.widths={json.dumps(shape)}",
            f"run.seed={self.seed}",
            f"run.dir={json.dumps(str(self.folder.parent))}",
            f"run.name={self.folder.name}",
        ]

    def score(self) -> float | None:
        """Top-1 accuracy of the final weights on the test split, percent."""
        result = self.result()
        return result["test"]["final"]["top1"] if result else None


COLUMNS = ("variant", "runs", "test %", "parameters", "seconds", "less fixed", "less scratch")


def write_tables(out: Path, cells: Sequence[EvolutionRun], command: str) -> None:
    """Write both from what the runs have come to, and `study.png`."""
    done = [cell for cell in cells if cell.result()]
    table = [cell_row(cell) for cell in done]
    write_metrics(out / "cells.csv", table)
    draw_study(table, out / "study.png")
    rows = [
        _row([cell for cell in done if cell.variant == variant]) for variant in dict.fromkeys(c.variant for c in done)
    ]
    lines = [f"| {' | '.join(row)} |" for row in (COLUMNS, *rows)]
    lines.insert(1, f"|{'---|' * len(COLUMNS)}")
    text = (
        f"# Widths that evolve, on digits\n\n`{command}`\n\n{len(done)} of {len(cells)} runs. Test accuracy of the "
        "final weights, mean and standard deviation over seeds; parameters at the end, and seconds of training with "
        "edits and without evaluation, medians. Differences in points, paired by seed, with their 95 % interval.\n\n"
    )
    write_text(out / "table.md", text + "\n".join(lines) + "\n")


def cell_row(cell: EvolutionRun) -> dict[str, Any]:
    """A run that is finished. Accuracies in percent, time in seconds."""
    result = cell.result()
    assert result is not None
    return {
        "id": cell.folder.name,
        "variant": cell.variant,
        "start": cell.start,
        "optimizer": cell.optimizer,
        "head": cell.head,
        "widths": cell.arm,
        "seed": cell.seed,
        "test_top1": result["test"]["final"]["top1"],
        "val_top1": result["validation"]["final"]["top1"],
        "parameters": result["cost"]["parameters"],
        "seconds": result["seconds"],
        "seconds_per_step": result["cost"]["seconds_per_step"],
        "final_widths": " ".join(str(width) for width in result.get("widths", {}).values()),
    }


def _row(cells: Sequence[EvolutionRun]) -> tuple[str, ...]:
    rows = [cell_row(cell) for cell in cells]
    mean, deviation = mean_and_deviation([row["test_top1"] for row in rows])
    arm = cells[0].arm
    return (
        cells[0].variant,
        str(len(cells)),
        f"{mean:.2f}" + (f" ± {deviation:.2f}" if deviation is not None else ""),
        f"{median(row['parameters'] for row in rows):,.0f}",
        f"{median(row['seconds'] for row in rows):.0f}",
        _difference(cells, "fixed") if arm != "fixed" else "",
        _difference(cells, "scratch") if arm == "evolved" else "",
    )


def _difference(cells: Sequence[EvolutionRun], arm: str) -> str:
    pairs = [(cell.score(), cell.other(arm).score()) for cell in cells]
    both = [(mine, theirs) for mine, theirs in pairs if mine is not None and theirs is not None]
    found = compare_paired([mine for mine, _ in both], [theirs for _, theirs in both])
    if found.difference is None:
        return ""
    return f"{found.difference:+.2f}" + (f" ({found.low:+.2f} to {found.high:+.2f})" if found.low is not None else "")


def draw_study(rows: Sequence[dict[str, Any]], png: Path) -> None:
    """Draw the rows of `cells.csv`: a panel for each start, a marker for each optimizer and head.

    Small: the runs; large: the mean over seeds, at the median of the parameters; a line leads from the start to the
    widths that came out.
    """
    starts = list(dict.fromkeys(row["start"] for row in rows))
    kinds = list(dict.fromkeys((row["optimizer"], row["head"]) for row in rows))

    def paint(figure: Any) -> None:
        from matplotlib.lines import Line2D

        for axes, start in zip(figure.subplots(1, len(starts), sharey=True, squeeze=False)[0], starts, strict=True):
            for marker, kind in zip(MARKERS, kinds, strict=False):
                own = [row for row in rows if row["start"] == start and (row["optimizer"], row["head"]) == kind]
                _draw_kind(axes, own, marker)
            axes.set(xlabel="parameters", title=start)
            whole_counts(axes, "x", log=True)
            axes.grid()
        figure.axes[0].set_ylabel("test accuracy, %")
        signs = [Line2D([], [], ls="", marker="o", color=colour, label=arm) for arm, colour in ARM_COLOURS.items()]
        signs += [
            Line2D([], [], ls="", marker=marker, color=LIGHT["ink"], fillstyle="none", label=", ".join(kind))
            for marker, kind in zip(MARKERS, kinds, strict=False)
        ]
        figure.legend(handles=signs, loc="outside lower center", ncols=4)

    write_figure(png, 3.2, paint, "Test accuracy over parameters")


def _draw_kind(axes: Any, rows: Sequence[dict[str, Any]], marker: str) -> None:
    """The runs of one start, optimizer and head."""
    ends = {}
    for arm, colour in ARM_COLOURS.items():
        runs = [(int(row["parameters"]), float(row["test_top1"])) for row in rows if row["widths"] == arm]
        if not runs:
            continue
        axes.scatter(*zip(*runs, strict=True), marker=marker, s=8, color=colour, alpha=0.4, linewidths=0)
        ends[arm] = median(count for count, _ in runs), mean(top1 for _, top1 in runs)
        axes.scatter(*ends[arm], marker=marker, s=45, color=colour, edgecolors="white", zorder=3)
    if {"fixed", "evolved"} <= ends.keys():
        axes.plot(
            *zip(ends["fixed"], ends["evolved"], strict=True), color=ARM_COLOURS["evolved"], alpha=0.5, linewidth=1
        )


RECIPE = "configs/digits/resnet.yaml"


# what the study sets itself, and what there is to choose instead
OWN = {
    **dict.fromkeys(("run.dir", "run.name"), "--out"),
    "run.seed": "--seeds",
    **dict.fromkeys(("model.backbone", "model.widths", "head.dim"), "--starts"),
    "head.name": "--heads",
    "optim.name": "--optimizers",
}


def _check(cells: Sequence[EvolutionRun], overrides: list[str]) -> None:
    """Raise a GCPError for what a run would refuse; those from scratch differ from the fixed in widths alone."""
    for key in (word.partition("=")[0] for word in overrides):
        if key in OWN:
            raise GCPError(f"{key} is what the study sets itself. Leave it out, or choose by {OWN[key]}.")
    for cell in cells:
        if cell.seed == 0 and cell.arm != "scratch":
            load(ROOT / RECIPE, _words(cell, overrides))


def _words(cell: EvolutionRun, overrides: list[str]) -> list[str]:
    """All settings of a run."""
    evolves = cell.arm == "evolved"
    return [*cell.words(), *(word for word in overrides if evolves or not word.startswith("evolve."))]


def _triple(cell: EvolutionRun, overrides: list[str]) -> int:
    """The three runs of a start, one after the other. Returns the exit code of the first that fails."""
    for each in map(cell.other, ARMS):
        if each.result() is None:
            words = [sys.executable, str(ROOT / "train.py"), "--config", str(ROOT / RECIPE), *_words(each, overrides)]
            log = each.folder.with_name(f"{each.folder.name}.txt")
            with open(log, "a", encoding="utf-8") as file:
                environment = os.environ | {"OMP_NUM_THREADS": "1"}
                code = subprocess.run([*words, "resume=auto"], stdout=file, stderr=file, env=environment).returncode
            if code:
                print(f"{each.folder.name}: failed, see {log}", flush=True)
                return code
        print(f"{each.folder.name}: {each.score():.2f} %", flush=True)
    return 0


def main(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    axes: dict[str, Any] = {"starts": STARTS, "optimizers": OPTIMIZERS, "heads": HEADS}
    for name, known in axes.items():
        text = f"of {', '.join(known)} (all)"
        parser.add_argument(f"--{name}", nargs="+", choices=list(known), default=list(known), help=text)
    parser.add_argument("--seeds", type=benchmarking.whole(1), default=5, metavar="N", help="0 to N-1 (5)")
    text = "runs at once, of one thread each (1)"
    parser.add_argument("--jobs", type=benchmarking.whole(1), default=1, metavar="N", help=text)
    text = "for the runs and the tables (runs/studies/evolution)"
    parser.add_argument("--out", type=Path, default=Path("runs/studies/evolution"), metavar="FOLDER", help=text)
    words = [word for word in argv if "=" in word and not word.startswith("-")]  # settings, wherever they stand
    arguments = parser.parse_args([word for word in argv if word not in words])
    triples = [
        EvolutionRun(start, optimizer, head, seed, "fixed", arguments.out)
        for seed in range(arguments.seeds)
        for start, optimizer, head in product(arguments.starts, arguments.optimizers, arguments.heads)
    ]
    cells = [cell.other(arm) for cell in triples for arm in ARMS]
    _check(cells, words)
    try:
        arguments.out.joinpath("cells").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GCPError(
            f"cannot make the folder {arguments.out}: {error.strerror or error}. Give --out FOLDER."
        ) from error
    command = shlex.join(["python", "scripts/evolve_study.py", *argv])
    codes = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for triple in as_completed(pool.submit(_triple, cell, words) for cell in triples):
            codes.append(triple.result())
            write_tables(arguments.out, cells, command)
    print((arguments.out / "table.md").read_text())
    return int(any(codes))


if __name__ == "__main__":
    raise SystemExit(benchmarking.run(main))
