"""docs/heads.md lists every head and every rule."""

import re
from pathlib import Path

import gcp
from gcp.gradients import RULES
from gcp.solvers import SOLVERS

TEXT = (Path(__file__).parents[2] / "docs" / "heads.md").read_text()


def table(title):
    """First column and number of cells of the rows of the first table below a title."""
    section = TEXT.split(f"# {title}\n", 1)[1]
    lines = section[section.index("\n|---") :].strip().split("\n\n")[0].splitlines()[1:]
    return {re.match(r"\| \[?`(\w+)`(?:\]\(heads/\1\.md\))? \|", line)[1]: line.count(" | ") for line in lines}


def test_every_head_is_in_the_table():
    rows = table("All heads")
    assert set(rows) == {str(entry) for entry in gcp.list_heads()}
    assert len(set(rows.values())) == 1


def test_every_rule_and_solver_has_its_range():
    assert set(table("Where both sides and both precisions give one gradient")) == {*RULES, *SOLVERS} - {"eig"}
