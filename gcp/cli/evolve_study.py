"""`python scripts/evolve_study.py [flags] [key=value ...]`: what evolving widths are worth."""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import product
from pathlib import Path
from typing import Any

from gcp.cli.arguments import parse
from gcp.cli.evolution.cells import ARMS, HEADS, OPTIMIZERS, STARTS, Cell
from gcp.cli.evolution.tables import write_tables
from gcp.cli.flags import numbers
from gcp.config import load
from gcp.errors import GCPError, UnknownNameError

ROOT = Path(__file__).resolve().parents[2]
FLAGS = {
    "--out": (1, 1),
    "--seeds": (1, 1),
    "--jobs": (1, 1),
    **dict.fromkeys(("--starts", "--optimizers", "--heads"), (1, 9)),
    "--help": (0, 0),
}

RECIPE = "configs/digits/resnet.yaml"
# what the study sets itself, and what there is to choose instead
OWN = {
    **dict.fromkeys(("run.dir", "run.name"), "--out"),
    "run.seed": "--seeds",
    **dict.fromkeys(("model.backbone", "model.widths", "head.dim"), "--starts"),
    "head.name": "--heads",
    "optim.name": "--optimizers",
}

USAGE = f"""\
Widths that evolve on the digits of scikit-learn, against the widths of the start and against the final ones.

  python scripts/evolve_study.py [flags] [key=value ...]

A residual network of 8 layers begins with half the usual widths (narrow), twice as wide (wide), both with policy
spectrum, or with 2 million parameters (huge), with policy budget and 12.5 thousand as the bound. Three runs each:
  fixed      the widths of the start
  evolved    from there
  scratch    the final widths of evolved, trained from the beginning for as long

  --starts NAME ...     of {", ".join(STARTS)} (all)
  --optimizers NAME ... of {", ".join(OPTIMIZERS)} (all)
  --heads NAME ...      of {", ".join(HEADS)} (all)
  --seeds N             0 to N-1 (5)
  --jobs N              runs at once, of one thread each (1)
  --out FOLDER          for the runs and the tables (runs/studies/evolution)

Settings go to every run, those of the section evolve to the runs that evolve. Runs that are finished stay, so that the
same command continues a study that was stopped. cells.csv has a row for each run; it, table.md and study.png, the means
over seeds, are written after every three. Exit code: 0, or 1 where a run has failed.
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    arguments = parse(argv, FLAGS)
    flags = arguments.flags
    if "--help" in flags:
        print(USAGE)
        return 0
    axes: dict[str, Any] = {"--starts": STARTS, "--optimizers": OPTIMIZERS, "--heads": HEADS}
    chosen = [_names(flags, flag, known) for flag, known in axes.items()]
    seeds, jobs = numbers(flags, "--seeds", [5], 1)[0], numbers(flags, "--jobs", [1], 1)[0]
    out = Path(arguments.value("--out") or "runs/studies/evolution")
    triples = [
        Cell(start, optimizer, head, seed, "fixed", out)
        for seed in range(seeds)
        for start, optimizer, head in product(*chosen)
    ]
    cells = [cell.other(arm) for cell in triples for arm in ARMS]
    _check(cells, arguments.overrides)
    try:
        out.joinpath("cells").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GCPError(f"cannot make the folder {out}: {error.strerror or error}. Give --out FOLDER.") from error
    command = shlex.join(["python", "scripts/evolve_study.py", *argv])
    with ThreadPoolExecutor(jobs) as pool:
        codes = []
        for triple in as_completed(pool.submit(_triple, cell, arguments.overrides) for cell in triples):
            codes.append(triple.result())
            write_tables(out, cells, command)
    print((out / "table.md").read_text())
    return int(any(codes))


def _names(flags: Mapping[str, list[str]], flag: str, known: Sequence[str] | Mapping[str, Any]) -> list[str]:
    names = flags.get(flag, list(known))
    for name in names:
        if name not in known:
            raise UnknownNameError(flag.lstrip("-").rstrip("s"), name, known)
    return names


def _check(cells: Sequence[Cell], overrides: list[str]) -> None:
    """Raise a GCPError for what a run would refuse; those from scratch differ from the fixed in widths alone."""
    for key in (word.partition("=")[0] for word in overrides):
        if key in OWN:
            raise GCPError(f"{key} is what the study sets itself. Leave it out, or choose by {OWN[key]}.")
    for cell in cells:
        if cell.seed == 0 and cell.arm != "scratch":
            load(ROOT / RECIPE, _words(cell, overrides))


def _words(cell: Cell, overrides: list[str]) -> list[str]:
    """All settings of a run."""
    evolves = cell.arm == "evolved"
    return [*cell.words(), *(word for word in overrides if evolves or not word.startswith("evolve."))]


def _triple(cell: Cell, overrides: list[str]) -> int:
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
