"""Small networks, one for each way in which channels hang together."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

import gcp

CLASSES = 5


class Residual(nn.Module):
    """Stages of which the widths are tied by sums, with a shortcut between them."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.inner = nn.Conv2d(8, 6, 3, padding=1)
        self.outer = nn.Conv2d(6, 8, 3, padding=1)
        self.shortcut = nn.Conv2d(8, 12, 1, stride=2)
        self.next = nn.Conv2d(8, 12, 3, padding=1, stride=2)
        self.last = nn.Linear(12, CLASSES)

    def forward(self, x):
        x = self.norm(self.stem(x)).relu_()
        x = (x + self.outer(self.inner(x).relu())).relu()
        x = self.next(x) + self.shortcut(x)
        return self.last(x.mean((2, 3)))


class Dense(nn.Module):
    """Concatenations, as in DenseNet."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 4, 3, padding=1)
        self.both = nn.BatchNorm2d(10)
        self.third = nn.Conv2d(10, 4, 3, padding=1)
        self.last = nn.Linear(14, CLASSES)

    def forward(self, x):
        a = self.first(x)
        b = self.second(self.norm(a).relu())
        c = self.third(self.both(torch.cat([a, b], 1)).relu())
        return self.last(nn.functional.adaptive_avg_pool2d(torch.cat([a, b, c], 1), 1).flatten(1))


class Gated(nn.Module):
    """Depthwise convolution and squeeze-and-excitation."""

    def __init__(self):
        super().__init__()
        self.expand = nn.Conv2d(3, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.squeeze = nn.Conv2d(8, 4, 1)
        self.excite = nn.Conv2d(4, 8, 1)
        self.project = nn.Conv2d(8, CLASSES, 1)

    def forward(self, x):
        x = nn.functional.hardswish(self.norm(self.depthwise(self.expand(x))))
        gate = self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.project(gate * x).mean((2, 3))


def grouped():
    return nn.Sequential(
        OrderedDict(
            into=nn.Conv2d(3, 12, 1),
            norm=nn.BatchNorm2d(12),
            groups=nn.Conv2d(12, 12, 3, padding=1, groups=4),
            relu=nn.ReLU(inplace=True),
            out=nn.Conv2d(12, CLASSES, 1),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
        )
    )


def flattened():
    """As AlexNet: several columns of the linear layer for each channel."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 7, 2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(7 * 16, 9),
        nn.ReLU(inplace=True),
        nn.Linear(9, CLASSES),
    )


def sequence():
    """Convolutions of one axis, over the rows of a map."""
    return nn.Sequential(
        nn.Flatten(2),
        nn.Conv1d(3, 8, 5, padding=4, dilation=2),
        nn.ReLU(),
        nn.Conv1d(8, 8, 3, padding="same", groups=8),
        nn.MaxPool1d(2),
        nn.Conv1d(8, 6, 3, stride=2),
        nn.GELU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(6, CLASSES),
    )


NETWORKS = {"residual": Residual, "dense": Dense, "gated": Gated, "grouped": grouped, "flattened": flattened}
NETWORKS["sequence"] = sequence


@torch.no_grad()
def settled(model, images):
    """Batch norms that scale and shift, with the statistics of these images; in evaluation mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.3)
            module.momentum = None  # the mean over calls
    model.train()(images)
    return model.eval()


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(12, 3, 12, 12, generator=generator) + torch.randn(12, 3, 1, 1, generator=generator)


@pytest.fixture(params=list(NETWORKS))
def network(request, make):
    return make(request.param)


@pytest.fixture(scope="session")
def made():
    """Models that are there already."""
    return {}


@pytest.fixture
def make(images, made):
    """A settled network by name, or a classifier with a covariance head."""

    def create(name, **options):
        key = (name, *sorted(options.items()))
        if key not in made:
            torch.manual_seed(0)
            known = {"head": name, "num_classes": CLASSES, "dim": 6, **options}
            made[key] = NETWORKS[name]() if name in NETWORKS else gcp.create_model("resnet8_cifar", **known)
            settled(made[key], images)
        torch.manual_seed(0)
        return copy.deepcopy(made[key])

    return create
