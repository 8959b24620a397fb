"""scripts/report.py from its command line."""

import re
import runpy
import sys
from pathlib import Path

import pytest
from study_folder import build

import gcp.cli.report
from gcp.cli.main import run

SCRIPT = Path(__file__).parents[2] / "scripts" / "report.py"


@pytest.fixture
def report(tmp_path, monkeypatch, capsys):
    """Call the command in this process, in a folder with the study `s`: (exit code, stdout, stderr)."""
    from matplotlib.figure import Figure

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: file.write('<svg width="1"></svg>'))
    build(tmp_path / "s", {"head.name": ["svd_exact", "svd_pade"]}, 2, 2)
    return lambda *words: (run(gcp.cli.report.main, [str(word) for word in words]), *capsys.readouterr())


def test_beside_the_study(report):
    code, out, err = report("s")
    assert (code, err) == (0, "")
    assert [line.split(maxsplit=1) for line in out.splitlines()] == [
        *(["report", "s/report.html"], ["markdown", "s/report.md"], ["figures", "s/figures"]),
    ]
    assert all(Path(line.split(maxsplit=1)[1]).exists() for line in out.splitlines())


def test_elsewhere(report):
    before = sorted(path.name for path in Path("s").iterdir())
    code, out, _ = report("s", "--out", "a new/place ü")
    assert code == 0 and Path("a new/place ü/report.html").is_file() and "a new/place ü/report.md" in out
    assert sorted(path.name for path in Path("s").iterdir()) == before


def test_a_study_by_its_name(report):
    Path("runs/studies").mkdir(parents=True)
    Path("s").rename("runs/studies/mine")
    code, out, _ = report("mine")
    assert code == 0 and "runs/studies/mine/report.html" in out


def test_figures_alone(report):
    code, out, _ = report("s", "--figures", "f")
    assert code == 0 and sorted(out.splitlines()) == sorted(map(str, Path("f").iterdir()))
    assert not Path("s/report.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere is no folder.*folder of a study"),
        (["--out", "x"], "the folder of a study comes first"),
        (["s", "t"], "unexpected 't'"),
        (["s", "a=1"], "a report has no settings"),
        (["s", "--figure", "x"], "'--figure'.*'--figures'"),
        (["s", "--out", "a", "--figures", "b"], "give one of them"),
        (["s", "--out", "s/cells.csv"], r"s/cells\.csv is a file"),
    ],
)
def test_mistakes(report, words, message):
    code, out, err = report(*words)
    assert (code, out) == (2, "") and err.startswith("error: ") and re.search(message, err) and "Traceback" not in err


def test_a_folder_that_cannot_be_made(report):
    code, _, err = report("s", "--out", "s/cells.csv/report")
    assert code == 2 and "s/cells.csv is a file" in err
    code, _, err = report("s", "--figures", "/proc/nothing")
    assert code == 2 and "/proc/nothing: No such file" in err


def test_the_script(report, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["report.py", "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert capsys.readouterr().out.startswith("Write the report of a study") and report()[0] == 0
