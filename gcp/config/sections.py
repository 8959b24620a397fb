"""The sections that the configurations of runs have in common, with their keys, defaults and meanings."""

from typing import Annotated, Literal

from pydantic import Field

from gcp.config.values import (
    Below1,
    Betas,
    ClockInterval,
    Count,
    Deviations,
    Device,
    Duration,
    Factor,
    FolderName,
    Interval,
    LoggerOptions,
    Names,
    Norm,
    Numbers,
    OptimizerOptions,
    Positive,
    Section,
    Sizes,
    Span,
    Spans,
    SpectralNorm,
    Text,
    Widths,
)


class Run(Section):
    """Where and how the run is executed."""

    dir: Text = Field(default="runs", description="folder that holds the run folders")
    name: FolderName | None = Field(
        default=None,
        description="name of the run folder; null: DATA-BACKBONE-HEAD-N, the first N that is free",
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        default=0, description="seed of initialisation, order, augmentation and dropout"
    )
    deterministic: bool = Field(default=False, description="deterministic kernels only: slower, the same on every run")
    device: Device = Field(
        default="auto", description="where to compute; auto: the first GPU if there is one, else the CPU"
    )
    amp: Literal["none", "bf16", "fp16"] = Field(
        default="none",
        description="autocast of features and classifier, or of the networks of a flow; heads, and what a flow does to "
        "its numbers, leave it; fp16 needs a GPU",
    )
    compile: bool = Field(default=False, description="torch.compile the model")
    grad_checkpointing: bool = Field(
        default=False,
        description="compute the blocks of a timm backbone anew in the backward pass: less memory, a third more time",
    )
    channels_last: bool = Field(default=False, description="channels-last memory, faster for convolutions on a GPU")
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None, description="CPU threads of torch; null: torch's own choice"
    )
    sync_batch_norm: bool = Field(
        default=True,
        description="with several processes: batch-norm statistics of the whole batch, as in one process",
    )
    hang_minutes: Positive = Field(
        default=10.0, description="with several processes: stop all when no step is made for so long"
    )
    rank_logs: bool = Field(
        default=False, description="with several processes: a log of each, rank-N.log in the run folder"
    )
    plugins: Names = Field(
        default=(),
        description="modules of your own that register heads, rules, data sets or callbacks, imported before anything "
        "is checked; `plugins: [MODULE]` at the top of a file is the same",
    )


class Data(Section):
    """The data set, its splits and how images are prepared."""

    name: Text = Field(default="digits", description="data set, see --list datasets")
    root: Text | None = Field(
        default=None, description="folder of the data set on disk, or the one above; null for digits, which has none"
    )
    image_size: Count | Literal["auto"] = Field(
        default="auto",
        description="side of the square image in pixels; auto: the data set's own, raised to what the backbone needs",
    )
    in_chans: Count = Field(default=3, description="channels of the image and of the first layer")
    per_class: Count | None = Field(
        default=None, description="few-shot: that many training images of each class; null: all of them"
    )
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1,
        description="part of the training images held out for validation, stratified by class; 0: none, and the final "
        "weights are the result",
    )
    split_seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        default=0, description="seed of the held-out part and of the few-shot choice, apart from run.seed"
    )
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.2,
        description="part of each class held out as the test split of a data set that has none, such as ROOT/CLASS/*; "
        "the same images for every split_seed",
    )
    copies: Literal["near", "exact", "ignore"] = Field(
        default="near",
        description="of such a data set: the images that stay on one side together; near: copies and near copies "
        "(encoded again, resized, retouched a little), exact: byte for byte",
    )
    sampling: Literal["uniform", "balanced", "sqrt"] = Field(
        default="uniform",
        description="how often a training image comes: uniform: once an epoch; balanced: each class equally often; "
        "sqrt: by the root of its number of images, halfway",
    )
    transform: Text = Field(
        default="default",
        description="image transform, see --list transforms; default: the data set's own; none: that without "
        "augmentation",
    )
    preprocessing: Literal["weights", "dataset"] = Field(
        default="weights",
        description="who says how images are prepared where the five keys below do not: weights: those that "
        "model.pretrained names, and of photographs also their size, where that is auto; dataset: the data set, as "
        "published",
    )
    mean: Numbers | None = Field(
        default=None, description="mean of each channel, or one for all, of values from 0 to 1; null: see preprocessing"
    )
    std: Deviations | None = Field(
        default=None, description="standard deviation of each channel, or one for all; null: see preprocessing"
    )
    interpolation: Literal["nearest", "bilinear", "bicubic"] | None = Field(
        default=None, description="of the resizing; null: see preprocessing, else bilinear"
    )
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="share of the resized image that the centre crop of evaluation keeps, along a side; null: see "
        "preprocessing, else that of the transform",
    )
    crop_mode: Literal["center", "squash", "border"] | None = Field(
        default=None,
        description="what that crop is cut from: the image, the image squeezed to a square, or all of it with a "
        "border; null: see preprocessing, else that of the transform",
    )
    partial: bool = Field(
        default=False,
        description="accept other counts than the published ones, a part of the data set; missing files are always "
        "a fault",
    )
    exif: bool | None = Field(
        default=None,
        description="take image files as a viewer shows them, turned as their EXIF orientation says and transparent "
        "parts on white; null: those of data.name=folder, and of no published set",
    )
    workers: Annotated[int, Field(ge=0, le=1024)] | Literal["auto"] = Field(
        default="auto",
        description="processes that read images; auto: none for data in memory, else one per core, at most 8",
    )


class Model(Section):
    """The backbone and the classifier around the head."""

    backbone: Text = Field(default="resnet18", description="any timm or torchvision name, see --list backbones")
    pretrained: bool | Text = Field(
        default=False,
        description="weights to start from; true: the published ones (a download); a path: a run folder or a "
        "checkpoint file of any known layout; the name of weights of timm, such as resnet50.a1_in1k; false: none",
    )
    stage: int | Text | None = Field(
        default=None,
        description="stage behind which the backbone is cut, by name (layer3, blocks.8) or index, -1 the last; the "
        "later layers are left out, and weights of the whole still load; null: not cut",
    )
    token: Literal["auto", "none", "concat", "sum"] = Field(
        default="auto",
        description="how the class token of a transformer (of other backbones the mean over the map) joins what the "
        "head makes of the map: sum, of the logits of two classifiers; concat, before one; none, it is left out; auto: "
        "sum where there is a class token, else none",
    )
    last_stride: Literal[1, 2] | None = Field(
        default=None,
        description="stride of the last stage: 1 doubles the side of the map; null: as published",
    )
    freeze: Names = Field(
        default=(),
        description="parts that are not trained: features, head, classifier, or a part of them such as "
        "features.layer1; their batch-norm statistics stay as they are",
    )
    hidden: Sizes | None = Field(
        default=None,
        description="widths of the hidden layers of the classifier; []: one linear layer; null: the "
        "backbone's published classifier",
    )
    dropout: Below1 | None = Field(default=None, description="dropout in the classifier; null: as published")
    drop_path: Below1 | None = Field(
        default=None,
        description="stochastic depth: share of the samples for which the last block of a timm backbone is left out in "
        "training, less for earlier ones; null: as timm builds it",
    )
    classifier_norm: SpectralNorm = Field(
        default=None,
        description="divide the weights of the classifier by their spectral norms: power (one iteration a step), "
        "exact, bound (never above 1); null: not",
    )
    norm: Norm = Field(
        default=None,
        description="exchange batch norms of the backbone: {name: whitening, layers: first, group_size: 64, solver: "
        "eig, ...}; layers: first, all, or names such as [features.layer1.0.bn1]; null: as they are",
    )
    factors: Names = Field(
        default=(),
        description="layers that are products of thinner ones, such as classifier=200, as gcp compress writes them",
    )
    widths: Widths = Field(
        default_factory=dict,
        description="widths that differ from those of the backbone, under the names of evolution.csv; an "
        "evolved checkpoint has its own here",
    )


class Optim(Section):
    """The optimizer, with learning rate and weight decay of each part."""

    name: Text = Field(default="sgd", description="optimizer, any name of timm's factory: sgd, adamw, lamb, ...")
    lr: Positive = Field(default=0.1, description="learning rate at the top of the schedule")
    momentum: Below1 = Field(default=0.9, description="momentum, for the optimizers that have one")
    weight_decay: Factor = Field(default=1e-4, description="weight decay of every part without its own")
    nesterov: bool = Field(default=False, description="Nesterov momentum")
    betas: Betas | None = Field(default=None, description="of adamw and its kin; null: the optimizer's own")
    eps: Positive | None = Field(default=None, description="added to the denominator; null: the optimizer's own")
    options: OptimizerOptions = Field(
        default_factory=dict, description="further arguments of the optimizer, such as {rho: 0.9}"
    )
    decay_all: bool = Field(
        default=False,
        description="decay norms, biases and what the backbone exempts as well, as published recipes do",
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="factor on the learning rate from each layer of the backbone to the one below it; null: none",
    )
    features_lr_factor: Factor = Field(default=1.0, description="learning rate of the backbone over lr")
    head_lr_factor: Factor = Field(default=1.0, description="learning rate of the head over lr")
    head_weight_decay: Factor | None = Field(default=None, description="weight decay of the head; null: weight_decay")
    classifier_lr_factor: Factor | None = Field(
        default=None, description="learning rate of the classifier over lr; null: head_lr_factor"
    )
    classifier_weight_decay: Factor | None = Field(
        default=None, description="weight decay of the classifier; null: as the head"
    )
    lr_scaling: Literal["none", "linear", "sqrt"] = Field(
        default="none",
        description="scale lr by the batch of one optimizer step over lr_batch, or its square root",
    )
    lr_batch: Count = Field(default=256, description="batch size that lr is stated for, used by lr_scaling")
    clip: Positive | None = Field(
        default=None, description="largest norm of the gradient over all parts; null: no limit"
    )


class Schedule(Section):
    """The learning rate over the run."""

    name: Literal["constant", "step", "multistep", "cosine", "onecycle"] = Field(
        default="cosine", description="course of the learning rate after the warm-up"
    )
    warmup: Span = Field(default=Duration(0), description="linear rise of the learning rate at the start")
    milestones: Spans = Field(default=(), description="where multistep multiplies the learning rate by gamma")
    every: Interval = Field(default=Duration(30, "percent"), description="how often step multiplies it by gamma")
    gamma: Annotated[float, Field(gt=0, le=1)] = Field(default=0.1, description="factor of step and multistep")
    min_lr: Factor = Field(
        default=0.0, description="the schedule never goes below this learning rate after the warm-up"
    )

    def unread(self) -> dict[str, str]:
        """What another course reads."""
        courses = {"milestones": "multistep", "every": "step"}
        return {key: f"name={course}" for key, course in courses.items() if course != self.name}


class Train(Section):
    """The length of the run and what a step sees."""

    epochs: Count = Field(default=10, description="passes over the training split")
    batch_size: Count = Field(default=64, description="images of one forward pass, of all processes together")
    accumulate: Count = Field(default=1, description="batches of one optimizer step")
    label_smoothing: Below1 = Field(default=0.0, description="weight of the uniform distribution in the target")
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="decay of the moving average of the weights, which is then what is evaluated; null: none",
    )
    mixup: Factor = Field(default=0.0, description="alpha of mixup; 0: none")
    cutmix: Factor = Field(default=0.0, description="alpha of CutMix; 0: none")
    class_weights: Literal["none", "balanced", "sqrt"] = Field(
        default="none",
        description="weight of a class in the loss: balanced: one over its number of training images, sqrt: one over "
        "the root of that; the mean over the images is 1",
    )
    drop_last: bool = Field(default=False, description="leave out the last, smaller batch of an epoch")
    cache_features: bool = Field(
        default=False,
        description="compute the maps of a frozen backbone once, keep them on disk for every run with the same "
        "backbone and images, and train head and classifier on them",
    )
    cache_views: Literal["auto", "plain", "mirror"] | Count = Field(
        default="auto",
        description="versions of a training image that are kept: plain, the image alone; mirror, its mirror image as "
        "well; a number, so many seeded augmentations; auto: plain or mirror, whichever data.transform draws",
    )
    cache_dtype: Literal["float16", "float32"] = Field(
        default="float16", description="type of the maps on disk; float32 keeps every bit in twice the space"
    )
    cache_dir: Text = Field(default="runs/features", description="folder of the maps, for all runs")

    def unread(self) -> dict[str, str]:
        """How features are kept that are not."""
        keys = () if self.cache_features else ("cache_views", "cache_dtype", "cache_dir")
        return dict.fromkeys(keys, "cache_features=true")


class Evaluate(Section):
    """Scoring on the validation split during training, and on the test split at its end."""

    batch_size: Count = Field(default=256, description="images of one forward pass")
    crops: Literal["one", "mirror", "ten"] = Field(
        default="one",
        description="views of a test image whose logits are averaged: one; mirror: it and its mirror image; ten: four "
        "corners, the centre, and their mirrors; on the validation split always one",
    )
    every: Interval = Field(default=Duration(1), description="how often the validation split is scored")
    image_size: Count | Literal["weights"] | None = Field(
        default=None,
        description="side of the images of the test split and of those that the finished model is given (gcp evaluate, "
        "predict, embed, export, gcp.load); weights: that at which the authors of model.pretrained test; null: "
        "as in training",
    )
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="share of the centre crop at that size; null: of image_size=weights what their authors take, "
        "else as in training",
    )

    def unread(self) -> dict[str, str]:
        """The crop at a size that is not asked for."""
        return {} if self.image_size is not None else {"crop_pct": "image_size=weights"}


class CheckpointSection(Section):
    """What is kept of the run on disk."""

    every: ClockInterval = Field(default=Duration(1), description="how often last.pt is written")
    keep: Annotated[int, Field(ge=1, le=100)] = Field(
        default=2, description="how many of the latest checkpoints to keep, best.pt apart"
    )


class LogSection(Section):
    """Where the records of the run go, beside metrics.csv and the screen."""

    to: Names = Field(
        default=("tensorboard",),
        description="loggers, see --list loggers; MODULE:CLASS is one of your own; []: metrics.csv alone",
    )
    every: Interval = Field(default=Duration(50, "steps"), description="how often loss and learning rates are recorded")
    options: LoggerOptions = Field(
        default_factory=dict,
        description="options of each",
    )
