"""From a configuration to objects."""

import numpy as np
import pytest
import torch

from gcp.config import from_dict
from gcp.engine.metrics import class_weights
from gcp.errors import DataError, OptionError, ShapeError
from gcp.runs import build
from gcp.runs.build import build_timing

CPU = torch.device("cpu")
SMALL = {
    "run": {"threads": 1, "device": "cpu"},
    "data": {"image_size": 8, "in_chans": 1, "per_class": 4},
    "model": {"backbone": "resnet8_cifar", "dropout": 0.5},
    "head": {"dim": 4},
    "train": {"batch_size": 8, "accumulate": 2},
}


def config(*overrides):
    return from_dict(SMALL, overrides)


def test_device():
    assert build.build_device(config()) == CPU
    assert build.build_device(config("run.device=auto")).type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(OptionError, match=r"run\.device: cuda:63 .*run\.device=cpu"):
        build.build_device(config("run.device=cuda:63"))


def test_deterministic_is_switched_on_and_off():
    build.build_device(config("run.deterministic=true"))
    assert torch.are_deterministic_algorithms_enabled()
    build.build_device(config())
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("backbone", "size", "expected"),
    [("resnet8_cifar", "auto", 32), ("alexnet_bn", "auto", 64), ("resnet8_cifar", "20", 20)],
)
def test_image_size(backbone, size, expected):
    assert build.image_size(config(f"model.backbone={backbone}", f"data.image_size={size}")) == expected


def test_a_part_of_a_published_data_set(tree):
    words = ["data.name=cub", f"data.root={tree('cub')['root']}", "data.in_chans=3", "data.per_class=2"]
    with pytest.raises(DataError, match=r"3 classes, published: 200; .* data\.partial=true"):
        build.build_splits(config(*words))
    assert len(build.build_splits(config(*words, "data.partial=true")).train) == 6


def test_map_of_one_position():
    build.check_map(build.build_model(config(), 10, CPU), 5)  # 2x2
    with pytest.raises(ShapeError, match=r"two samples.* 1x1.*data\.image_size"):
        build.check_map(build.build_model(config(), 10, CPU), 4)
    build.check_map(build.build_model(config("head.name=average"), 10, CPU), 4)


@pytest.mark.parametrize(("scaling", "factor"), [("none", 1), ("linear", 16 / 32), ("sqrt", (16 / 32) ** 0.5)])
def test_learning_rate_of_a_step(scaling, factor):
    lr = build.base_learning_rate(config("optim.lr=0.2", f"optim.lr_scaling={scaling}", "optim.lr_batch=32"))
    assert lr == pytest.approx(0.2 * factor)


def test_durations_in_steps():
    settings = config(
        "train.epochs=4",
        "schedule.name=multistep",
        "schedule.milestones=[50 %, 3 epochs]",
        "schedule.warmup=2 steps",
        "schedule.gamma=0.5",
        "schedule.min_lr=0.03",
        "optim.lr=0.1",
        "evaluate.every=2",
        "checkpoint.every=7 steps",
    )
    loader = build.build_train_loader(settings, build.build_splits(settings), CPU)
    timing = build_timing(settings, loader)  # 40 images, 5 batches, 3 steps an epoch
    assert (timing.total, timing.evaluate_every, timing.save_every, timing.save_seconds) == (12, 6, 7, None)
    factors = [timing.factor(step) for step in range(12)]
    assert factors == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3])


def test_checkpoints_by_the_clock():
    settings = config("checkpoint.every=2 minutes")
    loader = build.build_train_loader(settings, build.build_splits(settings), CPU)
    timing = build_timing(settings, loader)
    assert (timing.save_every, timing.save_seconds) == (0, 120)


def test_step_options():
    words = ["train.label_smoothing=0.1", "train.mixup=0.2", "optim.clip=3.0", "run.seed=5", "run.amp=bf16"]
    settings = config(*words)
    built = build.build_step_options(settings, build.build_splits(settings))
    assert (built.accumulate, built.label_smoothing, built.mixup, built.cutmix) == (2, 0.1, 0.2, 0)
    assert (built.clip, built.amp, built.channels_last, built.seed) == (3, "bf16", False, 5)


def test_heads_are_compared_from_the_same_start():
    """The backbone's weights, and every random number of the training, are the same whatever the head."""
    states, features = [], []
    for head in ("average", "svd_pade", "compact_bilinear"):
        settings = config(f"head.name={head}")
        model = build.build_model(settings, 10, CPU)
        features.append(torch.cat([p.flatten() for p in model.features.parameters()]))
        build.build_state(settings, model, CPU)
        states.append(torch.get_rng_state())
    for other in (1, 2):
        assert torch.equal(features[0], features[other]) and torch.equal(states[0], states[other])


def test_seed_changes_the_start():
    first, second = (build.build_model(config(f"run.seed={seed}"), 10, CPU) for seed in (0, 1))
    assert not torch.equal(first.features.body.conv1.weight, second.features.body.conv1.weight)


def test_model_has_the_options_of_its_head_and_frozen_parts():
    words = ["head.name=svd_taylor", "head.degree=7", "model.freeze=[features]", "run.channels_last=true"]
    model = build.build_model(config(*words), 10, CPU)
    assert model.arguments["degree"] == 7 and not any(p.requires_grad for p in model.features.parameters())
    assert model.features.body.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    parts = {
        group["name"].split(".")[0].split("/")[0]
        for group in build.build_state(config(), model, CPU).optimizer.param_groups
    }
    assert parts == {"head", "classifier"}


def test_name_of_a_run_has_no_separator():
    settings = config("model.backbone=torchvision/alexnet", "data.image_size=64", "data.in_chans=3")
    assert build.run_stem(settings) == "digits-torchvision_alexnet-svd_pade"


@pytest.mark.parametrize(("kind", "ratio"), [("balanced", 9.0), ("sqrt", 3.0)])
def test_class_weights(kind, ratio):
    """The mean over the images is 1, so that the learning rate keeps its meaning; classes without images weigh 1."""
    labels = np.repeat([0, 2], [90, 10])
    weights = class_weights(labels, 4, kind)
    assert weights[2] / weights[0] == pytest.approx(ratio) and np.mean(np.take(weights, labels)) == pytest.approx(1)
    assert weights[1] == weights[3] == 1.0
    settings = config(f"train.class_weights={kind}", "train.mixup=0.2")
    options = build.build_step_options(settings, build.build_splits(settings))
    logits, targets = torch.randn(6, 10), torch.arange(6)
    plain = torch.nn.functional.cross_entropy(logits, targets, torch.tensor(options.minimised.weights), reduction="sum")
    assert torch.equal(options.minimised(logits, targets)[0], plain)
    mixed = torch.nn.functional.one_hot(targets, 10).float()
    assert torch.allclose(options.minimised(logits, mixed)[0], plain)
