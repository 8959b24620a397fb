"""Class activation maps: they are those of the package grad-cam, and account for the logit."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch.nn import functional

from gcp.engine.timm_reference import TimmReference
from gcp.errors import GCPError
from gcp.evaluation.attention import Divided, attention, contributions, draw_attention
from gcp.models import create_model

CLASSES = [3, 1]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def classifier(head, dim=12, **options):
    return create_model("resnet8_cifar", head=head, num_classes=5, dim=dim, **options).eval()


@pytest.mark.parametrize("head", ["average", "svd_pade", "newton_schulz", "covariance", "bilinear", "seb"])
def test_the_same_logits(head):
    model, images = classifier(head), torch.randn(2, 3, 32, 32)
    assert torch.allclose(Divided(model)(images), model(images), atol=1e-6)


@pytest.mark.parametrize(
    ("head", "degree"), [("svd_exact", 1), ("polar_express", 1), ("newton_schulz", 1), ("covariance", 2)]
)
@pytest.mark.parametrize("dim", [12, None])
def test_an_exact_account_of_the_logit(head, degree, dim):
    """Euler: the sum over the positions is degree (logit - bias)."""
    model = classifier(head, dim).double()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    found, logits = contributions(model, images, CLASSES), model(images)[range(2), CLASSES]
    expected = degree * (logits - model.classifier.bias[CLASSES])
    assert torch.allclose(found.sum((1, 2)), expected.detach(), rtol=1e-4 if head == "polar_express" else 1e-6)


def scaled(maps):
    """Each (B, h, w) from 0 to 1."""
    maps = maps - maps.amin((1, 2), keepdim=True)
    return maps / maps.amax((1, 2), keepdim=True)


@pytest.mark.parametrize("head", ["svd_pade", "covariance", "bilinear", "average"])
def test_the_contributions_at_the_size_of_the_image(head):
    model, images = classifier(head), torch.randn(2, 3, 32, 32)
    maps = attention(model, images, CLASSES)
    assert maps.shape == (2, 32, 32) and maps.min() >= 0 and maps.max() == pytest.approx(1, abs=1e-3)
    found = contributions(model, images, CLASSES).relu()
    found = scaled(functional.interpolate(scaled(found)[:, None], size=(32, 32), mode="bilinear")[:, 0])
    assert np.allclose(maps, found, atol=1e-3)


@pytest.mark.parametrize(
    ("head", "method"), [("svd_pade", "HiResCAM"), ("bilinear", "HiResCAM"), ("average", "GradCAM")]
)
def test_the_maps_of_the_package(head, method):
    """Its HiResCAM; of first order it is Grad-CAM as well."""
    package = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, images = classifier(head), torch.randn(2, 3, 32, 32)
    divided = Divided(model)
    with getattr(package, method)(model=divided, target_layers=[divided.map]) as cam:
        expected = cam(images.clone().requires_grad_(), [ClassifierOutputTarget(number) for number in CLASSES])
    assert np.allclose(attention(model, images, CLASSES), expected, atol=1e-3 if method == "HiResCAM" else 1e-4)


@pytest.mark.parametrize("head", ["svd_pade", "covariance"])
def test_mean_gradients_of_a_covariance_are_zero(head):
    """Why Grad-CAM is not taken for them."""
    model = classifier(head)
    x = torch.randn(2, 12, 8, 8, requires_grad=True)
    gradient = torch.autograd.grad(model.logits(model.head.pool(x))[:, 2].sum(), x)[0]
    assert gradient.mean((2, 3)).abs().max() < 1e-6 * gradient.abs().max()


def test_a_frozen_model_is_left_as_it_was():
    model = classifier("svd_pade").requires_grad_(False)
    assert attention(model, torch.randn(2, 3, 32, 32), CLASSES).max() > 0.9
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.head._forward_hooks


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_vit3"])
def test_models_of_timm(name):
    model = TimmReference(timm.create_model(name, num_classes=5).eval(), name)
    images = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        assert torch.allclose(Divided(model)(images), model(images), atol=1e-5)
    maps = attention(model, images, CLASSES)
    assert maps.shape == (2, 160, 160) and np.isfinite(maps).all()


def test_a_class_token_has_no_map():
    model = TimmReference(timm.create_model("test_vit", num_classes=5).eval(), "test_vit")
    with pytest.raises(GCPError, match=r"no gradient reaches the feature map: .*class token"):
        attention(model, torch.randn(2, 3, 160, 160), CLASSES)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_picture(count, tmp_path):
    images = [np.random.default_rng(n).random((32, 32, 3)) for n in range(count)]
    maps = np.zeros((count, 32, 32), np.float32)
    draw_attention(images, maps, ["$x_1$ ü 7 %"] * count, tmp_path / "cam.png")
    width, height = Image.open(tmp_path / "cam.png").size
    assert (width, height) == ((520, 295) if count == 1 else (1040, 295 * -(-count // 2)))
