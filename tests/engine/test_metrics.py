import csv

from gcp.engine.metrics import COLUMNS, heading, line, write_metrics

ROW = {
    "epoch": 3,
    "step": 120,
    "lr_features": 0.05,
    "lr_head": 0.1,
    "train_loss": 1.23456789012345678,
    "train_accuracy": 61.25,
    "val_loss": 0.9,
    "val_accuracy": 70.0,
    "images_per_second": 512.3,
    "seconds": 4.56,
    "data_wait": 12.34,
}


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_numbers_come_back_to_the_last_bit(tmp_path):
    write_metrics(tmp_path / "m.csv", [ROW, {**ROW, "epoch": 4}])
    first, second = read(tmp_path / "m.csv")
    assert list(first) == list(ROW)
    assert {key: type(ROW[key])(value) for key, value in first.items()} == ROW
    assert second["epoch"] == "4"


def test_a_missing_value_is_an_empty_cell(tmp_path):
    write_metrics(tmp_path / "m.csv", [{**ROW, "val_loss": None}, {**ROW, "val_loss": 0.0}])
    assert [row["val_loss"] for row in read(tmp_path / "m.csv")] == ["", "0.0"]


def test_columns_are_those_of_all_rows(tmp_path):
    write_metrics(tmp_path / "m.csv", [{"epoch": 1, "lr_head": 0.1}, {"epoch": 2, "lr_features": 0.2}])
    assert read(tmp_path / "m.csv") == [
        {"epoch": "1", "lr_head": "0.1", "lr_features": ""},
        {"epoch": "2", "lr_head": "", "lr_features": "0.2"},
    ]


def test_lines_are_aligned_under_their_headings():
    title, row = heading(), line(ROW)
    assert len(title) == len(row) == sum(width for _, _, width, _ in COLUMNS)
    assert row.split() == ["3", "120", "5.00e-02", "1.2346", "61.25", "0.9000", "70.00", "512", "4.6", "12.3"]
    for place in [sum(width for _, _, width, _ in COLUMNS[: n + 1]) for n in range(len(COLUMNS))]:
        assert title[place - 1] != " " and row[place - 1] != " "  # right-aligned, both
        assert title[place : place + 1] in ("", " ") and row[place : place + 1] in ("", " ")


def test_a_value_that_is_not_there_is_a_dash():
    row = line({**ROW, "val_loss": None, "val_accuracy": None})
    assert row.split()[5:7] == ["-", "-"] and len(row) == len(heading())


def test_a_frozen_backbone_shows_the_rate_of_the_next_part():
    row = {key: value for key, value in ROW.items() if key != "lr_features"}
    assert line(row).split()[2] == "1.00e-01"


def test_columns_of_a_run_that_switches_its_head():
    further = (("condition", "condition", 11, ".2e"), ("head", "head", 17, "s"))
    row = line({**ROW, "condition": 81234.5, "head": "svd_pade"}, further)
    assert heading(further).split()[-2:] == ["condition", "head"] and row.split()[-2:] == ["8.12e+04", "svd_pade"]
    assert len(heading(further)) == len(row) > len(line({**ROW, "condition": 81234.5, "head": "svd_pade"}))
    assert line({**ROW, "condition": None, "head": "svd_pade"}, further).split()[-2:] == ["-", "svd_pade"]
