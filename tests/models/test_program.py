"""Models as programs, against the models: every head, every format."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

from gcp.errors import GCPError
from gcp.heads import head_options, list_heads
from gcp.kernels.cpu import set_threads
from gcp.models import create_model
from gcp.models.program import PRODUCTS_ONLY, Plain, substitute, write_program

ABOUT = {"classes": ["ü", "b"], "mean": [0.5]}
HEADS = sorted(str(entry) for entry in list_heads())


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def classifier(head, dim=10, **options):
    model = create_model("resnet8_cifar", head=head, num_classes=5, dim=dim, **options)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
    return model.eval()


def relative(ours, theirs):
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("dim", [10, 80, None])  # channels below and above the 64 positions
def test_plain_is_the_model(head, dim):
    model, images = classifier(head, dim), torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(Plain(model)(images), model(images)) or relative(Plain(model)(images), model(images)) < 1e-6


def test_plain_on_constant_maps():
    """The covariance of an image of one colour is zero, in the model and in the program."""
    for head in ("covariance", "polar_express", "svd_pade"):
        model = classifier(head)
        images = torch.full((2, 3, 32, 32), 0.3)
        images[1, :, :5] = -1.0
        with torch.no_grad():
            assert torch.allclose(Plain(model)(images), model(images), atol=1e-6)


@pytest.mark.parametrize("head", PRODUCTS_ONLY)
def test_onnx(head, tmp_path):
    model, images = classifier(head), torch.randn(6, 3, 32, 32)
    assert substitute(model, images) is None
    write_program(model, images, tmp_path / "ü m.onnx", ABOUT)
    session = onnxruntime.InferenceSession(str(tmp_path / "ü m.onnx"), providers=["CPUExecutionProvider"])
    for batch in (1, 2, 6):
        got = session.run(["logits"], {"images": images[:batch].numpy()})[0]
        with torch.no_grad():
            assert np.abs(got - model(images[:batch]).numpy()).max() < 1e-4
    assert json.loads(session.get_modelmeta().custom_metadata_map["about"]) == ABOUT
    assert [path.name for path in tmp_path.iterdir()] == ["ü m.onnx"]


@pytest.mark.parametrize("head", ["average", "svd_pade", "seb", "mpa_lyapunov", "newton_schulz"])
def test_torch_export(head, tmp_path):
    model, images = classifier(head), torch.randn(6, 3, 32, 32)
    write_program(model, images, tmp_path / "m.pt2", ABOUT)
    extra = {"about.json": ""}
    program = torch.export.load(tmp_path / "m.pt2", extra_files=extra).module()
    for batch in (1, 6):
        with torch.no_grad():
            assert relative(program(images[:batch]), model(images[:batch])) < 1e-5
    assert json.loads(extra["about.json"]) == ABOUT


@pytest.mark.parametrize("ending", ["pt2", "ts"])
def test_a_calibrated_model(ending, tmp_path):
    """The program divides its logits by the temperature, as the model does."""
    model, images = classifier("average"), torch.randn(2, 3, 32, 32)
    model.temperature = 0.5
    write_program(model, images, tmp_path / f"m.{ending}", {})  # which compares the program with the model


@pytest.mark.parametrize("head", HEADS)
def test_torchscript(head, tmp_path):
    model, images = classifier(head), torch.randn(6, 3, 32, 32)
    write_program(model, images, tmp_path / "m.ts", ABOUT)
    extra = {"about.json": ""}
    program = torch.jit.load(tmp_path / "m.ts", _extra_files=extra)
    for batch in (1, 6):
        with torch.no_grad():
            assert relative(program(images[:batch]), model(images[:batch])) < 1e-5
    assert json.loads(extra["about.json"]) == ABOUT


def test_torchscript_with_threads_of_the_eigensolver(tmp_path):
    """A batch that is large enough to be handed out to threads when it is traced."""
    before = torch.get_num_threads()
    set_threads(2)
    try:
        model = classifier("svd_pade", 80)
        write_program(model, torch.randn(5, 3, 32, 32), tmp_path / "m.ts", {}, batch=None)
    finally:
        set_threads(before)


@pytest.mark.parametrize(
    ("head", "options", "ending", "scale"),
    [
        ("newton_schulz", {}, "onnx", 1e20),
        ("polar_express", {}, "ts", 1e-22),
        ("gaussian", {"solver": "newton_schulz"}, "ts", 1e20),
        ("covariance", {}, "ts", 1e18),
        ("seb", {"precision": "float32"}, "ts", 1e20),
    ],
)
def test_features_whose_squares_float32_does_not_hold(head, options, ending, scale, tmp_path):
    model, images = classifier(head, **options), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        power, ordinary = (2 if head == "covariance" else 1), model(images) - model.classifier.bias
        norm = next(module for module in model.head.reduction.modules() if isinstance(module, torch.nn.BatchNorm2d))
        norm.weight.mul_(scale)
        norm.bias.mul_(scale)
        model.classifier.weight.div_(scale**power)
        assert head == "seb" or relative(model(images) - model.classifier.bias, ordinary) < 1e-4
    write_program(model, images, tmp_path / f"m.{ending}", {})  # which compares the program with the model


def test_a_fixed_number_of_images(tmp_path):
    model, images = classifier("polar_express"), torch.randn(7, 3, 32, 32)
    write_program(model, images, tmp_path / "m.pt2", {}, batch=3)
    program = torch.export.load(tmp_path / "m.pt2").module()
    assert program(images[:3]).shape == (3, 5)
    with pytest.raises(Exception, match=r"3"):
        program(images)


@pytest.mark.parametrize("head", [head for head in HEADS if head not in PRODUCTS_ONLY])
def test_an_eigen_head_becomes_polar_express(head):
    model, images = classifier(head), torch.randn(6, 3, 32, 32)
    with torch.no_grad():
        before = model(images)
    told = substitute(model, images)
    with torch.no_grad():
        after = model(images)
    chosen = model.arguments.get("solver") if "solver" in head_options(head) else model.arguments["head"]
    assert chosen == ("log_euclidean" if head == "log_euclidean" else "polar_express") and told.count == 6
    assert told.logits == pytest.approx(relative(after, before)) and told.same == (
        (after.argmax(1) == before.argmax(1)).float().mean()
    )
    exact = {"svd_exact", "svd_original", "svd_pade", "svd_taylor", "svd_pi", "svd_trunc", "svd_newton"}
    exact |= {"second_moment", "gaussian", "power", "halley", "log_euclidean"}
    assert (told.logits < 1e-3) == (head in exact), told


def test_rounded_products_become_full_ones():
    model, images = classifier("newton_schulz", products="bf16", iterations=4), torch.randn(6, 3, 32, 32)
    told = substitute(model, images)
    assert 0 < told.logits < 0.05
    assert model.head.root.method.iteration.products == "full" and model.head.root.method.iteration.iterations == 4


def test_what_differs_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("gcp.models.program.AGREE", 0.0)
    (tmp_path / "m.onnx").write_text("old")
    with pytest.raises(GCPError, match=r"differs .*m\.onnx is not written"):
        write_program(classifier("average"), torch.randn(4, 3, 32, 32), tmp_path / "m.onnx", {})
    assert (tmp_path / "m.onnx").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_no_eigendecomposition_in_onnx(tmp_path):
    with pytest.raises(GCPError, match="the model cannot be written as ONNX: "):
        write_program(classifier("svd_pade"), torch.randn(4, 3, 32, 32), tmp_path / "m.onnx", {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["onnx", "pt2"])
def test_a_logarithm_by_products(ending, tmp_path):
    """More channels than positions, so that null eigenvalues become the logarithm of the ridge."""
    model, images = classifier("log_euclidean", 80), torch.randn(4, 3, 32, 32)
    assert substitute(model, images).logits < 1e-6
    write_program(model, images, tmp_path / f"m.{ending}", {})  # which compares the program with the model
