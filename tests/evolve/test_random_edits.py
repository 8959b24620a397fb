"""Random edits of the families of torchvision, few and on narrow networks; many by `random_edits.py`."""

import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

SCRIPT = runpy.run_path(str(Path(__file__).with_name("random_edits.py")))


def narrow(bottleneck):
    from torchvision.models.resnet import BasicBlock, Bottleneck

    class Narrow(BasicBlock):
        pass

    return SCRIPT["resnet"](Bottleneck if bottleneck else Narrow, [1, 1, 1, 1])


def alexnet():
    """A sixteenth of the hidden units."""
    model = SCRIPT["alexnet"]()
    model.classifier[1], model.classifier[4] = nn.Linear(256 * 36, 256), nn.Linear(256, 256)
    model.classifier[6] = nn.Linear(256, 10)
    return model


@pytest.mark.parametrize(
    ("create", "size"),
    [(lambda: narrow(False), 32), (lambda: narrow(True), 32), (alexnet, 64)],
    ids=["basic", "bottleneck", "alexnet"],
)
def test_random_edits(create, size):
    generator = torch.Generator().manual_seed(0)
    SCRIPT["random_edits"](create, 4, torch.randn(2, 3, size, size, generator=generator), most=1.1)
