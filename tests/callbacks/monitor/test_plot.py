"""spectrum.png: a picture that opens, whatever the table holds."""

import numpy as np
import pytest
from PIL import Image

from gcp.callbacks.monitor.plot import draw
from gcp.callbacks.monitor.table import COLUMNS, SpectrumTable

EMPTY = dict.fromkeys(COLUMNS)


def row(step, **more):
    quantiles = {f"q{percent}": 1e-4 * (percent + 1) for percent in (0, 5, 25, 50, 75, 95, 100)}
    ranks = {"rank": 48, "samples": 49, "channels": 256, "effective_rank": 20.5, "effective_rank_before_norm": 30.1}
    shares = {"gradient_before": 0.1, "gradient_after": 1.0, "rule_share": 0.0, "smallest_gap": 1e-6}
    conditions = {"condition": 1e3 * step, "condition_before_norm": 1e5}
    return {"step": step, "epoch": 1, **quantiles, **ranks, **shares, **conditions, **more}


TABLES = {
    "one row, no root, no reduction": ([row(1, rule_share=None, condition_before_norm=None)], 4),
    "now and then, more samples": ([row(step, samples=3136, q0=0.1 if step % 3 else None) for step in range(1, 60)], 4),
    "a map of one position": ([EMPTY | {"step": 1, "epoch": 1, "samples": 1, "channels": 8}], 1),
}


@pytest.mark.parametrize(("rows", "panels"), TABLES.values(), ids=TABLES)
def test_picture(rows, panels, tmp_path):
    table = SpectrumTable(tmp_path / "spectrum.csv", 0)
    for values in rows:
        table.add(values)
    draw(tmp_path / "spectrum.csv", tmp_path / "spectrum.png")
    with Image.open(tmp_path / "spectrum.png") as image:
        image.load()
        assert (image.format, image.size) == ("PNG", (1500, 900))
        colours = np.asarray(image.convert("RGB")).astype(int)
    coloured = (colours.max(2) - colours.min(2) > 30).reshape(2, 450, 2, 750).sum((1, 3))
    assert (coloured > 20).sum() >= panels - (panels == 1)
    assert {file.name for file in tmp_path.iterdir()} == {"spectrum.csv", "spectrum.png"}


def test_a_table_without_rows_draws_nothing(tmp_path):
    SpectrumTable(tmp_path / "spectrum.csv", 0)
    draw(tmp_path / "spectrum.csv", tmp_path / "spectrum.png")
    draw(tmp_path / "absent.csv", tmp_path / "spectrum.png")
    assert not (tmp_path / "spectrum.png").exists()
