"""Variants of one seed begin alike and see the same images."""

import numpy as np
import pytest
import torch

from gcp.config import from_dict
from gcp.heads import list_heads
from gcp.heads.reduction import REDUCTIONS
from gcp.runs import build

CPU = torch.device("cpu")
BACKBONES = {"resnet8_cifar": {}, "alexnet_bn": {"hidden": [12, 12]}}


def config(backbone, **head):
    values = {"run": {"device": "cpu", "seed": 3}, "data": {"per_class": 2}, "head": {"dim": 8, **head}}
    return from_dict(values | {"model": {"backbone": backbone, **BACKBONES[backbone]}})


@pytest.fixture(scope="module")
def weights():
    made = {}

    def weights(backbone, **head):
        key = (backbone, *head.items())
        if key not in made:
            made[key] = build.build_model(config(backbone, **head), 10, CPU).state_dict()
        return made[key]

    return weights


def layers(state):
    """Weight and bias of a layer together: both are drawn for the width of its input."""
    found = {}
    for name, tensor in state.items():
        found.setdefault(name.rpartition(".")[0], {})[name] = tensor
    return {name: tensors for name, tensors in found.items() if not name.startswith("head")}


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(
    "head", [{"name": str(name)} for name in list_heads("*")] + [{"reduction": r} for r in REDUCTIONS]
)
def test_the_same_weights_where_shapes_agree(backbone, head, weights):
    reference, other = (layers(weights(backbone, **each)) for each in ({"name": "svd_pade"}, head))
    assert reference.keys() == other.keys()
    alike = [
        name
        for name in reference
        if [t.shape for t in reference[name].values()] == [t.shape for t in other[name].values()]
    ]
    assert {name for name in reference if name.startswith("features")} <= set(alike)
    assert len(reference) - len(alike) <= 1  # the layer after the head
    for name in alike:
        assert all(torch.equal(tensor, other[name][key]) for key, tensor in reference[name].items()), name


def test_the_same_reduction_for_every_head(weights):
    for name in set(map(str, list_heads("*"))) - {"wide_average"}:  # which has none
        assert torch.equal(
            weights("resnet8_cifar", name="svd_pade")["head.reduction.0.weight"],
            weights("resnet8_cifar", name=name)["head.reduction.0.weight"],
        )


def test_another_seed_begins_otherwise():
    first, second = (config("resnet8_cifar"), from_dict(config("resnet8_cifar").plain(), ["run.seed=4"]))
    states = [build.build_model(each, 10, CPU).state_dict() for each in (first, second)]
    assert not torch.equal(states[0]["classifier.weight"], states[1]["classifier.weight"])


def test_the_same_images_in_the_same_order():
    orders = []
    for head in ("svd_pade", "average", "compact_bilinear"):
        made = config("resnet8_cifar", name=head)
        build.build_model(made, 10, CPU)
        loader = build.build_train_loader(made, build.build_splits(made), CPU)
        orders.append([(images.numpy(), labels.numpy()) for images, labels in loader.epoch(1)])
    for other in orders[1:]:
        assert all(
            np.array_equal(*pair) for batch in zip(orders[0], other, strict=True) for pair in zip(*batch, strict=True)
        )
