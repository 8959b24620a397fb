"""The published settings, transcribed once, against what the recipes resolve to."""

from pathlib import Path

import pytest

from gcp.config import load
from gcp.config.load import stage_configs
from gcp.runs.pretrained import recipe_of

CONFIGS = Path(__file__).parents[2] / "configs"

# recipe: learning rate, epochs of its decays by 10, epochs, images of a step, weight decay and that of the
# classifier, learning rate of the classifier over that of the rest, largest norm of the gradient
IMAGENET = {
    "alexnet_bn": (0.0794, (10, 20), 30, 128, 5e-4, 5e-4, 1, 5),
    "alexnet_bn_hybrid": (0.0794, (10, 20), 30, 128, 5e-4, 5e-4, 1, 5),
    "resnet50": (0.0794, (30, 45), 60, 256, 1e-4, 1e-4, 1, 5),
    "resnet50_hybrid": (0.0794, (30, 45), 60, 256, 1e-4, 1e-4, 1, 5),
    "resnet101": (0.0794, (30, 45), 60, 256, 1e-4, 1e-4, 1, 5),
    "resnet101_hybrid": (0.0794, (30, 45), 60, 256, 1e-4, 1e-4, 1, 5),
    "resnet50_isqrt": (0.1, (30, 45, 60), 65, 160, 1e-4, 1e-4, 1, None),
    "resnet101_isqrt": (0.1, (30, 45, 60), 65, 160, 1e-4, 1e-4, 1, None),
    "vgg16_bn_isqrt": (0.1, (30, 45, 60), 65, 160, 1e-4, 1e-4, 1, None),
}
FINE_GRAINED = {
    "cub/resnet50_seb": (3e-3, (50, 100), 200, 10, 1e-4, 1e-4, 20, 5),
    "cars/resnet50_seb": (3e-3, (50, 100), 200, 10, 1e-4, 1e-4, 10, 5),
    "aircraft/resnet50_seb": (3e-3, (21, 40), 50, 8, 1e-3, 1e-3, 5, 5),
    "dogs/resnet50_svd_pade": (3e-3, (50, 100), 200, 10, 1e-4, 1e-4, 20, 5),  # as birds
    **{f"{name}/resnet50_isqrt": (1.2e-3, (), 100, 10, 1e-4, 1e-4, 5, None) for name in ("cub", "cars", "aircraft")},
    **{f"{name}/vgg16_bn_isqrt": (3e-3, (20,), 40, 10, 1e-4, 0, 20, None) for name in ("cub", "cars", "aircraft")},
}
ROWS = {f"imagenet/{name}": row for name, row in IMAGENET.items()} | FINE_GRAINED
# Huang et al., CVPR 2018: the scripts of princeton-vl/DecorrelatedBN for residual networks of 20 to 56 layers
WHITENING = {"cifar10/resnet56_whitening": (0.1, (80, 120), 160, 128, 1e-4, 1e-4, 1, None)}
BCNN = [f"{name}/vgg16_bcnn" for name in ("cub", "cars", "aircraft")]
# backbone, head, its width, stride of the last stage if it is not the backbone's own
MODELS = {
    "alexnet_bn": ("alexnet_bn", "svd_pade", 256, None),
    "alexnet_bn_hybrid": ("alexnet_bn", "newton_schulz", 256, None),
    "resnet50": ("resnet50", "svd_pade", 256, None),
    "resnet50_hybrid": ("resnet50", "newton_schulz", 256, None),
    "resnet101": ("resnet101", "svd_pade", 256, None),
    "resnet101_hybrid": ("resnet101", "newton_schulz", 256, None),
    "resnet50_seb": ("resnet50", "seb", 256, None),
    "resnet50_svd_pade": ("resnet50", "svd_pade", 256, None),
    "resnet50_isqrt": ("resnet50", "newton_schulz", 256, 1),
    "resnet101_isqrt": ("resnet101", "newton_schulz", 256, 1),
    "vgg16_bn_isqrt": ("vgg16_bn", "newton_schulz", 256, None),
    "vgg16_bcnn": ("vgg16", "bilinear", None, None),
}


def resolved(name):
    return load(CONFIGS / f"{name}.yaml", ["data.root=ROOT"])


def settings(config):
    """A row of the table from a configuration."""
    optim, train, schedule = config.optim, config.train, config.schedule
    assert (optim.name, optim.momentum, optim.nesterov, schedule.gamma) == ("sgd", 0.9, False, 0.1)
    assert schedule.name == ("multistep" if schedule.milestones else "constant") and schedule.warmup.amount == 0
    assert all(milestone.unit == "epochs" for milestone in schedule.milestones)
    # The rate is stated for the batch that the recipe has, so it is not scaled before someone changes the batch.
    assert (optim.lr_scaling, optim.lr_batch) == ("linear", train.batch_size)
    # The published scripts give its own rate to the classifier alone, not to the reduction.
    assert (optim.features_lr_factor, optim.head_lr_factor, optim.head_weight_decay) == (1, 1, None)
    factor = 1 if optim.classifier_lr_factor is None else optim.classifier_lr_factor
    decay = optim.weight_decay if optim.classifier_weight_decay is None else optim.classifier_weight_decay
    milestones = tuple(milestone.amount for milestone in schedule.milestones)
    epochs, batch = train.epochs, train.batch_size
    return optim.lr, milestones, epochs, batch, optim.weight_decay, decay, factor, optim.clip


def test_every_published_recipe_is_in_the_table():
    files = {
        str(path.relative_to(CONFIGS).with_suffix(""))
        for path in CONFIGS.glob("*/*.yaml")
        if path.parent.name != "studies"
    }
    published = {
        name
        for name in files
        if not name.startswith(("digits/", "fine_grained/", "glow/")) and not name.endswith("/modern")
    }
    assert published == {*ROWS, *WHITENING, *BCNN}


@pytest.mark.parametrize("name", [*ROWS, *WHITENING])
def test_settings(name):
    assert settings(resolved(name)) == (ROWS | WHITENING)[name]


def test_whitening():
    """Published: groups of 8 channels, in the place of the first batch norm."""
    norm = resolved("cifar10/resnet56_whitening").model.norm
    assert norm == {"name": "whitening", "layers": "first", "group_size": 8, "solver": "eig"}


@pytest.mark.parametrize("name", BCNN)
def test_two_stages(name):
    """Published: 100 epochs on frozen features at batch 40, then up to 200 on everything at batch 10."""
    config = resolved(name)
    first, second = stage_configs(config)
    assert settings(first) == (1e-3, (), 100, 40, 5e-4, 0, 1000, None)
    assert settings(second) == (1e-3, (), 100, 10, 5e-4, 0, 1000, None)
    assert (first.model.freeze, second.model.freeze) == (("features",), ())
    assert config.model.hidden == () and config.model.pretrained is True


@pytest.mark.parametrize("name", [*ROWS, *BCNN])
def test_model_and_images(name):
    config = resolved(name)
    dataset, stem = name.split("/")
    assert (config.model.backbone, config.head.name, config.head.dim, config.model.last_stride) == MODELS[stem]
    assert config.model.dropout is None and (config.model.hidden is None or stem == "vgg16_bcnn")
    assert (config.data.name, config.data.image_size) == (dataset, 224 if dataset == "imagenet" else 448)
    assert config.data.transform == "default"
    train = config.train
    extras = (train.accumulate, train.label_smoothing, train.ema, train.mixup, train.cutmix)
    assert extras == (1, 0, None, 0, 0) and config.run.amp == "none"


@pytest.mark.parametrize("name", ROWS)
def test_hybrid(name):
    hybrid = resolved(name).hybrid
    expected = ("last_decay", "svd_pade") if name.endswith("_hybrid") else (None, None)
    assert (hybrid.at, hybrid.to) == expected


@pytest.mark.parametrize("name", FINE_GRAINED)
def test_fine_tuning_keeps_the_reduction(name):
    """Fine-tuning starts from the run of a recipe whose model differs in the classes alone."""
    config = resolved(name)
    folder, run, file = Path(config.model.pretrained).parts
    assert (folder, file) == (load(CONFIGS / "imagenet" / "resnet50.yaml", ["data.root=x"]).run.dir, "best.pt")
    start = recipe_of(run)
    assert start is not None and start.startswith("imagenet/")
    theirs = load(start, ["data.root=ROOT"])
    for key in ("backbone", "last_stride", "hidden"):
        assert getattr(config.model, key) == getattr(theirs.model, key)
    assert (config.head.dim, config.head.reduction) == (theirs.head.dim, theirs.head.reduction)


@pytest.mark.parametrize("path", sorted((CONFIGS / "imagenet").glob("*.yaml")), ids=lambda path: path.stem)
def test_imagenet_runs_have_the_name_of_their_recipe(path):
    assert load(path, ["data.root=ROOT"]).run.name == f"imagenet-{path.stem}"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/modern.yaml")), ids=lambda path: path.parent.name)
def test_modern(path):
    if path.parent.name == "fine_grained":
        return
    config = load(path, ["data.root=ROOT"])
    run, train, schedule = config.run, config.train, config.schedule
    assert (run.amp, run.channels_last, schedule.name, train.label_smoothing) == ("bf16", True, "cosine", 0.1)
    assert schedule.warmup.amount > 0 and train.ema is not None
    assert config.head.name in ("svd_pade", "polar_express")
    assert config.optim.lr_batch == train.batch_size * train.accumulate
    scratch = path.parent.name in ("imagenet", "cifar10", "cifar100")
    assert bool(train.mixup or train.cutmix) == scratch and (config.model.pretrained is False) == scratch
    if path.parent.name == "imagenet":
        assert config.data.transform == "modern"
    elif not scratch:
        assert config.data.transform == "modern_fine_grained"
