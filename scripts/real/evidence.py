"""What the studies of real images say: tables and figure of docs/evidence.md, made from the CSV files beside it.

    python scripts/real/evidence.py                                # tables and figures of docs/evidence.md
    python scripts/real/evidence.py --collect runs/studies/NAME    # first take the results of a finished study over

A study lies in docs/study/real/NAME: cells.csv, table.csv and tuning.csv as `gcp ablate` writes them, and images.csv,
which test images each run has right (`right`: one bit an image, in hexadecimal). From the last one accuracies,
differences and their intervals are computed anew, over seeds and test images.
"""

import argparse
import csv
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # works in a checkout that is not installed

import numpy as np

from gcp.cli.main import run
from gcp.drawing.figure import LIGHT, write_figure
from gcp.engine.folder import RunFolder
from gcp.errors import DataError
from gcp.studies.cells import read_images
from gcp.studies.statistics import Paired, compare_images, holm

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ROOT / "docs" / "study" / "real"
PAGE = ROOT / "docs" / "evidence.md"
FIGURE = ROOT / "docs" / "evidence.png"
QUESTIONS = ROOT / "docs" / "evidence_questions.png"
FILES = ("cells.csv", "table.csv", "tuning.csv")
REFERENCE = "average"
CONTROL = "reduced average"  # behind the reduction of the covariance heads: all that differs is the pooling
FIRST_ORDER = ("average", "reduced average", "wide average", "gem")
DRAWN = ("emoji-blocks4", "textures-blocks4", "fonts-blocks4")
LAST = ("emoji-last", "textures-last", "fonts-last")
LITE2 = ("emoji-lite2", "textures-lite2", "fonts-lite2")
CONDITIONED = ("textures-conditioning", "fonts-conditioning")

# The second figure: a panel a question, a line in it (label, study, variant, reference).
ASKED: dict[str, list[tuple[str, str, str, str]]] = {
    "14x14 map: second_moment over reduced average": [
        (name.split("-")[0], name, "second_moment", CONTROL) for name in DRAWN
    ],
    "7x7 map: second_moment over average": [(name.split("-")[0], name, "second_moment", REFERENCE) for name in LAST],
    "14x14 map of a larger backbone: second_moment over reduced average": [
        (name.split("-")[0], name, "second_moment", CONTROL) for name in LITE2
    ],
    "fashion from random weights: over average": [
        (head, "fashion-scratch", head, REFERENCE) for head in ("second_moment", "svd_pade", CONTROL)
    ],
    "emoji fine-tuned: over average": [
        (head, "emoji-finetune", head, REFERENCE) for head in ("second_moment", "svd_pade", CONTROL)
    ],
    "fashion, 14x14 map: by images of a class": [
        (number, "fashion-shots", f"second_moment, {number} a class", f"{CONTROL}, {number} a class")
        for number in ("5", "20", "100")
    ],
    "14x14 map: svd_pade conditioned, over svd_pade": [
        (f"{name.split('-')[0]}, {way}", name, f"svd_pade, {way}", "svd_pade")
        for name in CONDITIONED
        for way in ("orthogonal", "nog", "olr")
    ],
    "fonts, 14x14 map: epochs, over second_moment with 12": [
        (label, "fonts-epochs", label, "second_moment, 12 epochs")
        for label in ("second_moment, 6 epochs", "second_moment, 24 epochs", "reduced average, 48 epochs")
    ],
    "7x7 map: second_moment over svd_pade": [(name.split("-")[0], name, "second_moment", "svd_pade") for name in LAST],
    "7x7 map: svd_pade, d = 128 over 64": [
        (name.split("-")[0], name, "svd_pade, d = 128", "svd_pade") for name in LAST
    ],
}

Right = dict[str, np.ndarray]  # by variant: which test images each run has right, (seeds, images) bool


def rows(path: Path) -> list[dict[str, str]]:
    """A CSV file, row by row."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def collect(study: Path, out: Path) -> None:
    """Take over the tables of a finished study and, of each of its runs, the images that it has right."""
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (study / name).is_file():
            shutil.copyfile(study / name, out / name)
    with open(out / "images.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("id", "variant", "seed", "images", "right"))
        for cell in rows(study / "cells.csv"):
            found = read_images(RunFolder(study / "cells" / cell["id"]))
            if cell["state"] != "done" or found is None:
                raise DataError(
                    f"{study / 'cells' / cell['id']} has no scores of single images: finish the study first."
                )
            bits = np.packbits(found.right).tobytes().hex()
            table.writerow((cell["id"], cell["variant"], cell["seed"], len(found.right), bits))


def load(folder: Path) -> Right:
    """Of each variant of a study, which test images its runs have right, seed by seed; averages first."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for row in rows(folder / "images.csv"):
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(row["right"]), np.uint8))[: int(row["images"])]
        found.setdefault(row["variant"], {})[int(row["seed"])] = bits.astype(bool)
    names = sorted(found, key=lambda name: name not in (REFERENCE, CONTROL))
    return {name: np.stack([found[name][seed] for seed in sorted(found[name])]) for name in names}


def compare(study: Right, reference: str = REFERENCE) -> dict[str, tuple[Paired, float | None]]:
    """Each variant against the reference, in percentage points, with Holm's p over all of them."""
    found = {name: compare_images(right, study[reference]) for name, right in study.items() if name != reference}
    return dict(zip(found, zip(found.values(), holm([each.p for each in found.values()]), strict=True), strict=True))


def tuned(folder: Path) -> dict[str, str]:
    """The value that each variant was tuned to, without the key; `edge` where it is the smallest or largest tried."""
    key = next(name for name in rows(folder / "tuning.csv")[0] if "." in name)
    tried: dict[str, list[tuple[float, bool]]] = {}
    for row in rows(folder / "tuning.csv"):
        tried.setdefault(row["variant"], []).append((float(row[key]), row["chosen"] == "1"))
    found = {}
    for variant, values in tried.items():
        best = next(value for value, chosen in values if chosen)
        edge = best in (min(values)[0], max(values)[0])
        found[variant] = f"{best:g}" + (", edge" if edge else "")
    return found


def difference(found: Paired) -> str:
    """A difference with its interval: `+1.2 (+0.3 to +2.1)`."""
    if found.difference is None or found.low is None or found.high is None:
        return "0.0"
    return f"{found.difference:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


def accuracy(right: np.ndarray) -> str:
    """Mean of the runs with their standard deviation, in percent."""
    each = 100 * right.mean(1)
    return f"{each.mean():.1f} ± {each.std(ddof=1):.1f}"


def table_of_study(folder: Path) -> list[str]:
    """Markdown: every variant of a study over the averages that it has, or else over its own reference; the best mean
    is bold, p is over the last of them.
    """
    study, chosen = load(folder), tuned(folder)
    own = [row["variant"] for row in rows(folder / "table.csv") if row["verdict"] == "reference"]
    references = [name for name in (REFERENCE, CONTROL) if name in study] or own
    found = {name: compare(study, name) for name in references}
    best = max(right.mean() for right in study.values())
    over = " | ".join(f"over `{name}`, points" for name in references)
    lines = [f"| head | learning rate | accuracy, % | {over} | p (Holm) |", "|---" * (4 + len(references)) + "|"]
    for name, right in study.items():
        shown = f"**{accuracy(right)}**" if right.mean() == best else accuracy(right)
        cells = [difference(each[name][0]) if name in each else "" for each in found.values()]
        last = found[references[-1]]
        cells.append(probability(last[name][1]) if name in last else "")
        lines.append(f"| `{name}` | {chosen[name]} | {shown} | " + " | ".join(cells) + " |")
    return lines


def probability(p: float | None) -> str:
    """Of a table, two digits."""
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.2g}"


def table_of_pairs(pairs: Sequence[tuple[str, str]], folders: Iterable[Path]) -> list[str]:
    """Markdown: for each pair (variant, reference) the difference in every study that has both."""
    folders = list(folders)
    studies = {folder.name: load(folder) for folder in folders}
    lines = ["| difference, points | " + " | ".join(studies) + " |", "|---|" + "---|" * len(studies)]
    for variant, reference in pairs:
        cells = [
            difference(compare_images(study[variant], study[reference])) if {variant, reference} <= set(study) else ""
            for study in studies.values()
        ]
        lines.append(f"| `{variant}` over `{reference}` | " + " | ".join(cells) + " |")
    return lines


def first_order(variant: str) -> bool:
    """Whether a variant pools by a mean, of features or of their powers."""
    return variant.partition(",")[0] in FIRST_ORDER


def table_of_best(tasks: Sequence[str], kinds: Sequence[str], folder: Path = STUDIES) -> list[str]:
    """Markdown: of each task the best variant of first and of second order over its studies TASK-KIND, both chosen by
    the mean accuracy on validation images, and their difference on the test images.
    """
    lines = ["| task | first order | accuracy, % | second order | accuracy, % | difference, points |", "|---" * 6 + "|"]
    for task in tasks:
        scores: dict[tuple[str, str], list[float]] = {}
        for study in (folder / f"{task}-{kind}" for kind in kinds):
            for row in rows(study / "cells.csv"):
                scores.setdefault((study.name, row["variant"]), []).append(float(row["val_top1"]))
        picked = [
            max((key for key in scores if first_order(key[1]) == first), key=lambda key: float(np.mean(scores[key])))
            for first in (True, False)
        ]
        averaged, second = (load(folder / study)[variant] for study, variant in picked)
        names = [f"`{variant}`, {study.partition('-')[2]}" for study, variant in picked]
        found = difference(compare_images(second, averaged))
        lines.append(f"| {task} | {names[0]} | {accuracy(averaged)} | {names[1]} | {accuracy(second)} | {found} |")
    return lines


def tables(text: str, folder: Path = STUDIES) -> str:
    """A page with its tables made anew: what stands between `<!-- study NAME -->`, `<!-- pairs NAME ...: a over b;
    ... -->` or `<!-- best TASK ...: KIND ... -->`, and `<!-- end -->`.
    """

    def table(match: re.Match[str]) -> str:
        kind, words = match[1].split(maxsplit=1)
        if kind == "study":
            lines = table_of_study(folder / words.strip())
        elif kind == "best":
            names, kinds = words.split(":", 1)
            lines = table_of_best(names.split(), kinds.split(), folder)
        else:
            names, pairs = words.split(":", 1)
            split = [tuple(pair.strip().split(" over ")) for pair in pairs.split(";")]
            lines = table_of_pairs([(a, b) for a, b in split], [folder / name for name in names.split()])
        return f"<!-- {match[1]} -->\n\n" + "\n".join(lines) + "\n\n<!-- end -->"

    return re.sub(r"<!-- ((?:study|pairs|best) [^>]*?) -->.*?<!-- end -->", table, text, flags=re.DOTALL)


def paint(figure: Any, folders: Sequence[Path]) -> None:
    """A panel a study: the difference of each head to average pooling behind the same reduction, with its interval."""
    panels = np.atleast_1d(figure.subplots(1, len(folders), sharey=True))
    names = [name for name in load(folders[0]) if name != CONTROL][::-1]
    for axes, folder in zip(panels, folders, strict=True):
        study = load(folder)
        axes.axvline(0, color=LIGHT["mute"], linewidth=0.8)
        for name, (found, _) in compare(study, CONTROL).items():
            if name in names:
                colour = LIGHT["mute"] if name in FIRST_ORDER else LIGHT["blue"]
                axes.plot([found.low, found.high], [names.index(name)] * 2, color=colour)
                axes.plot([found.difference], [names.index(name)], "o", color=colour, markersize=4)
        task = folder.name.split("-")[0]
        axes.set(title=f"{task}: {CONTROL}\n{100 * study[CONTROL].mean():.1f} %")
        axes.grid(axis="x")
    panels[0].set_yticks(range(len(names)), names)
    figure.supxlabel("accuracy over that of average pooling behind the same reduction, points")


def paint_questions(figure: Any, asked: dict[str, list[tuple[str, str, str, str]]]) -> None:
    """A panel a question: differences with their intervals, a line each."""
    columns = 2
    panels = np.ravel(figure.subplots(-(-len(asked) // columns), columns, squeeze=False))
    for axes in panels[len(asked) :]:
        axes.set_axis_off()
    for axes, (title, lines) in zip(panels, asked.items(), strict=False):
        axes.axvline(0, color=LIGHT["mute"], linewidth=0.8)
        for place, (_, name, variant, reference) in enumerate(lines):
            study = load(STUDIES / name)
            found = compare_images(study[variant], study[reference])
            axes.plot([found.low, found.high], [place] * 2, color=LIGHT["blue"])
            axes.plot([found.difference], [place], "o", color=LIGHT["blue"], markersize=4)
        axes.set_yticks(range(len(lines)), [line[0] for line in lines])
        axes.set(ylim=(len(lines) - 0.5, -0.5))
        axes.set_title(textwrap.fill(title, 27), fontsize=7, loc="left")
        axes.grid(axis="x")
    figure.supxlabel("difference in accuracy, points")


def main(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--collect", type=Path, nargs="*", default=[], metavar="STUDY", help="folders of studies")
    for study in parser.parse_args(argv).collect:
        collect(study, STUDIES / study.name)
        print(STUDIES / study.name)
    PAGE.write_text(tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    alt = "Differences in accuracy between each head and average pooling on three tasks, with intervals"
    write_figure(FIGURE, 3.4, lambda figure: paint(figure, [STUDIES / name for name in DRAWN]), alt)
    alt = "Differences in accuracy by question: map, training, images of a class, channels, conditioning, backbone"
    write_figure(QUESTIONS, 1.9 * -(-len(ASKED) // 2), lambda figure: paint_questions(figure, ASKED), alt)
    print(PAGE, FIGURE, QUESTIONS, sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
