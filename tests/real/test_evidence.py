"""docs/evidence.md says what its CSV files say: its tables, and every difference that its text or the README quotes."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
DIFFERENCE = re.compile(r"([+-]\d+\.\d) \(([+-]\d+\.\d) to ([+-]\d+\.\d)\)")
STUDIES = sorted(folder.name for folder in (ROOT / "docs" / "study" / "real").iterdir() if folder.is_dir())


def test_the_page_is_made_of_the_files():
    from evidence import PAGE, tables

    text = PAGE.read_text(encoding="utf-8")
    assert tables(text) == text, "run python scripts/real/evidence.py"


@pytest.mark.parametrize("page", ["docs/evidence.md", "README.md"])
def test_a_difference_of_the_text_is_one_of_the_tables(page):
    """What a sentence quotes stands in a table that is computed from single images."""
    from evidence import PAGE

    computed = {match for line in _tables(PAGE.read_text(encoding="utf-8")) for match in DIFFERENCE.findall(line)}
    text = (ROOT / page).read_text(encoding="utf-8")
    quoted = set(DIFFERENCE.findall(text.replace("\n", " ")))
    assert quoted and quoted <= computed, sorted(quoted - computed)


def _tables(text):
    return [line for line in text.splitlines() if line.startswith("| ")]


@pytest.mark.parametrize("study", STUDIES)
def test_scores_of_single_images_are_those_of_the_runs(study):
    """images.csv against cells.csv, which the runs wrote independently, and table.csv against both."""
    from evidence import STUDIES, compare, load, rows

    folder = STUDIES / study
    right, cells, table = load(folder), rows(folder / "cells.csv"), rows(folder / "table.csv")
    assert {row["state"] for row in cells} == {"done"} and min(len(runs) for runs in right.values()) >= 5
    for row in table:
        runs = [float(cell["test_top1"]) for cell in cells if cell["variant"] == row["variant"]]
        np.testing.assert_allclose(100 * right[row["variant"]].mean(1), runs, atol=1e-3)
        assert float(row["mean"]) == pytest.approx(np.mean(runs), abs=1e-3)
    reference = next(row["variant"] for row in table if not row["difference"])
    for name, (found, _) in compare(right, reference).items():
        row = next(each for each in table if each["variant"] == name)
        ours = (found.difference, found.low, found.high)
        assert ours == pytest.approx([float(row[key]) for key in ("difference", "low", "high")], abs=1e-3)


@pytest.mark.parametrize("study", STUDIES)
def test_every_variant_was_tuned_alike(study):
    """By the accuracy on validation, with as many runs, by seeds that are not those of the report."""
    from evidence import STUDIES, rows

    trials = rows(STUDIES / study / "tuning.csv")
    seeds = {row["seed"] for row in rows(STUDIES / study / "cells.csv")}
    kept = {}
    for row in trials:
        kept.setdefault(row["variant"], []).append(row)
    assert len({len(tried) for tried in kept.values()}) == 1 and not seeds & {row["seed"] for row in trials}
    for tried in kept.values():
        done = [row for row in tried if row["state"] == "done"]
        best = max(done, key=lambda row: (float(row["val_top1"]), -float(row["val_loss"])))
        assert best["chosen"] == "1"


def test_collect(tmp_path):
    """A study of two variants, two seeds and eleven images."""
    from evidence import collect, load

    study, rng = tmp_path / "study", np.random.default_rng(0)
    lines, truth = ["id,variant,seed,state"], {}
    for variant in ("a", "b"):
        for seed in (0, 1):
            cell = f"{variant}-seed{seed}"
            (study / "cells" / cell).mkdir(parents=True)
            right = rng.random(11) < 0.5
            truth.setdefault(variant, []).append(right)
            np.savez(study / "cells" / cell / _file(), right=right, chance=50.0)
            lines.append(f"{cell},{variant},{seed},done")
    (study / "cells.csv").write_text("\n".join(lines) + "\n")
    collect(study, tmp_path / "out")
    found = load(tmp_path / "out")
    assert all(np.array_equal(found[name], np.stack(runs)) for name, runs in truth.items())


def _file():
    from gcp.studies.cells import IMAGES

    return IMAGES
