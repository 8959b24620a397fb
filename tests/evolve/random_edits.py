"""Random edits of a network, each checked: it runs, counts as it says, and growth changes nothing.

python tests/evolve/random_edits.py [EDITS]     # of ResNet-18, ResNet-50 and AlexNet: 100 each take minutes
"""

import random
import sys
import time

import torch
from torch import nn

from gcp.evolve import grow, resize, shrink, trace, widths

GROWN = 1e-6  # largest change by growth, relative to the largest output


def resnet(block, blocks, **options):
    from torchvision.models.resnet import ResNet

    return ResNet(block, blocks, num_classes=10, **options)


def resnet18():
    from torchvision.models.resnet import BasicBlock

    return resnet(BasicBlock, [2, 2, 2, 2])


def resnet50():
    from torchvision.models.resnet import Bottleneck

    return resnet(Bottleneck, [3, 4, 6, 3])


def alexnet():
    from torchvision.models import alexnet

    return alexnet(num_classes=10, dropout=0)


def shapes_of(model):
    """Numbers that the modules tell of themselves, against the shapes of their weights."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            yield module.weight.shape[:2] == (module.out_channels, module.in_channels // module.groups)
        elif isinstance(module, nn.Linear):
            yield module.weight.shape == (module.out_features, module.in_features)
        elif isinstance(module, nn.BatchNorm2d):
            vectors = (module.weight, module.bias, module.running_mean, module.running_var)
            yield all(vector.shape == (module.num_features,) for vector in vectors)


def linked(old, new, before, width):
    """Whether each axis of a shape is as it was, or has `width` in the place of `before` channels."""
    return all(after == size or after * before == size * width for size, after in zip(old, new, strict=True))


def random_edits(create, edits, images, seed=0, most=1.3):
    """Edit a new network; AssertionError names the edit that went wrong. Returns the largest change by growth."""
    torch.manual_seed(seed)
    draw = random.Random(seed)
    model = create().eval()
    worst = 0.0
    for number in range(edits):
        dimension = draw.choice([d for d in trace(model, images).values() if d.editable])
        name, before = dimension.name, dimension.width
        units = max(1, min(round(before * draw.uniform(0.6, most)), 600) // dimension.step)
        width = units * dimension.step
        shapes = {key: parameter.shape for key, parameter in model.named_parameters()}
        with torch.no_grad():
            old = model(images)
        if width >= before:
            report = grow(model, name, width, example=images)
        else:
            method = draw.choice(["pivot", "magnitude", "last"])
            report = shrink(model, name, width, images if method == "pivot" else None, method=method, example=images)
        with torch.no_grad():
            new = model(images)
        what = f"edit {number} of seed {seed}: {name} {before} -> {width}"
        counted = sum(parameter.numel() for parameter in model.parameters())
        assert report.parameters_after == counted, what
        assert all(linked(shapes[key], p.shape, before, width) for key, p in model.named_parameters()), what
        assert new.shape == old.shape and new.isfinite().all(), what
        assert all(shapes_of(model)), what
        if width >= before:
            change = ((new - old).abs().max() / old.abs().max()).item()
            worst = max(worst, change)
            assert change <= GROWN, f"{what}: outputs changed by {change:.1e}"
    again = create().eval()
    resize(again, widths(model, images), images)
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(again(images), model(images)), "the rebuilt model is another"
    model.train()
    model(images).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    return worst


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    for create, size in ((resnet18, 32), (resnet50, 32), (alexnet, 64)):
        start = time.perf_counter()
        worst = random_edits(create, count, torch.randn(4, 3, size, size))
        print(f"{create.__name__}: {count} edits, growth changed outputs by {worst:.1e} at most, "
              f"{time.perf_counter() - start:.0f} s", flush=True)  # fmt: skip
