"""The class token beside the covariance: what reads it, and that prefix tokens never enter a map."""

import pytest
import torch

import gcp
from gcp.errors import GCPError, OptionError
from gcp.models import create_backbone, freeze, load_classifier, parameter_groups
from gcp.models.program import write_program

SIDE = 32  # of images; two patches of test_vit


def small(token="auto", name="test_vit", **options):
    torch.manual_seed(0)
    return gcp.create_model(name, "svd_pade", 5, dim=4, token=token, image_size=SIDE, **options)


def images(batch=3):
    return torch.randn(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def moved(model, by=100.0):
    """The change of the logits where the class token of the last layer is moved."""
    before = model.eval()(images())
    handle = model.features.body.norm.register_forward_hook(
        lambda module, args, out: torch.cat([out[:, :1] + by * torch.randn(out.shape[-1]), out[:, 1:]], 1)
    )
    after = model(images())
    handle.remove()
    return float((after - before).detach().abs().max())


@pytest.mark.parametrize(("token", "reads"), [("auto", True), ("sum", True), ("concat", True), ("none", False)])
def test_the_class_token_is_read_where_it_is_asked_for(token, reads):
    model = small(token)
    assert (moved(model) > 1) is reads
    assert model.token == {"auto": "sum"}.get(token, token) == model.arguments["token"]


def test_what_is_fused():
    model, pooled = small("sum").eval(), []
    x, token = model.features.with_token(images())
    assert torch.equal(x, model.features(images())) and token.shape == (3, 64)
    pooled = model.head(x)
    assert torch.equal(model(images()), model.classifier(pooled) + model.token_classifier(token))
    joined = small("concat").eval()
    joined.features, joined.head = model.features, model.head
    assert torch.equal(joined(images()), joined.classifier(torch.cat([pooled, token], 1)))


@pytest.mark.parametrize(
    ("name", "prefix", "class_token"),
    [
        ("vit_small_patch16_224", 1, True),
        ("deit_tiny_distilled_patch16_224", 2, True),
        ("vit_small_patch14_reg4_dinov2", 5, True),
        ("vit_small_patch16_dinov3", 5, True),
        ("eva02_tiny_patch14_224", 1, True),
        ("vit_little_patch16_reg4_gap_256", 4, False),  # registers only
        ("swin_tiny_patch4_window7_224", 0, False),
        ("resnet18", 0, False),
    ],
)
def test_prefix_tokens_are_no_part_of_the_map(name, prefix, class_token):
    with torch.device("meta"):
        backbone = create_backbone(name)
    assert backbone.class_token is class_token
    assert getattr(backbone.body, "num_prefix_tokens", 0) == prefix
    height, width = backbone.map_size(backbone.native_size)
    assert height == width and backbone.native_size[0] % height == 0


def test_registers_do_not_enter_a_covariance():
    model = gcp.create_model("test_vit3", "covariance", 5, image_size=SIDE, token="none").eval()
    assert model.features._prefix == 1 and not model.features.class_token
    x, token = model.features.with_token(images())
    assert torch.equal(token, x.mean((2, 3)))  # no class token: what stands in its place is the mean over the map
    body = model.features.body
    height, width = x.shape[2:]
    assert torch.equal(x, body.forward_features(images())[:, 1:].mT.unflatten(2, (height, width)))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit3"])
def test_without_a_class_token_the_default_is_none(name):
    assert small(name=name).token == "none"
    model = small("sum", name=name)
    assert model.token_classifier is not None and model(torch.randn(3, 3, 64, 64)).shape == (3, 5)


def test_without_the_token_the_model_is_what_it_was():
    """The same random numbers are drawn, so that a seed gives the same model."""
    plain, fused = small("none"), small("sum")
    own = plain.state_dict()
    assert set(fused.state_dict()) - set(own) == {"token_classifier.weight", "token_classifier.bias"}
    assert all(torch.equal(value, fused.state_dict()[key]) for key, value in own.items())


def test_the_classifier_of_the_token_belongs_to_the_part_classifier():
    model = small("sum", hidden=[7])
    groups = {group["name"]: group["params"] for group in parameter_groups(model, 0.1, 0.0, classifier_lr_factor=3)}
    assert any(p is model.token_classifier.weight for p in groups["classifier"])
    freeze(model, ["classifier"])
    model.train()
    assert not model.token_classifier.weight.requires_grad and not model.token_classifier.training
    model = small("sum")
    freeze(model, ["features"])
    model.train()(images()).sum().backward()
    assert model.token_classifier.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.features.parameters())


def test_half_precision():
    for token in ("sum", "concat"):
        model = small(token).bfloat16().eval()
        assert model(images().bfloat16()).dtype == torch.bfloat16
        with torch.autocast("cpu", torch.bfloat16):
            assert small(token)(images()).shape == (3, 5)


@pytest.mark.parametrize("token", ["sum", "concat"])
@pytest.mark.parametrize("ending", [".pt2", ".ts"])
def test_exported(token, ending, tmp_path):
    model = gcp.create_model("test_vit", "newton_schulz", 5, dim=4, token=token, image_size=SIDE).eval()
    assert write_program(model, images(), tmp_path / f"m{ending}", {}) < 1e-4


@pytest.mark.parametrize("token", ["sum", "concat"])
def test_a_file_fills_it(token, tmp_path):
    model = small(token)
    torch.save(model.state_dict(), tmp_path / "m.pt")
    torch.manual_seed(3)
    other = gcp.create_model("test_vit", "svd_pade", 5, dim=4, token=token, image_size=SIDE)
    load_classifier(other, tmp_path / "m.pt")
    assert torch.equal(other.eval()(images()), model.eval()(images()))


def test_low_rank_of_both_classifiers():
    from gcp.compress.factors import factorise, factors_of

    model = small("sum")
    factorise(model, ["classifier=3", "token_classifier=2"], keep=True)
    assert factors_of(model) == ["classifier=3", "token_classifier=2"]
    assert model.eval()(images()).shape == (3, 5)


def test_widths_of_the_reduction():
    """Evolution edits the width that the head pools, but for `concat`, whose classifier reads more than a triangle."""
    other = small("sum", widths={"head.reduction": 6})
    assert other.head(other.features(images())).shape == (3, 21)
    assert other(images()).shape == (3, 5)
    with pytest.raises(GCPError, match=r"head\.reduction"):
        small("concat", widths={"head.reduction": 6})


def test_unknown():
    with pytest.raises(OptionError, match=r"token .*'add'.*auto, none, concat, sum"):
        small("add")


def test_timms_interface():
    import timm

    import gcp.timm

    name = "gcp_test_vit" if timm.is_model("gcp_test_vit") else gcp.timm.register("test_vit")
    model = timm.create_model(name, num_classes=5, dim=4, token="concat", image_size=SIDE).eval()
    features = model.forward_features(images())
    assert features.shape == (3, 5, 64)  # the class token and four patches
    pooled = model.forward_head(features, pre_logits=True)
    assert pooled.shape == (3, model.head_hidden_size)
    assert torch.equal(model.get_classifier()(pooled), model(images()))
    model.reset_classifier(3)
    assert model(images()).shape == (3, 3)
    with pytest.raises(GCPError, match=r"token .*'sum'.*concat"):
        timm.create_model(name, token="sum")


TINY = {"embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0}
FAMILIES = {
    "vit_small_patch16_224": {**TINY, "img_size": 64},
    "deit_small_distilled_patch16_224": {**TINY, "img_size": 64},
    "vit_small_patch14_reg4_dinov2": {**TINY, "img_size": 56},
    "vit_small_patch16_dinov3": {**TINY, "img_size": 64},
    "swin_tiny_patch4_window7_224": {
        **{"img_size": 64, "window_size": 4, "embed_dim": 16, "depths": (1, 1), "num_heads": (2, 2), "num_classes": 0},
    },
}


@pytest.mark.parametrize("token", ["none", "sum"])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_step_a_program_and_a_file_of_each_family(name, token, tmp_path):
    """Of a shallow one of each kind of transformer."""
    import timm

    def build(pretrained=False):
        torch.manual_seed(0)
        body, side = timm.create_model(name, **FAMILIES[name]), FAMILIES[name]["img_size"]
        return gcp.create_model(body, "newton_schulz", 3, dim=4, image_size=side, token=token, pretrained=pretrained)

    model, side = build(), FAMILIES[name]["img_size"]
    x = torch.randn(4, 3, side, side)
    optimizer = torch.optim.SGD(parameter_groups(model, 0.1, 0.0), lr=0.1)
    torch.nn.functional.cross_entropy(model(x), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    if token == "sum":
        assert write_program(model, x, tmp_path / "m.pt2", {}) < 1e-4
    torch.save(model.state_dict(), tmp_path / "m.pt")
    assert torch.equal(build(tmp_path / "m.pt").eval()(x), model(x))
