"""Tables of an evaluation as files."""

import csv

from gcp.evaluation.files import write_csv


def test_no_cell_is_a_formula(tmp_path):
    """Names of classes and files come from elsewhere; a spreadsheet computes what begins like one. Numbers stay."""
    names = ["=HYPERLINK(1)", "+1", "-1", "@x", "\tx", "plain = +-@"]
    write_csv(tmp_path / "x.csv", [{"class": name, "share": -0.5} for name in names])
    rows = list(csv.DictReader((tmp_path / "x.csv").read_text().splitlines()))
    assert [row["class"] for row in rows] == [*(f"'{name}" for name in names[:-1]), names[-1]]
    assert {row["share"] for row in rows} == {"-0.5000"}
