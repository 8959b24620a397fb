"""What heads take from the first batches: the mean beside the output, its scale, and the start of the reduction."""

import pytest
import torch

import gcp
from gcp.engine.batch_norm import synchronise
from gcp.errors import DataError, OptionError
from gcp.evolve.widths import resize
from gcp.heads import HEADS, create_head, first_batches
from gcp.heads.first_batches import measure
from gcp.models import create_model
from gcp.models.classifier import exchange_head
from gcp.models.program import plain_head, substitute

ALL = [str(name) for name in gcp.list_heads()]
SECOND_ORDER = [name for name in ALL if HEADS[name].obj.head.takes_mean]
MEASURED = {"output_scale": "measured"}


def maps(*shape, seed=0, dtype=torch.float64):
    """Features as behind a ReLU, of unequal channels."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).relu()
    return x * torch.linspace(0.5, 3, shape[1], dtype=dtype)[:, None, None]


def size(x):
    return x.square().sum(1).mean().sqrt()


@pytest.mark.parametrize("name", ALL)
def test_the_output_has_the_size_of_the_average(name):
    x = maps(12, 6, 4, 4)
    head = create_head(name, 6, **MEASURED).eval()  # drop_cov draws numbers in training
    gcp.initialize_head(head, [x[:4], x[4:]])
    torch.testing.assert_close(size(head(x)), size(x.mean((2, 3))), rtol=1e-6, atol=0)
    assert int(head.measured_on) == 12
    torch.testing.assert_close(head(x), head.scales[0] * create_head(name, 6).eval()(x))


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_the_mean_stands_beside_at_the_same_size(name):
    x = maps(12, 6, 4, 4)
    for options in ({}, MEASURED):
        head, alone = create_head(name, 6, mean="concat", **options).eval(), create_head(name, 6).eval()
        gcp.initialize_head(head, [x])
        out, plain = head(x), alone(x)
        assert out.shape[1] == head.out_features == alone.out_features + 6 and head.pooled_features == plain.shape[1]
        torch.testing.assert_close(out, torch.cat([plain * head.scales[0], x.mean((2, 3)) * head.scales[1]], 1))
        sizes = size(out[:, :-6]), size(out[:, -6:])
        torch.testing.assert_close(*sizes, rtol=1e-6, atol=0)
        if options:
            torch.testing.assert_close(size(out), size(x.mean((2, 3))), rtol=1e-6, atol=0)
        else:
            assert head.scales[0] == 1


MAPS = {
    "full rank": lambda: maps(2, 3, 3, 3),
    "fewer samples": lambda: maps(2, 5, 2, 1) + 0.1,
    "constant": lambda: maps(2, 3, 1, 1).expand(-1, -1, 2, 3) + maps(1, 3, 1, 1, seed=3),
    "batch of one": lambda: maps(1, 3, 3, 3),
}


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("name", ["svd_pade", "polar_express", "covariance", "gaussian"])
def test_gradcheck_with_the_mean(name, kind):
    x = MAPS[kind]().contiguous()
    head = create_head(name, x.shape[1], mean="concat", **MEASURED).double()
    head.scales.copy_(torch.tensor([0.7, 1.9]))
    assert torch.autograd.gradcheck(head, x.requires_grad_(), eps=1e-4, atol=1e-5, rtol=1e-4)


def test_constant_maps_differ_with_the_mean():
    x = maps(2, 3, 1, 1).expand(-1, -1, 4, 4)
    assert float(create_head("svd_pade", 3)(x).detach().norm()) == 0
    out = create_head("svd_pade", 3, mean="concat")(x)
    assert float((out[0] - out[1]).norm()) > 0.1


@pytest.mark.parametrize("name", ALL)
def test_without_them_a_head_is_as_before(name):
    head = create_head(name, 6, dim=4)
    assert not {"scales", "measured_on"} & set(head.state_dict())
    x = maps(3, 6, 4, 4, dtype=torch.float32)
    measure(head, [x])
    out = head.eval()(x)
    torch.testing.assert_close(out, head.pool(head.reduction(x)), rtol=0, atol=0)


def test_before_the_first_batches_the_scale_is_one():
    x = maps(3, 4, 3, 3)
    torch.testing.assert_close(create_head("svd_pade", 4, **MEASURED)(x), create_head("svd_pade", 4)(x))


@pytest.mark.parametrize("channels", [24, 8])
@pytest.mark.parametrize("reduction", ["conv", "orthogonal"])
def test_principal_directions(channels, reduction):
    head = create_head("svd_pade", channels, dim=6, reduction_init="pca", reduction=reduction)
    x = maps(40, channels, 3, 3, dtype=torch.float32)
    gcp.initialize_head(head, x.split(7))
    X = x.double().transpose(0, 1).flatten(1)
    W = head.reduction.conv.weight.detach().flatten(1).double()
    Z = W @ torch.cov(X, correction=0) @ W.T
    expected = torch.linalg.eigvalsh(torch.cov(X, correction=0)).flip(0)[:6]
    torch.testing.assert_close(Z, torch.diag(expected), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(W @ W.T, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-5)
    assert (W @ X.mean(1) > -1e-6).all()


def test_directions_that_the_features_do_not_have_stay_random():
    x = maps(30, 8, 3, 3, dtype=torch.float32)
    x[:, 3:] = x[:, :1]
    head = create_head("svd_pade", 8, dim=6, reduction_init="pca")
    before = head.reduction.conv.weight.detach().flatten(1).clone()
    gcp.initialize_head(head, [x])
    W = head.reduction.conv.weight.detach().flatten(1)
    assert not torch.equal(W[:3], before[:3])
    torch.testing.assert_close(W[3:], before[3:] / before[3:].norm(dim=1, keepdim=True))
    assert torch.isfinite(head(x)).all()


def small(**options):
    torch.manual_seed(0)
    return create_model("resnet8_cifar", head="svd_pade", num_classes=3, dim=4, **options)


EVERYTHING = {"mean": "concat", "reduction_init": "pca", **MEASURED}


@pytest.mark.parametrize("training", [True, False])
def test_a_model_keeps_everything_else(training):
    model = small(**EVERYTHING).train(training)
    model.features.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.rand(9, 3, 16, 16)
    state = torch.get_rng_state()
    gcp.initialize_head(model, [(images[:4], torch.zeros(4)), images[4:]])
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"head.scales", "head.measured_on", "head.reduction.0.weight"}
    assert torch.equal(state, torch.get_rng_state())
    assert all(module.training == training for module in model.modules())
    after = {key: value.clone() for key, value in model.state_dict().items()}
    gcp.initialize_head(model, [torch.rand(5, 3, 16, 16)])  # once is enough
    assert all(torch.equal(value, after[key]) for key, value in model.state_dict().items())


def test_only_the_first_images_are_read(monkeypatch):
    monkeypatch.setattr(first_batches, "IMAGES", 10)
    head, read = create_head("covariance", 3, **MEASURED), []

    def batches():
        for number in range(5):
            read.append(number)
            yield maps(4, 3, 2, 2, seed=number)

    gcp.initialize_head(head, batches())
    assert read == [0, 1, 2] and int(head.measured_on) == 12


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "0 images"),
        ([torch.zeros(4, 3, 2, 2)], "average of the map.*size 0.*output_scale=published"),
        ([torch.ones(4, 3, 2, 2)], "output of the head.*size 0"),
        (["images"], "type str; allowed: a tensor"),
    ],
)
def test_what_cannot_be_measured(batches, message):
    with pytest.raises(DataError, match=message):
        gcp.initialize_head(create_head("covariance", 3, **MEASURED), batches)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("svd_pade", {"mean": "sum"}, r"mean .*'sum'; allowed: none, concat"),
        ("average", {"mean": "concat"}, r"mean='concat' .*'average'.*allowed: 'none'"),
        ("svd_pade", {"output_scale": "mesured"}, "Did you mean 'measured'"),
        ("svd_pade", {"reduction_init": "svd"}, r"reduction_init .*'svd'; allowed: random, pca"),
        ("svd_pade", {"reduction_init": "pca"}, "no reduction; set dim"),
    ],
)
def test_faults(name, options, message):
    with pytest.raises(OptionError, match=message):
        create_head(name, 8, **options)


def test_weights_of_a_file_are_a_start_of_their_own():
    model, old = small(reduction_init="pca"), small()
    with torch.no_grad():
        old.head.reduction.conv.weight.add_(1)
    model.load_state_dict(old.state_dict(), strict=False)
    gcp.initialize_head(model, [torch.rand(8, 3, 16, 16)])
    assert torch.equal(model.head.reduction.conv.weight, old.head.reduction.conv.weight)


def test_an_exchanged_head_keeps_mean_and_scales():
    model = small(**EVERYTHING)
    images = torch.rand(8, 3, 16, 16)
    gcp.initialize_head(model, [images])
    scales, keys = model.head.scales, list(model.state_dict())
    exchange_head(model, "svd_taylor", degree=50)
    assert model.head.scales is scales and list(model.state_dict()) == keys
    assert model.arguments["mean"] == "concat" and model.arguments["output_scale"] == "measured"
    assert model(images).shape == (8, 3)
    again = create_model(**model.arguments)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.eval()(images), model.eval()(images))


@pytest.mark.parametrize("name", ["svd_pade", "covariance", "gaussian", "bilinear"])
def test_as_a_program(name):
    head = create_head(name, 4, mean="concat", precision="float64", **MEASURED)
    x = maps(6, 4, 3, 3, dtype=torch.float32)
    gcp.initialize_head(head, [x])
    torch.testing.assert_close(plain_head(head)(x), head(x))


def test_a_substitute_keeps_them():
    model = small(**EVERYTHING)
    images = torch.rand(8, 3, 32, 32)
    gcp.initialize_head(model, [images])
    difference = substitute(model.eval(), images)
    assert difference is not None and difference.logits < 1e-2 and model.head.mean == "concat"


@pytest.mark.parametrize("count", [11, 1], ids=["unequal parts", "one process without an image"])
def test_two_processes_measure_the_same(count, together):
    x = maps(count, 12, 3, 3)

    def body(group):
        found = []
        for dim in (None, 5):
            torch.manual_seed(group.rank)
            head = create_head("covariance", 12, dim=dim, mean="concat", **MEASURED, **PCA[dim]).double()
            if group.world > 1:
                synchronise(head, torch.device("cpu"))
            measure(head, [x[group.rank :: group.world]], group.sum, group.main)
            found += [t.detach().numpy() for t in head.state_dict().values()]
        return found

    (alone,) = together(1, body)
    first, second = together(2, body)
    for one, mine, theirs in zip(alone, first, second, strict=True):
        assert (mine == theirs).all()
        torch.testing.assert_close(torch.tensor(mine), torch.tensor(one), rtol=1e-9, atol=1e-9)


PCA = {None: {}, 5: {"reduction_init": "pca"}}


def test_fit_measures_by_itself():
    model = small(**EVERYTHING)
    batches = [(torch.rand(6, 3, 16, 16), torch.tensor([0, 1, 2, 0, 1, 2])) for _ in range(2)]
    state = torch.get_rng_state()
    fitted = gcp.fit(model, batches, epochs=1, lr=0.01, ema=0.9)
    assert int(model.head.measured_on) == 12 and torch.equal(state, torch.get_rng_state())
    assert torch.equal(fitted.state.ema.module.head.scales, model.head.scales)


def test_widths_that_may_change():
    model = small(**MEASURED)
    gcp.initialize_head(model, [torch.rand(8, 3, 16, 16)])
    resize(model, {"head.reduction": 3})
    assert model.head.out_features == 6 and model.eval()(torch.rand(2, 3, 16, 16)).shape == (2, 3)
    with pytest.raises(OptionError, match=r"head\.reduction"):
        resize(small(**EVERYTHING), {"head.reduction": 3})


def test_a_head_without_a_reduction_has_no_start_for_one():
    with pytest.raises(OptionError, match=r"reduction_init='pca'.*'wide_average'.*'random'"):
        create_head("wide_average", 6, dim=3, reduction_init="pca")
