"""A grid of runs: what is refused before anything is run, what a kill leaves, what can be added."""

import csv
import json
import re
import shlex
import subprocess
import sys

import pytest
import torch
import yaml

import gcp.cli.ablate
from gcp.cli.main import run
from gcp.studies import pool
from gcp.studies.cells import cells_of, check, write_failure
from gcp.studies.grid import Study, parse_axis, parse_seeds, references, variants
from gcp.studies.tables import write_tables

# as a test can wait for: 6 steps on 40 images
SHORT = ["--config", "small.yaml", "train.epochs=2", "model.dropout=0", "train.ema=null"]
TWO = [*SHORT, "--heads", "svd_pade", "average", "--seeds", "2", "--name", "x"]
TIMES = ("seconds_per_step", "images_per_second", "peak_memory_mib")


@pytest.fixture
def ablate(here, capsys):
    """Call the command in this process, where nothing should be run."""

    def ablate(*words):
        code = run(gcp.cli.ablate.main, list(words))
        out, err = capsys.readouterr()
        return code, out, err

    return ablate


@pytest.fixture
def grid(zygote, here):
    """Call the command in a process that has everything imported and forks its cells."""
    return lambda *words, moment=None: zygote.train(here, *words, moment=moment, command="gcp.cli.ablate")


def rows(path, without=TIMES):
    with open(path, newline="") as file:
        return [{key: value for key, value in row.items() if key not in without} for row in csv.DictReader(file)]


def both(folder):
    return rows(folder / "cells.csv"), rows(folder / "table.csv")


def states(folder):
    return {row["id"]: row["state"] for row in rows(folder / "cells.csv")}


def test_every_fault_at_once_and_nothing_begun(ablate, here):
    words = [
        "--heads",
        "svd_pad",
        "foo*",
        "svd_pade,average",
        "average",
        "svd_pade",
        "--seeds",
        "2,2",
        "--reference",
        "averag",
    ]
    code, _, err = ablate(
        "--config", "small.yaml", *words, "--grid", "head.form=folded,published", "optim.lrr=1", "run.seed=4"
    )
    assert code == 2 and err.startswith("error: 8 faults in the study:")
    for text in [
        "--heads.*'svd_pad'.*'svd_pade'",
        "--heads.*'svd_pade,average'.* svd_pade average",
        r"--heads.*'foo\*'",
        "--seeds.*'2,2'.* 1 to 1000.*3,7,11",
        "--reference.*'averag'",
        r"run\.seed.*--seeds",
        r"\n  optim\.lrr: ",
        r"average, form=published: head\.form: .*'average'.*'form'",
    ]:
        assert re.search(text, err), text
    assert not (here / "runs").exists()


def test_invalid_combinations_can_be_left_out(ablate, here):
    words = ["--config", "small.yaml", "--heads", "svd_pade", "average", "--grid", "head.form=folded,published"]
    _, _, err = ablate(*words)
    assert "average, form=published: head.form:" in err and "--skip-invalid" in err
    study = Study("x", "small.yaml", {"head.name": ["svd_pade", "average"], "head.form": ["folded", "published"]})
    kept = check(Study(**study.plain() | {"skip_invalid": True}))
    assert [variant.label for variant in kept] == [
        "svd_pade, form=folded",
        "svd_pade, form=published",
        "average, form=folded",
    ]


@pytest.mark.parametrize(
    "words, text",
    [
        ([], "--config.*--study"),
        (["--config", "small.yaml"], "--heads PATTERN.*--grid key=v1,v2"),
        (["--config", "small.yaml", "--grid", "optim.lr=0.1,0.1"], r"--grid optim\.lr=0\.1,0\.1: .*twice"),
        (
            ["--config", "small.yaml", "--heads", "average", "--name", "a/b"],
            "--name.*'a/b'.*folder's name",
        ),
        (["--config", "smal.yaml", "--heads", "average"], r"'smal\.yaml'.*'small\.yaml'"),
        (["--config", "small.yaml", "--heads", "average", "--grid"], r"--grid.*value.*head\.dim=64,128"),
        (["--config", "small.yaml", "--heads", "average", "--grid="], "--grid needs a value"),
        (
            ["--config", "small.yaml", "--heads", "average", "--grid", "optim.lr"],
            r"--grid optim\.lr.*key=v1,v2",
        ),
        (["--config", "small.yaml", "--heads", "average", "--reference", "--jobs", "2"], "--reference needs a value"),
        (["--study", "none.yaml"], "no file 'none.yaml'"),
        (["--config", "small.yaml", "--heads", "average", "data.name=cub", "data.root=none"], "none"),
        (["--config", "small.yaml", "--heads", "average", "model.pretrained=a/b.pt"], "no checkpoint at a/b.pt"),
        (["resume=nothing"], r"nothing: .*study\.yaml"),
        (["resume=x", "--heads", "average"], "--heads: .*resumed"),
        (
            ["--config", "small.yaml", "--heads", "average", "--jobs", "0"],
            "--jobs.*'0'.*>= 1",
        ),
    ],
)
def test_messages(words, text, ablate):
    code, _, err = ablate(*words)
    assert code == 2 and re.search(text, err) and "Traceback" not in err


@pytest.mark.parametrize(
    "text, faults",
    [
        ("", ["config: missing.*a recipe"]),
        ("config: [small.yaml]\nheads: [average]\n", [r"config: .*\['small\.yaml'\].*a recipe"]),
        (
            "titel: x\nconfig: small.yaml\nheads: average\nseeds: {a: 1}\ngrid: {optim.lr: [1, 1]}\npublished: [1]\n",
            [
                "titel: .*'title'",
                "heads: got 'average'",
                "seeds: got",
                "grid: got",
                "published:",
            ],
        ),
        ("config: small.yaml\nheads: [svd_pad]\n", ["heads.*'svd_pad'.*'svd_pade'"]),
    ],
)
def test_faults_of_a_file(text, faults, ablate, here):
    (here / "ü s.yaml").write_text(text)
    code, _, err = ablate("--study", "ü s.yaml")
    assert code == 2 and err.startswith(f"error: {len(faults)} fault")
    assert all(re.search(rf"\n  ü s\.yaml: {fault}", err) for fault in faults)


def test_a_damaged_study(ablate, here):
    (here / "runs/studies/x").mkdir(parents=True)
    (here / "runs/studies/x/study.yaml").write_text("name: x\nconfig: small.yaml\ngrid: {}\nseeds: 5\n")
    code, _, err = ablate("resume=x")
    assert code == 2 and "runs/studies/x/study.yaml is damaged" in err


def test_values_of_a_key():
    assert parse_axis("model.hidden=[8, 8],[16],[]") == ("model.hidden", [[8, 8], [16], []])
    assert parse_axis("head.precision=float32,null") == ("head.precision", ["float32", None])
    assert parse_axis("data.root='a,b',c") == ("data.root", ["a,b", "c"])
    assert parse_axis("optim.lr=1e-1") == ("optim.lr", [0.1])
    with pytest.raises(ValueError, match="has no value"):
        parse_axis("optim.lr=1,")


def test_seeds():
    assert (parse_seeds("3"), parse_seeds("3,7"), parse_seeds("3,")) == ([0, 1, 2], [3, 7], [3])
    for text in ("0", "-1", "a", "1,1", ",", "4294967296,", "1001", "99999999999"):
        with pytest.raises(ValueError, match="--seeds: got"):
            parse_seeds(text)


def test_labels_and_folders():
    """A label names what differs, a folder everything, in letters that every file system has."""
    grid = {"head.name": ["svd_pade"], "head.form": ["folded", "published"], "data.root": ["a b/ü"], "optim.lr": [0.1]}
    first, second = variants(Study("x", "small.yaml", grid))
    assert (first.label, second.label) == ("form=folded", "form=published")
    assert first.slug.startswith("svd_pade-form=folded-root=a_b_-lr=0.1-") and first.slug.isascii()
    twins = variants(Study("x", "small.yaml", {"train.batch_size": [1, 2], "evaluate.batch_size": [1, 2]}))
    assert twins[1].label == "train.batch_size=1, evaluate.batch_size=2"


def test_what_each_is_compared_with():
    heads = {"head.name": ["svd_pade", "svd_pi", "average"], "head.form": ["folded", "published"]}
    every = variants(Study("x", "small.yaml", heads))
    assert set(references(Study("x", "small.yaml", heads), every).values()) == {"svd_pade, form=folded"}
    by_value = Study("x", "small.yaml", heads, reference="form=folded")
    assert references(by_value, [each for each in every if each.label != "svd_pi, form=folded"]) == {
        "svd_pade, form=folded": "svd_pade, form=folded",
        "svd_pade, form=published": "svd_pade, form=folded",
        "average, form=folded": "average, form=folded",
        "average, form=published": "average, form=folded",
    }


def test_killed_and_continued_is_the_same_table(grid, here):
    """The study itself, then every cell, then the study once more; at the end two of four were never begun anew."""
    whole = grid(*TWO[:-1], "whole")
    assert whole.code == 0, whole.err
    assert grid(*TWO, moment="gcp.studies.tables:write_tables:2:before").code == -9
    killed = grid(*TWO, moment="gcp.engine.train:update:4:after")
    assert killed.code == 1 and "SIGKILL" in killed.out
    assert grid("resume=runs/studies/x", moment="gcp.studies.run:read:10:before").code == -9
    last = grid("resume=runs/studies/x")
    assert last.code == 0, last
    assert both(here / "runs/studies/x") == both(here / "runs/studies/whole")
    assert set(states(here / "runs/studies/x").values()) == {"done"}
    again = grid("resume=x")
    assert again.code == 0 and "4 of 4 done" in again.out and "0 to run" in again.out


def test_runs_at_once_fit_into_the_cores(ablate, here, monkeypatch):
    """Also where a study that was begun with fewer runs, each with more threads, is continued without --jobs."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("gcp.studies.run._cores", lambda: 4)
    monkeypatch.setattr("gcp.studies.run.run_cells", lambda cells, places, progress: 1)
    for words, at_once in (
        ([*TWO, "run.device=cpu", "run.threads=null", "--jobs", "2"], 2),
        (["resume=x"], 2),
        (["resume=x", "--jobs", "3"], 3),
        ([*TWO[:-1], "y", "run.device=cpu", "run.threads=null"], 4),
        ([*TWO[:-1], "z", "run.device=cpu", "run.threads=8"], 1),
    ):
        assert f"4 to run, {at_once} at once" in ablate(*words)[1]


def test_threads_of_the_environment_are_a_limit(ablate, here, monkeypatch):
    """Two studies on one machine, each of which would take all cores for its runs, cost several times the time."""
    monkeypatch.setattr("gcp.studies.run._cores", lambda: 8)
    monkeypatch.setattr("gcp.studies.run.run_cells", lambda cells, places, progress: 1)
    for name, (asked, threads) in {"a": ("2", 2), "b": ("16", 4), "c": ("3,2", 3), "d": ("many", 4)}.items():
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        ablate(*TWO[:-1], name, "run.device=cpu", "run.threads=null", "--jobs", "2")
        study = yaml.safe_load((here / f"runs/studies/{name}/study.yaml").read_text())
        assert study["threads"] == threads, asked


def test_a_failed_cell_stops_nobody(grid, here):
    words = [*SHORT, "--grid", "optim.lr=1e30,0.05", "--seeds", "3,", "--name", "x"]
    answer = grid(*words)
    folder = here / "runs/studies/x"
    failed, done = rows(folder / "cells.csv")
    assert answer.code == 1 and "1 failed. Run them again with" in answer.out
    assert (failed["state"], failed["nonfinite"], failed["test_top1"]) == ("failed", "1", "")
    assert "training stopped at step" in failed["message"]
    assert (done["id"], done["state"], done["message"], done["nonfinite"]) == ("lr=0.05-seed3", "done", "", "0")
    assert [(row["n"], row["failed"]) for row in rows(folder / "table.csv")] == [("0", "1"), ("1", "0")]
    assert "0 to run" in grid(*words).out
    assert "1 to run" in grid(*words, "--retry-failed").out


def test_seeds_and_heads_can_be_added_but_nothing_changed(grid, ablate, here):
    one = [*SHORT, "--heads", "average", "--name", "x", "--seeds"]
    assert grid(*one, "1").code == 0
    folder = here / "runs/studies/x"
    before = (folder / "cells/average-seed0/result.json").stat().st_mtime_ns
    assert grid(*SHORT, "--heads", "covariance", "--name", "x", "--seeds", "1").code == 0
    assert states(folder) == {"average-seed0": "done", "covariance-seed0": "done"}
    assert (folder / "cells/average-seed0/result.json").stat().st_mtime_ns == before
    code, _, err = ablate(*one, "2", "optim.lr=0.2", "train.epochs=4")
    assert code == 2 and re.search("2 faults.*runs/studies/x", err)
    assert re.search(r"optim\.lr: .*0\.2;.*0\.05\b", err) and re.search(r"train\.epochs: .*4;.* 2\b", err)
    code, _, err = ablate(*one, "1", "--grid", "optim.lr=0.05,0.1")
    assert code == 2 and re.search(r"head\.name, .*head\.name, optim\.lr;.*--name", err)
    assert len(list((folder / "cells").iterdir())) == 2


def test_in_processes_of_their_own(here, capsys, monkeypatch):
    """As it is used: the forkserver, a cell that is an ordinary run with its configuration and its log, the report."""
    assert pool.METHOD == "forkserver"
    monkeypatch.setattr(pool, "PRELOAD", ["gcp.runs.launch"])  # the others take seconds, for images of files
    words = [*SHORT, "--heads", "average", "--seeds", "1", "--name", "a x", "train.epochs=1"]
    code = run(gcp.cli.ablate.main, words)
    assert code == 0, capsys.readouterr()
    cell = here / "runs/studies/a x/cells/average-seed0"
    cost = json.loads((cell / "result.json").read_text())["cost"]
    assert cost["seconds_per_step"] > 0 and cost["peak_memory_mib"] > 50
    assert cost["memory"] == "resident set of the process" and cost["parameters"] > 1000
    assert "final weights" in (cell / "log.txt").read_text()
    study = yaml.safe_load((cell.parents[1] / "study.yaml").read_text())
    assert study["reference"] == "average" and study["grid"] == {"head.name": ["average"]} and study["seeds"] == [0]
    assert shlex.split(study["command"])[:2] == ["gcp", "ablate"]
    assert "average" in (cell.parents[1] / "report.html").read_text()


def test_a_head_that_is_worse_is_found(grid, here):
    """Of one channel: its covariance is a single number."""
    words = ["data.per_class=20", "train.epochs=3", "train.accumulate=1", "train.batch_size=20", "train.mixup=0"]
    words += ["evaluate.every=3 epochs", "checkpoint.every=3 epochs"]
    answer = grid(*SHORT, *words, "--grid", "head.dim=8,1", "--seeds", "4", "--name", "x")
    assert answer.code == 0, answer
    wide, narrow = rows(here / "runs/studies/x/table.csv")
    assert float(wide["mean"]) > 30 and narrow["verdict"].startswith("worse than dim=8: -")
    assert float(narrow["high"]) < 0 and float(narrow["p_holm"]) < 0.05


def test_a_table_of_made_up_results(here):
    """Five seeds each: one head is two points below the reference, another as good, a third failed twice."""
    heads = {"svd_pade": 0.0, "average": -2.0, "covariance": 0.0, "seb": -2.0}
    study = Study("x", "small.yaml", {"head.name": list(heads)}, published={"average": {"value": 76.15}})
    cells = cells_of(study, here / "x")
    noise = iter([0.31, 0.02, -0.21, 0.13, -0.07] * 4)
    for cell in cells:
        cell.folder.path.mkdir(parents=True)
        head, seed = cell.variant.label, cell.seed
        if head == "seb" and seed > 2:
            write_failure(cell.folder, "not finite", nonfinite=True)
            continue
        top1 = 95 + 0.7 * seed + heads[head] + next(noise)
        scores = {"final": {"top1": top1, "loss": 0.2, "epoch": 3}, "best": {"top1": top1 + 0.1}}
        cell.folder.result.write_text(json.dumps({"test": scores, "validation": {"best": {"top1": 97.0}}}))
    table = {row["variant"]: row for row in write_tables(here / "x", study, cells)}
    assert table["average"]["verdict"].startswith("worse than svd_pade: -2.")
    assert table["average"]["low"] < -2 < table["average"]["high"] < 0 and table["average"]["p_holm"] < 0.01
    assert table["covariance"]["verdict"].startswith("cannot be told apart from svd_pade: ")
    assert (table["seb"]["n"], table["seb"]["failed"]) == (3, 2) and ", 3 seeds" in table["seb"]["verdict"]
    assert table["svd_pade"]["verdict"] == "reference" and table["svd_pade"]["difference"] is None
    text = (here / "x/table.md").read_text()
    assert "| average | 5 |" in text and "| 76.15 |" in text and "- failed: seb-seed3: not finite" in text
    assert {row["nonfinite"] for row in rows(here / "x/cells.csv") if row["state"] == "failed"} == {"1"}


def test_orders_to_a_terminal_are_shown_in_the_log_of_a_cell(tmp_path):
    """Somebody will read `log.txt` on a terminal."""
    program = (
        "import pathlib, sys; from gcp.studies.pool import _print_into; "
        f"_print_into(pathlib.Path({str(tmp_path / 'log.txt')!r})); "
        r"print('a\x1b[31m\u202eb'); print('c\x07', file=sys.stderr)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    assert sorted((tmp_path / "log.txt").read_text().splitlines()) == ["a\\x1b[31m\\u202eb", "c\\x07"]


def test_the_same_cell_twice_has_the_same_weights(grid, here, monkeypatch):
    """To the bit, with the threads that a study gives its runs: all cores to one at a time."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    words = ["--heads", "svd_pade", "--seeds", "1", "run.deterministic=true", "run.threads=null", "--jobs", "1"]
    words += ["head.dim=24", "data.image_size=16", "train.epochs=1", "train.batch_size=20"]
    weights = []
    for name in ("one", "two"):
        answer = grid(*SHORT, *words, "--name", name)
        assert answer.code == 0, answer
        cell = here / "runs/studies" / name / "cells/svd_pade-seed0"
        assert yaml.safe_load((cell / "config.yaml").read_text())["run"]["deterministic"]
        weights.append(torch.load(cell / "last.pt", weights_only=True)["model"])
    one, two = weights
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
