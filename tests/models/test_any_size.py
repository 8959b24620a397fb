"""Transformers at other sizes than they were trained at, non-square ones too."""

import pytest
import torch

import gcp
from gcp.errors import ShapeError
from gcp.models import create_backbone, load_backbone


def meta(name, **options):
    with torch.device("meta"):
        return create_backbone(name, **options)


@pytest.mark.parametrize(
    ("name", "size", "sides"),
    [
        ("vit_small_patch16_224", 448, (28, 28)),
        ("vit_small_patch16_224", (448, 224), (28, 14)),
        ("deit_tiny_distilled_patch16_224", 448, (28, 28)),
        ("vit_small_patch14_reg4_dinov2", 224, (16, 16)),
        ("vit_small_patch14_dinov2", 448, (32, 32)),
        ("vit_small_patch16_dinov3", 448, (28, 28)),
        ("swin_tiny_patch4_window7_224", 448, (14, 14)),
        ("swin_tiny_patch4_window7_224", (448, 224), (14, 7)),
        ("swinv2_tiny_window8_256", 224, (7, 7)),
        ("beit_base_patch16_224", 448, (28, 28)),
        ("xcit_nano_12_p16_224", 448, (28, 28)),
        ("resnet18", 448, (14, 14)),
    ],
)
def test_map_at_a_size(name, size, sides):
    assert meta(name, image_size=size).map_size(size) == sides


def test_at_the_size_of_its_training_nothing_changes():
    torch.manual_seed(0)
    plain = create_backbone("test_vit").eval()
    torch.manual_seed(0)
    same, any_size = create_backbone("test_vit", image_size=160).eval(), create_backbone("test_vit", image_size=96)
    assert plain.image_size == same.image_size == (160, 160) and any_size.image_size is None
    any_size.eval().load_state_dict(plain.state_dict())  # the weights keep their shapes
    x = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        assert torch.equal(plain(x), same(x))
        torch.testing.assert_close(any_size(x), plain(x))
        assert any_size(torch.randn(1, 3, 64, 96)).shape == (1, 64, 4, 6)


def test_sides_that_no_patches_fill():
    backbone = create_backbone("test_vit", image_size=96)
    with pytest.raises(ShapeError, match=r"16x16, got 100x96; set data\.image_size=96 or 112"):
        backbone(torch.zeros(1, 3, 100, 96))


def test_a_backbone_of_one_size_only():
    with pytest.raises(ShapeError, match=r"240x240 only, got 448x448; set data\.image_size=240.*vit_"):
        meta("crossvit_9_240", image_size=448)


def test_weights_of_another_size(tmp_path, caplog):
    """A file whose position embedding is of another grid is brought to that of the model, as timm does it."""
    import timm

    file = tmp_path / "w.pt"
    torch.save(timm.create_model("test_vit", img_size=96, num_classes=0).state_dict(), file)
    backbone = create_backbone("test_vit")
    load_backbone(backbone, file)
    assert "pos_embed" not in caplog.text  # of the file, nothing is left over
    reference = timm.create_model("test_vit", num_classes=0)
    theirs = timm.models.vision_transformer.checkpoint_filter_fn(torch.load(file), reference)
    assert torch.equal(backbone.body.pos_embed, theirs["pos_embed"])
    assert torch.equal(backbone.body.blocks[0].mlp.fc1.weight, theirs["blocks.0.mlp.fc1.weight"])


def test_swin_trains_at_another_size():
    import timm

    body = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=(64, 96), window_size=2, embed_dim=8, depths=(1, 1), num_heads=(1, 2)
    )
    model = gcp.create_model(body, "svd_pade", 3, dim=4, image_size=(64, 96), token="concat")
    model(torch.randn(2, 3, 64, 96)).sum().backward()
    assert model.features.map_size((64, 96)) == (8, 12)


def test_compiled_and_exported_at_another_size(tmp_path):
    from gcp.models.program import write_program

    model = gcp.create_model("test_vit", "newton_schulz", 3, dim=4, image_size=64).eval()
    assert write_program(model, torch.randn(2, 3, 64, 64), tmp_path / "m.pt2", {}) < 1e-4
