"""From a configuration to objects: the one place where the two meet."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from gcp.config import Common, Config, Duration
from gcp.config.sections import Data
from gcp.data import DATASETS, BatchLoader, ImageSet, Splits, StreamSet, create_dataset, create_loader
from gcp.data.rank_slice import RankSlice
from gcp.data.transforms import Preprocessing
from gcp.engine import rng
from gcp.engine.batch_norm import synchronise
from gcp.engine.device import create_scaler
from gcp.engine.distributed import ALONE, Group
from gcp.engine.evaluate import with_crops
from gcp.engine.metrics import CrossEntropy, class_weights
from gcp.engine.optimizer import create_optimizer, learning_rate_factor
from gcp.engine.state import EMA, TrainingState
from gcp.engine.step import StepOptions
from gcp.engine.train import steps_per_epoch
from gcp.errors import OptionError, ShapeError
from gcp.kernels.cpu import set_threads
from gcp.models import Classifier, create_model, default_image_size
from gcp.models.parts import checkpoint_blocks, freeze, parameter_groups
from gcp.ops.covariance import check_samples


def build_device(config: Common, group: Group = ALONE) -> torch.device:
    """The device of a process, after setting threads and deterministic kernels for it: each process of a machine has
    the GPU of its local rank.

    Raises:
        OptionError: a GPU that is not there.
    """
    if config.run.threads is not None:
        set_threads(config.run.threads)
    rng.deterministic(config.run.deterministic)
    name = config.run.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and group.world > 1:
        if device.index is not None:
            raise OptionError(f"run.device: {name} is one GPU for {group.world} processes. Set run.device=cuda.")
        device = torch.device("cuda", group.local_rank)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = f"{torch.cuda.device_count()} GPUs are" if torch.cuda.is_available() else "no GPU is"
        few = f", too few for local rank {group.local_rank}" if torch.cuda.is_available() and group.world > 1 else ""
        raise OptionError(f"run.device: {name} was asked for, but {found} available{few}. Set run.device=cpu or auto.")
    return device


def image_size(config: Config) -> int:
    """The side of the images: as configured, or what data set and backbone ask for."""
    size = config.data.image_size
    if size != "auto":
        return size
    own = DATASETS[config.data.name].obj.image_size
    return default_image_size(config.model.backbone, own, config.model.stage)


def with_preprocessing(config: Config) -> Config:
    """The configuration with what its pretrained weights expect of images (`gcp.runs.pretrained`)."""
    if not (config.stages or config.model.pretrained or config.evaluate.image_size == "weights"):
        return config
    from gcp.runs import pretrained  # imports what reads weights

    return pretrained.with_preprocessing(config)


def scored_data(config: Config) -> Data:
    """The section of the images as the finished model takes them: at `evaluate.image_size`, if that is set."""
    size, crop = config.evaluate.image_size, config.evaluate.crop_pct
    if not isinstance(size, int):
        return config.data
    return config.data.model_copy(update={"image_size": size, **({} if crop is None else {"crop_pct": crop})})


def scored_size(config: Config) -> int:
    """The side of these images."""
    size = config.evaluate.image_size
    return size if isinstance(size, int) else image_size(config)


def check_map(model: Classifier, size: int, key: str = "data.image_size") -> None:
    """Raise ShapeError, with the `key` that says so, where images of `size` leave the head a map that it cannot pool,
    or are of another size than the backbone takes.
    """
    try:
        height, width = model.features.map_size(size)
        if model.head.least_samples > 1:
            check_samples(height, width)
    except ShapeError as error:
        raise error if key == "data.image_size" else ShapeError(f"{key}: {size}: {error}") from error


def build_splits(config: Config) -> Splits:
    """The data set's three splits at the image size that data set and backbone ask for."""
    return splits_of(config.data, image_size(config))


def preprocessing(data: Data) -> Preprocessing:
    """How the images are prepared, as far as the configuration says."""
    return Preprocessing(data.mean, data.std, data.interpolation, data.crop_pct, data.crop_mode)


def splits_of(data: Data, size: int) -> Splits:
    """The three splits of the data set, images of `size` pixels a side."""
    return create_dataset(
        data.name,
        root=data.root,
        image_size=size,
        in_chans=data.in_chans,
        per_class=data.per_class,
        val_fraction=data.val_fraction,
        split_seed=data.split_seed,
        transform=data.transform,
        partial=data.partial,
        exif=data.exif,
        test_fraction=data.test_fraction,
        copies=data.copies,
        told=preprocessing(data),
    )


def build_train_loader(config: Common, splits: Splits, device: torch.device, group: Group = ALONE) -> BatchLoader:
    """Shuffled, augmented batches of the training split."""
    return create_loader(
        splits.train,
        config.train.batch_size,
        train=True,
        seed=config.run.seed,
        workers=config.data.workers,
        drop_last=config.train.drop_last,
        pin_memory=device.type == "cuda",
        rank_slice=RankSlice(group.rank, group.world, neighbour=config.train.mixup > 0 or config.train.cutmix > 0),
        **({} if config.data.sampling == "uniform" else {"sampling": config.data.sampling}),
    )


def build_score_loader(
    config: Config, splits: Splits, split: str, device: torch.device, group: Group = ALONE, crops: str = "one"
) -> BatchLoader:
    """Every image of a split once, in its natural order, without augmentation, with the views of `crops`; of the test
    split at the size of `scored_size`.
    """
    size = image_size(config)
    if split == "test" and config.evaluate.image_size is not None:
        size = scored_size(config)
        splits = splits_of(scored_data(config), size)
    images = getattr(splits, split)
    if crops != "one":
        images = with_crops(images, crops, size)
    return score_loader(config, images, device, group)


def score_loader(
    config: Common, images: ImageSet | StreamSet, device: torch.device, group: Group = ALONE
) -> BatchLoader:  # fmt: skip
    """Every image once, in its natural order, without augmentation."""
    return create_loader(
        images,
        config.evaluate.batch_size,
        train=False,
        workers=config.data.workers,
        pin_memory=device.type == "cuda",
        rank_slice=RankSlice(group.rank, group.world),
    )


def build_model(
    config: Config,
    num_classes: int,
    device: torch.device,
    weights: bool = True,
    group: Group = ALONE,
) -> Classifier:
    """The seeded model on its device, frozen parts frozen, the same in every process. `weights=False`: without
    `model.pretrained`, for a model whose weights come from a checkpoint.
    """
    model, head = config.model, config.head
    rng.seed_all(config.run.seed)
    with group.main_first() if weights and model.pretrained else nullcontext():  # it may be a download
        classifier = create_model(
            model.backbone,
            head=head.name,
            num_classes=num_classes,
            dim=head.dim,
            pretrained=model.pretrained if weights else False,
            last_stride=model.last_stride,
            in_chans=config.data.in_chans,
            hidden=model.hidden,
            dropout=model.dropout,
            factors=model.factors,
            widths=model.widths,
            classifier_norm=model.classifier_norm,
            drop_path=model.drop_path,
            norm=model.norm,
            token=model.token,
            stage=model.stage,
            image_size=config.data.image_size if config.data.image_size != "auto" else None,
            reduction=head.reduction,
            spectral_norm=head.spectral_norm,
            side=head.side,
            form=head.form,
            precision=head.precision,
            mean=head.mean,
            output_scale=head.output_scale,
            reduction_init=head.reduction_init,
            **head.options,
        )
    if group.world > 1 and config.run.sync_batch_norm:
        synchronise(classifier, device)
    if config.run.grad_checkpointing:
        checkpoint_blocks(classifier.features)
    freeze(classifier, model.freeze)
    memory_format = torch.channels_last if config.run.channels_last else torch.contiguous_format
    return classifier.to(device).to(memory_format=memory_format)


def images_per_step(config: Common) -> int:
    """The images of one optimizer step."""
    return config.train.batch_size * config.train.accumulate


def base_learning_rate(config: Common) -> float:
    """`optim.lr`, scaled by the images of one optimizer step as `optim.lr_scaling` says."""
    ratio = images_per_step(config) / config.optim.lr_batch
    scale = {"none": 1.0, "linear": ratio, "sqrt": ratio**0.5}[config.optim.lr_scaling]
    return config.optim.lr * scale


def learning_rate_text(config: Common) -> str:
    """How the learning rate was scaled for the images of a step: `0.0794 x 64/256 (linear) = 0.01985 for ...`."""
    optim, images = config.optim, images_per_step(config)
    ratio = f"{images}/{optim.lr_batch}"
    scaled = {"none": "", "linear": f" x {ratio} (linear)", "sqrt": f" x sqrt({ratio})"}[optim.lr_scaling]
    result = f" = {base_learning_rate(config):.4g}" if scaled else ", not scaled,"
    parts = f" ({config.train.batch_size} x {config.train.accumulate} accumulated)"
    how = parts if images != config.train.batch_size else ""
    return f"learning rate {optim.lr:g}{scaled}{result} for {images} images a step{how}"


def build_state(config: Config, model: Classifier, device: torch.device) -> TrainingState:
    """Optimizer, loss scale and average around a classifier."""
    optim = config.optim
    groups = parameter_groups(
        model,
        base_learning_rate(config),
        optim.weight_decay,
        features_lr_factor=optim.features_lr_factor,
        head_lr_factor=optim.head_lr_factor,
        head_weight_decay=optim.head_weight_decay,
        classifier_lr_factor=optim.classifier_lr_factor,
        classifier_weight_decay=optim.classifier_weight_decay,
        decay_all=optim.decay_all,
        layer_decay=optim.layer_decay,
    )
    return training_state(config, model, groups, device)


def training_state(config: Common, model: nn.Module, groups: list[dict], device: torch.device) -> TrainingState:
    """Optimizer, loss scale and average around a model and its parameter groups. Reseeds, so that dropout does not
    depend on how many random numbers the initialisation of a model took.
    """
    optim = config.optim
    optimizer = create_optimizer(
        groups,
        optim.name,
        base_learning_rate(config),
        momentum=optim.momentum,
        weight_decay=optim.weight_decay,
        nesterov=optim.nesterov,
        betas=optim.betas,
        eps=optim.eps,
        options=optim.options,
    )
    ema = EMA(model, config.train.ema) if config.train.ema is not None else None
    rng.seed_all(config.run.seed)
    return TrainingState(model, optimizer, create_scaler(device, config.run.amp), ema)


def build_step_options(config: Config, splits: Splits) -> StepOptions:
    """How an optimizer step is made; the weights of the classes are those of the training split."""
    train = config.train
    weighted = None
    if train.class_weights != "none":
        weights = class_weights(splits.images("train").labels, len(splits.classes), train.class_weights)
        weighted = CrossEntropy(train.label_smoothing, weights)
    return StepOptions(
        accumulate=train.accumulate,
        label_smoothing=train.label_smoothing,
        mixup=train.mixup,
        cutmix=train.cutmix,
        clip=config.optim.clip,
        amp=config.run.amp,
        channels_last=config.run.channels_last,
        seed=config.run.seed,
        objective=weighted,
    )


def run_stem(config: Config) -> str:
    """`<data>-<backbone>-<head>`, the name of a run folder up to its number."""
    stem = f"{config.data.name}-{config.model.backbone}-{config.head.name}"
    return re.sub(r"[^\w.+=,-]", "_", stem)


@dataclass(frozen=True)
class Timing:
    """All durations of a run in optimizer steps, and the learning-rate factor of a step; `steps` turns any other
    duration into steps.
    """

    total: int
    steps: Callable[[Duration], int]
    evaluate_every: int
    save_every: int
    save_seconds: float | None
    factor: Callable[[int], float]


def build_timing(config: Common, loader: BatchLoader) -> Timing:
    """Turn every duration of the configuration into steps of this loader."""
    per_epoch = steps_per_epoch(loader, config.train.accumulate)
    total = per_epoch * config.train.epochs

    def steps(duration: Duration) -> int:
        return duration.to_steps(per_epoch, total)

    by_clock = config.checkpoint.every.unit == "minutes"
    schedule = config.schedule
    factor = partial(
        learning_rate_factor,
        schedule.name,
        total=total,
        warmup=steps(schedule.warmup),
        milestones=tuple(map(steps, schedule.milestones)),
        every=steps(schedule.every),
        gamma=schedule.gamma,
        min_factor=min(1.0, schedule.min_lr / config.optim.lr),
    )
    return Timing(
        total=total,
        steps=steps,
        evaluate_every=steps(config.evaluate.every),
        save_every=0 if by_clock else steps(config.checkpoint.every),
        save_seconds=config.checkpoint.every.seconds if by_clock else None,
        factor=factor,
    )
