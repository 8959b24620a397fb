"""Another head around the tensors of a model."""

import pytest
import torch

from gcp.errors import OptionError, UnknownNameError
from gcp.models import create_model
from gcp.models.classifier import exchange_head
from gcp.models.parts import freeze


def model(head="newton_schulz", **options):
    torch.manual_seed(0)
    return create_model("resnet8_cifar", head=head, num_classes=3, dim=5, in_chans=1, **options)


def tensors(model):
    return {name: tensor for kind in (model.named_parameters(), model.named_buffers()) for name, tensor in kind}


def test_every_tensor_stays_the_same_object_in_the_same_order():
    made = model()
    before = tensors(made)
    exchange_head(made, "svd_taylor", degree=3)
    after = tensors(made)
    assert list(before) == list(after)
    assert all(before[name] is after[name] for name in before)


def test_it_is_the_model_that_is_built_with_the_other_head():
    made = model()
    exchange_head(made, "svd_taylor", degree=3, side="channel")
    built = model("svd_taylor", degree=3, side="channel")
    built.load_state_dict(made.state_dict())
    images = torch.randn(4, 1, 16, 16)
    for each in (made, built):
        each(images).square().sum().backward()
    for ours, theirs in zip(made.parameters(), built.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    assert repr(made.head) == repr(built.head)
    assert made.arguments == built.arguments


def test_arguments_forget_the_options_of_the_old_head():
    made = model("svd_taylor", degree=3, reduction="conv")
    exchange_head(made, "svd_pade")
    assert "degree" not in made.arguments and made.arguments["reduction"] == "conv"
    assert made.arguments["head"] == "svd_pade" and made.arguments["dim"] == 5


def test_there_and_back_again():
    made, images = model(), torch.randn(2, 1, 16, 16)
    made.eval()
    before = made(images)
    exchange_head(made, "covariance")
    assert not torch.allclose(made(images), before)
    exchange_head(made, "newton_schulz")
    assert torch.equal(made(images), before)


def test_no_random_number_is_drawn():
    made, state = model(), torch.get_rng_state()
    exchange_head(made, "svd_pade")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("frozen", ["head", "head.reduction"])
def test_what_is_frozen_stays_frozen(frozen):
    made = model()
    freeze(made, [frozen])
    made.train()
    before = {name: module.training for name, module in made.named_modules()}
    exchange_head(made, "svd_pade")
    assert {name: module.training for name, module in made.named_modules()} == before
    made.train()
    assert {name: module.training for name, module in made.named_modules()} == before
    assert not made.head.reduction.training


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("average", r"'average' .*\b5 .*\b15\b"),
        ("bilinear", "25 outputs in place of 15"),
        ("compact_bilinear", "8192 outputs in place of 15"),
    ],
)
def test_a_head_that_does_not_fit_changes_nothing(head, message):
    made = model()
    before = made.head
    with pytest.raises(OptionError, match=message):
        exchange_head(made, head)
    assert made.head is before


def test_tensors_beside_the_reduction():
    """The hashes of a sketch belong to it alone, also where the size is the same."""
    made = model("compact_bilinear", sketch=15)
    with pytest.raises(OptionError, match="tensors of its own: buckets, signs"):
        exchange_head(made, "svd_pade")


def test_a_head_that_does_not_exist():
    with pytest.raises(UnknownNameError, match="Did you mean 'svd_pade'"):
        exchange_head(model(), "svd_pad")
