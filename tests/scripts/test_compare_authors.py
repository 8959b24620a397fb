"""Our heads beside a clone: one of ours here, which has the mistakes that such code may have."""

import pytest
import torch
from compare_authors import PAIRS, main

from gcp.errors import GCPError
from gcp.heads import create_head

GOOD = """
from torch import nn

class GAvP(nn.Module):
    def __init__(self, input_dim=2048):
        super().__init__()

    def forward(self, x):
        return x.cuda().float().mean((2, 3))
"""


def test_a_clone(tmp_path, capsys):
    """One file agrees, and is put on a GPU that is not there; one fails; the others are not there."""
    folder = tmp_path / "src" / "representation"
    folder.mkdir(parents=True)
    (folder / "GAvP.py").write_text(GOOD)
    (folder / "SEB.py").write_text("import a_package_of_years_ago")
    assert main([str(tmp_path), "--dim", "4", "--map", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines if line}
    assert rows["GAvP"].split()[1] == "average" and rows["GAvP"].count("0.0e+00") >= 3
    assert "does not run here: ModuleNotFoundError" in rows["SEB"] and "SVD_Pade" not in rows
    assert torch.get_default_dtype() == torch.float32 and torch.ones(1).double().float().dtype == torch.float32


def test_no_clone(tmp_path):
    with pytest.raises(GCPError, match=r"(?s)none of the files .*SVD_Pade.*git clone"):
        main([str(tmp_path)])


def test_our_side_of_every_pair():
    for pair in PAIRS:
        create_head(pair.head, 64, **pair.options)
