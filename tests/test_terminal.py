"""Tables where stdout is a terminal; the plain text everywhere else is tested by each command."""

import io
import re

import pytest

from gcp.cli.doctor import main as doctor
from gcp.cli.listing import listing
from gcp.cli.listing import main as list_names
from gcp.cli.main import run
from gcp.drawing import terminal

REASON = "rich is not installed; requirements.txt names it"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def screen(monkeypatch):
    """What a command shows on a terminal of 60 columns, with the colours left out."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def screen(function, *words):
        shown = Terminal()
        monkeypatch.setattr("sys.stdout", shown)
        assert run(function, list(words)) == 0
        return re.sub(r"\x1b\[[\d;]*m", "", shown.getvalue()), shown.getvalue()

    return screen


def test_names_in_columns(screen):
    pytest.importorskip("rich", reason=REASON)
    plain, raw = screen(list_names, "heads", "svd_*")
    assert plain != raw and "\\x1b" not in raw  # coloured, and the orders for it reach the terminal
    lines = plain.splitlines()
    assert lines[0].split() == ["heads", "what", "it", "is", "paper"]
    assert max(map(len, lines)) <= 60
    assert sum(line.startswith("svd_") for line in lines) == len(listing("heads", "svd_*").splitlines())


def test_the_doctor(screen):
    pytest.importorskip("rich", reason=REASON)
    plain, _ = screen(doctor)
    assert "svd_pade" in plain and "Every head computes what it should." in plain
    assert max(map(len, plain.splitlines())) <= 60


def test_what_others_have_named_orders_nothing(screen):
    pytest.importorskip("rich", reason=REASON)

    def show(words):
        terminal.print_facts("model       \x1b[31mred[bold]")
        terminal.print_table(["class", "top-1"], [["\x1b[2J[red]", "1.5"], ["b", "10.25"]], "")
        terminal.print_markdown("# title\n\n| a | b |\n|---|---|\n| \x1b[2J | ± 2 |\n")

    plain, raw = screen(show)
    assert "\x1b[2J" not in raw and "\x1b[31m" not in raw
    assert "\\x1b[31mred[bold]" in plain and "\\x1b[2J[red]" in plain and "± 2" in plain
    assert re.search(r"^b +10\.25 *$", plain, re.M)


@pytest.mark.parametrize("why", ["no rich", "a simple terminal", "no terminal"])
def test_plain_text_elsewhere(why, screen, monkeypatch, capsys):
    text = listing("rules")
    if why == "no terminal":
        assert list_names(["rules"]) == 0
        assert capsys.readouterr().out == f"{text}\n"
        return
    if why == "no rich":
        monkeypatch.setattr(terminal, "find_spec", lambda name: None)
    else:
        monkeypatch.setenv("TERM", "dumb")
    assert screen(list_names, "rules")[1] == f"{text}\n"
