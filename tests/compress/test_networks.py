"""Networks of torchvision and timm, small ones of the families, to half their parameters."""

import pytest
import torch
from torch import nn

from gcp.compress import decompose, factorise, factors_of


def resnet():
    from torchvision.models.resnet import Bottleneck, ResNet

    return ResNet(Bottleneck, [1, 1, 1, 1], num_classes=20, width_per_group=32)


def vit():
    from torchvision.models import VisionTransformer

    made = VisionTransformer(32, 8, 2, 4, 64, 256, num_classes=20)
    nn.init.normal_(made.heads.head.weight)  # zeros by default
    return made


def convnext():
    import timm

    return timm.create_model("convnext_atto", num_classes=20, dims=(16, 32, 64, 128), depths=(1, 1, 2, 1))


@torch.no_grad()
def decaying(model):
    """Singular values that fall as 1/i, as those of trained layers do; random ones hardly fall."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and getattr(module, "groups", 1) == 1:
            U, S, V = torch.linalg.svd(module.weight.flatten(1), full_matrices=False)
            values = 1 / torch.arange(1, len(S) + 1)
            module.weight.copy_(((U * values * S.norm() / values.norm()) @ V).reshape(module.weight.shape))
    return model


@pytest.mark.parametrize("create", [resnet, vit, convnext])
@pytest.mark.parametrize("method", ["svd", "asvd", "output_pca"])
def test_half_the_parameters_at_the_error_that_was_predicted(create, method):
    torch.manual_seed(0)
    model = decaying(create())
    images = torch.randn(192, 3, 32, 32) + torch.randn(192, 3, 1, 1)
    with torch.no_grad():
        model.train()(images[:64])  # batch statistics of these images
        model.eval()
    small, report = decompose(model, params=0.5, method=method, data=images[:128].split(32))
    assert 0.47 * report.parameters < report.parameters_after == sum(p.numel() for p in small.parameters())
    assert report.parameters_after <= 0.5 * report.parameters and len(report.factored) >= 4
    assert all(row.reason for row in report.rows if not row.rank)
    with torch.no_grad():
        dense, new = model(images[128:]), small(images[128:])
    error = ((new - dense).norm() / dense.norm()).item()
    assert report.error / 2 < error < 2 * report.error
    for row in report.factored if method == "output_pca" else []:
        assert row.estimated / 2 < row.measured < 2 * row.estimated, row
    again = create().eval()
    factorise(again, factors_of(small))
    again.load_state_dict(small.state_dict())
    with torch.no_grad():
        assert torch.equal(again(images[128:]), new)
