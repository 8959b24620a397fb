"""The notebooks under examples/ run from top to bottom, and are stored without outputs."""

import json
from pathlib import Path

import matplotlib
import pytest
import torch

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples" / "notebooks").glob("*.ipynb"))


def run(path, monkeypatch):
    """The names after all code cells, whose outputs are not there."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    names: dict = {}
    for number, cell in enumerate(json.loads(path.read_text())["cells"]):
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None, f"cell {number} has outputs: clear them"
            exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), names)
    return names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run(path, monkeypatch)
    if path.stem == "backward_rules":  # what its text says of the picture
        errors = {name: dict(zip(names["CONDITIONS"], values, strict=True)) for name, values in names["errors"].items()}
        assert errors["exact"][1e4] < 1e-3 and errors["pade"] == pytest.approx(errors["exact"], rel=0.1)
        assert errors["polar_express"][1e4] < 1e-3 < 0.1 < errors["newton_schulz"][1e1]
    else:
        head = names["models"]["second_moment"].head
        assert isinstance(head, torch.nn.Module) and set(names["models"]) == {"second_moment", "average"}
