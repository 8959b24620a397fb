"""What the page shows, without a browser and without gradio: an image in, classes, map and spectrum out."""

import re

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from gcp.data.transforms import create_transform
from gcp.engine.timm_reference import TimmReference
from gcp.errors import DataError
from gcp.evaluation.explanation import draw_spectrum, explain, overlay
from gcp.evaluation.page import told
from gcp.models import create_model
from gcp.runs.trained import TrainedClassifier

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)


def trained(head="svd_pade", dim=12, model=None, size=32, names=tuple("abcde")):
    torch.manual_seed(0)
    model = model or create_model("resnet8_cifar", head=head, num_classes=5, dim=dim)
    return TrainedClassifier(model.eval(), names, create_transform("square", "square", size, 3), 3)


def test_the_three_outputs():
    model = trained()
    picture = Image.fromarray(PIXELS)
    found = explain(model, picture)
    assert dict(found.probabilities) == pytest.approx(dict(model.predict(picture)[0].top), abs=1e-6)
    assert found.explained == model.predict(picture)[0].name and not found.remarks
    assert found.image.shape == (32, 32, 3) and found.map.shape == (32, 32) and found.map.max() == pytest.approx(1)
    with torch.no_grad():
        x = model.model.head.reduction(model.model.features(model.prepare(picture))).double()
    expected = torch.linalg.eigvalsh(torch.cov(x[0].flatten(1), correction=0)).flip(0).numpy()
    rank = found.spectrum.rank
    assert np.allclose(found.spectrum.eigenvalues, expected[:rank], rtol=1e-8) and rank == (expected > 1e-14).sum()
    assert found.spectrum.condition == pytest.approx(expected[0] / expected[rank - 1])
    assert np.allclose(found.spectrum.root, expected[:rank] ** 0.5, rtol=1e-3)
    assert all(part in told(found) for part in (f"rank {rank} of 12", "condition number", "<svg", "var(--blue)"))


def test_the_map_of_another_class():
    model, picture = trained(), Image.fromarray(PIXELS)
    maps = [explain(model, picture, place) for place in range(2)]
    assert [found.explained for found in maps] == ["a", "b"]
    assert not np.allclose(maps[0].map, maps[1].map, atol=0.05)


@pytest.mark.parametrize("head", ["average", "gaussian", "log_euclidean", "bilinear"])
def test_every_kind_of_head(head):
    found = explain(trained(head), Image.fromarray(PIXELS))
    assert found.map is not None and found.spectrum.channels == 12
    root = found.spectrum.root
    assert (root is not None) == (head == "gaussian")
    if root is not None:
        assert len(root) == found.spectrum.rank + 1


@pytest.mark.parametrize("kind", ["grey", "grey16", "rgba", "exif", "palette"])
def test_kinds_of_files(kind, tmp_path):
    """Each is taken as a viewer shows it."""
    path, colour = tmp_path / "x.png", Image.fromarray(PIXELS)
    expected = colour
    if kind == "grey":
        expected = colour.convert("L")
        expected.save(path)
    elif kind == "grey16":
        expected = colour.convert("L")
        Image.fromarray(np.asarray(expected).astype(np.uint16) * 257).save(path)
    elif kind == "rgba":
        colour.putalpha(Image.fromarray((PIXELS[..., 0] > 128).astype(np.uint8) * 255))
        colour.save(path)
        expected = Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour)
    elif kind == "exif":
        path = path.with_suffix(".jpg")
        exif = Image.Exif()
        exif[0x0112] = 6
        colour.save(path, exif=exif, quality=100, subsampling=0)
        expected = colour.transpose(Image.Transpose.ROTATE_270)
    else:
        colour.quantize(256).save(path)
        expected = colour.quantize(256).convert("RGB")
    model = trained()
    shown, wanted = explain(model, str(path)).image, explain(model, expected.convert("RGB")).image
    assert np.abs(shown.astype(int) - wanted).max() <= (12 if kind == "exif" else 1)


def test_a_broken_image_is_one_message(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cannot read the image .*x\.png: "):
        explain(trained(), tmp_path / "x.png")


def test_what_a_model_does_not_have_is_said():
    """A class token has no map, a single position no spectrum; the classes are there all the same."""
    reference = TimmReference(timm.create_model("test_vit", num_classes=5), "test_vit")
    found = explain(trained(model=reference, size=160, names=None), Image.fromarray(PIXELS))
    assert found.map is None and found.spectrum.rank > 0 and found.explained.startswith("class ")
    assert [remark[:8] for remark in found.remarks] == ["No map: "]
    found = explain(trained("average", size=4), Image.fromarray(PIXELS))
    assert found.spectrum is None and "single position" in found.remarks[0] and "<svg" not in told(found)


def test_a_constant_image():
    """The covariance of a constant map is zero."""
    model = trained(dim=None)
    for module in model.model.features.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.zeros_(module.weight)
    found = explain(model, Image.new("RGB", (32, 32), "grey"))
    assert found.spectrum.rank == 0 and "covariance is zero" in told(found)


def test_the_picture_under_its_map():
    image = np.full((8, 12, 3), 100, np.uint8)
    found = overlay(image, np.eye(8, 12, dtype=np.float32))
    assert found.shape == (360, 540, 3) and found.dtype == np.uint8
    assert found[10, 10].sum() > found[10, -10].sum()
    assert (overlay(image, None) == 100).all() and overlay(np.zeros((400, 500, 3), np.uint8), None).shape == (
        400,
        500,
        3,
    )


def test_the_chart_takes_the_colours_of_its_page():
    svg = draw_spectrum(explain(trained(), Image.fromarray(PIXELS)).spectrum)
    assert not re.search(r"#[0-9a-f]{6}", svg) and "mathdefault" not in svg and ">1e-" in svg
