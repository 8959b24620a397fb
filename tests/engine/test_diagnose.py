import re

import pytest
import torch
from torch import nn

from gcp.engine.diagnose import locate
from gcp.errors import NonFiniteError


class Break(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class BadBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


def find(model, images=None):
    images = torch.ones(2, 3) if images is None else images
    return locate(model, [images], lambda: model(images).square().sum().backward())


def net(function, index=1):
    layers = [nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2)]
    layers.insert(index, Break(function))
    return nn.Sequential(*layers)


def refuse(x):
    raise NonFiniteError("no")


def singular(x):
    return torch.linalg.inv(torch.zeros(2, 2))


@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_the_first_layer_with_a_bad_output_is_named(index):
    assert re.search(rf"output .*layer {index} \(Break\)$", find(net(lambda x: x / 0, index)))


@pytest.mark.parametrize("function", [refuse, singular])
def test_a_layer_that_raises_is_named(function):
    assert find(net(function, 2)) == "layer 2"


def test_a_bad_output_before_a_layer_that_raises_is_the_cause():
    layers = nn.Sequential(nn.Linear(3, 3), Break(lambda x: x / 0), Break(refuse))
    assert re.search(r"output .*layer 1 \(Break\)$", find(layers))


def test_a_nested_layer_has_its_whole_name():
    inner = nn.Sequential(nn.Linear(3, 3), Break(lambda x: x * float("nan")))
    model = nn.ModuleDict({"features": inner})
    outer = nn.Sequential(inner, nn.Tanh())
    assert re.search(r"output .*layer 0\.1 \(Break\)$", find(outer))
    got = locate(model, [torch.ones(1, 3)], lambda: inner(torch.ones(1, 3)))
    assert re.search(r"output .*layer features\.1 \(Break\)$", got)


def test_a_bad_gradient_names_the_layer_whose_backward_made_it():
    got = find(net(BadBackward.apply))
    assert re.search(r"gradient .*output .*layer 0\b.*backward .*layer 1$", got)


def test_a_bad_gradient_of_weights_alone():
    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            return x * w

        @staticmethod
        def backward(ctx, gradient):
            return gradient, torch.full((3,), float("inf"))

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return Scale.apply(x, self.w)

    assert re.search(r"gradient .*weights 1\.w$", find(nn.Sequential(nn.Linear(3, 3), Layer())))


def test_images_and_weights_are_looked_at_first():
    images = torch.ones(4, 3)
    images[1, 0], images[3, 2] = float("nan"), float("inf")
    assert re.search(r"input images .*samples 1, 3\b", find(net(lambda x: x / 0), images))
    model = net(lambda x: x / 0)
    with torch.no_grad():
        model[3].bias[0] = float("inf")
    assert find(model) == "the weights: 3.bias"


def test_a_second_run_without_a_fault_says_so():
    assert re.search(r"loss itself.*second run .*finite", find(net(lambda x: x)))


def test_the_hooks_are_taken_off_again():
    model = net(lambda x: x / 0)
    find(model)
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_an_error_of_another_kind_is_passed_on():
    def wrong(x):
        raise TypeError("a defect")

    with pytest.raises(TypeError, match="a defect"):
        find(net(wrong))
