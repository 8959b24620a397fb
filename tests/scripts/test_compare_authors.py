"""Our heads beside a clone: one of ours here, which has the mistakes that such code may have."""

import sys

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


NETWORK = """
import torch
from torch import nn
from representation.weights import Weights
from .utils import UNUSED

class ResNet_ACD(nn.Module):
    def __init__(self, block, layers, num_classes=1000):
        super().__init__()
        self.layer1 = block(3, 4)
        self.eca_layer, self.cov, self.fc = Weights(), nn.Identity(), nn.Linear(10, num_classes)

    def forward(self, x):
        x = self.layer1(x)
        if self.training:
            m = nn.functional.pad(x.mean((2, 3)), (1, 1))
            y = (m.unfold(1, 3, 1) * self.eca_layer.conv.weight[0, 0]).sum(2).softmax(1)
            x = x * (1 + y)[:, :, None, None]
            c = self.covariance(x).sum(2)
            rate = 1 - 10 / torch.tensor([x.shape[1]]).log2() * nn.functional.cosine_similarity(y, c).mean()
            x = nn.Dropout2d(rate.clamp(0, 1).item())(x)
        i, j = torch.triu_indices(x.shape[1], x.shape[1])
        return self.fc(self.covariance(x)[:, i, j])

    def covariance(self, x):
        x = x.flatten(2) - x.mean((2, 3))[:, :, None]
        return x @ x.mT / x.shape[2]
"""
WEIGHTS = """
from torch import nn

class Weights(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, bias=False)
"""


def test_the_head_of_a_network(tmp_path, capsys, monkeypatch):
    """It imports its own packages, of which none stays; half the channels are dropped on both sides."""
    for name, text in (
        ("models/utils", "UNUSED = 1"),
        ("models/ResNet_ACD", NETWORK),
        ("representation/weights", WEIGHTS),
    ):
        file = tmp_path / "CNNs" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    ours = type(sys)("representation")
    monkeypatch.setitem(sys.modules, "representation", ours)
    assert main([str(tmp_path), "--dim", "32", "--map", "4"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("ResNet_ACD")]
    assert [row[-1] for row in rows] == ["training", "evaluation"]
    for row in rows:
        assert all(float(value.rstrip(",")) < 1e-6 for value in row[2:4]), row
        assert all(float(value.rstrip(",")) < 1e-14 for value in row[4:6]), row
    assert sys.modules["representation"] is ours and "models.ResNet_ACD" not in sys.modules


def test_no_clone(tmp_path):
    with pytest.raises(GCPError, match=r"(?s)none of the files .*SVD_Pade.*git clone"):
        main([str(tmp_path)])


def test_our_side_of_every_pair():
    for pair in PAIRS:
        create_head(pair.head, 64, **pair.options)
