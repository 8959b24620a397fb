"""The configuration: sections, keys, defaults, and what each key means.

The one source of the help text, of the JSON schema for editors, of the checks and of what is allowed in
a message. Types are strict: a number is never made from a text, nor a switch from a number.
"""

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, TypeVar, cast

from pydantic import Field, create_model

from gcp.config.plugins import Plugin, plugins
from gcp.config.sections import (
    CheckpointSection,
    Data,
    Evaluate,
    LogSection,
    Model,
    Optim,
    Run,
    Schedule,
    Train,
)
from gcp.config.values import Below1, Count, Duration, HeadSection, Interval, Options, Positive, Section


class Common(Protocol):
    """What the configurations of all kinds of runs have."""

    @property
    def run(self) -> Run: ...

    @property
    def data(self) -> Data: ...

    @property
    def optim(self) -> Optim: ...

    @property
    def schedule(self) -> Schedule: ...

    @property
    def train(self) -> Train: ...

    @property
    def evaluate(self) -> Evaluate: ...

    @property
    def checkpoint(self) -> CheckpointSection: ...

    @property
    def log(self) -> LogSection: ...

    def plain(self, unread: bool = False) -> dict[str, Any]:
        """Plain Python values by section, which `gcp.config.from_dict` reads back.

        `unread`: those keys too that nothing reads beside the others.
        """
        ...


STAGES = "[{model: {freeze: [features]}, train: {epochs: 5}}, {train: {epochs: 10}}]"  # for messages and help


class Config(Section):
    """One run of a classifier: the sections that every run has. Callbacks add sections and keys of their own, see
    `composed`. `stages` are the values that each stage puts over the rest, see `gcp.config.stages`.
    """

    run: Run = Field(default_factory=Run)
    data: Data = Field(default_factory=Data)
    model: Model = Field(default_factory=Model)
    head: HeadSection = Field(default_factory=HeadSection)
    optim: Optim = Field(default_factory=Optim)
    schedule: Schedule = Field(default_factory=Schedule)
    train: Train = Field(default_factory=Train)
    evaluate: Evaluate = Field(default_factory=Evaluate)
    checkpoint: CheckpointSection = Field(default_factory=CheckpointSection)
    log: LogSection = Field(default_factory=LogSection)
    stages: tuple[dict[str, dict[str, Any]], ...] = Field(
        default=(),
        description="stages of the run, one after the other from the weights of the one before: a list of mappings of "
        f"sections that stand over the rest of the file, such as {STAGES}; []: one stage",
    )

    def plain(self, unread: bool = False) -> dict[str, Any]:
        """Plain Python values by section, durations as text, and `stages` where there are any;
        `gcp.config.from_dict` reads it back. `unread`: those keys too that nothing reads beside the others.
        """
        values = _plain(self, unread)
        for name, section in option_sections(self).items():
            read = {key: values[name][key] for key in type(section).model_fields if key in values[name]}
            values[name] = read | section.options
        return values | ({"stages": [dict(stage) for stage in self.stages]} if self.stages else {})

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """The sections of callbacks."""


Temperatures = Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]


class Flow(Section):
    """Glow: levels of steps, each an actnorm, an invertible 1x1 convolution and a coupling."""

    form: Literal["plain", "plu", "svd"] = Field(
        default="svd",
        description="matrix of the 1x1 convolutions: plain; plu: triangular factors; svd: its singular value "
        "decomposition",
    )
    spectrum: Literal["exp", "softplus", "box", "fixed"] = Field(
        default="exp", description="how the singular values of form svd are kept positive"
    )
    levels: Count = Field(default=2, description="levels; each halves the sides of the map")
    steps: Count = Field(default=8, description="steps of a level")
    width: Count = Field(default=64, description="channels of the hidden layers of a coupling")
    coupling: Literal["affine", "additive"] = Field(
        default="affine", description="what a coupling does: affine moves and scales, additive moves"
    )
    dropout: Below1 = Field(default=0.0, description="dropout in the networks of the couplings")
    temperatures: Temperatures = Field(
        default=(0.5, 0.7, 0.85, 1.0), description="deviations of the numbers that samples are drawn from"
    )
    draw: Interval = Field(default=Duration(10, "percent"), description="how often samples.png is drawn")

    def unread(self) -> dict[str, str]:
        """The spectrum of matrices that are not their singular value decomposition."""
        return {} if self.form == "svd" else {"spectrum": "form=svd"}


class FlowConfig(Section):
    """One run of a normalising flow: the sections of a classifier's run without what is about classes.

    IDLE: keys of these sections that a flow does not read, and that its configurations therefore do not have.
    """

    IDLE: ClassVar[dict[str, tuple[str, ...]]] = {
        "run": ("grad_checkpointing", "channels_last", "sync_batch_norm"),
        "data": ("per_class", "preprocessing", "mean", "std", "interpolation", "crop_pct", "crop_mode"),
        "optim": (
            "features_lr_factor",
            "head_lr_factor",
            "head_weight_decay",
            "classifier_lr_factor",
            "classifier_weight_decay",
            "decay_all",
            "layer_decay",
        ),
        "train": (
            "label_smoothing",
            "mixup",
            "cutmix",
            "class_weights",
            "cache_features",
            "cache_views",
            "cache_dtype",
            "cache_dir",
        ),
        "evaluate": ("crops", "image_size", "crop_pct"),
    }

    run: Run = Field(default_factory=Run)
    data: Data = Field(default_factory=Data)
    flow: Flow = Field(default_factory=Flow)
    optim: Optim = Field(default_factory=Optim)
    schedule: Schedule = Field(default_factory=Schedule)
    train: Train = Field(default_factory=Train)
    evaluate: Evaluate = Field(default_factory=Evaluate)
    checkpoint: CheckpointSection = Field(default_factory=CheckpointSection)
    log: LogSection = Field(default_factory=LogSection)

    def plain(self, unread: bool = False) -> dict[str, Any]:
        """Plain Python values by section, durations as text; `gcp.config.from_dict` reads it back. `unread`: those keys
        too that nothing reads beside the others.
        """
        return _plain(self, unread)


S = TypeVar("S", bound=Section)
TRAINED_BY: dict[type[Any], str] = {Config: "gcp train", FlowConfig: "gcp train-glow"}


def trained_by(config: Any) -> str:
    """The command that trains a configuration, or configurations of a class."""
    schema = config if isinstance(config, type) else type(config)
    return next(script for kind, script in TRAINED_BY.items() if issubclass(schema, kind))


def composed(schema: type[S]) -> type[S]:
    """The class with the sections and keys of callbacks beside its own; those of other tasks are as they are."""
    return cast(type[S], _with_callbacks(plugins())) if schema is Config else schema


@cache
def _with_callbacks(registered: tuple[Plugin, ...]) -> type[Config]:
    fields: dict[str, Any] = {}
    for plugin in registered:
        for name, section in plugin.sections.items():
            fields[name] = (section, Field(default_factory=section))
        for name, keys_of in plugin.keys.items():
            common = fields[name][0] if name in fields else sections(Config)[name]
            more = {key: (each.annotation, each) for key, each in keys_of.model_fields.items()}
            whole = create_model(common.__name__, __base__=common, __doc__=common.__doc__, **cast(Any, more))
            fields[name] = (whole, Field(default_factory=whole))
    return create_model("Config", __base__=Config, __doc__="One run of a classifier.", **fields)


def option_sections(config: "Config") -> dict[str, Options]:
    """The sections of a configuration that name a head, by their name."""
    return {name: section for name, section in dict(config).items() if isinstance(section, Options)}


def sections(schema: type[Section]) -> dict[str, type[Section]]:
    """The sections of a kind of configuration."""
    return {
        name: field.annotation
        for name, field in schema.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }


def _plain(config: Any, unread: bool) -> dict[str, Any]:
    out = {name: () if unread else getattr(config, name).unread() for name in sections(type(config))}
    idle = getattr(config, "IDLE", {})
    return {
        name: getattr(config, name).model_dump(mode="json", exclude={*names, *idle.get(name, ())})
        for name, names in out.items()
    }


def keys(schema: type[Section], section: str) -> list[str]:
    """The keys of one of its sections."""
    idle = getattr(schema, "IDLE", {}).get(section, ())
    return [key for key in sections(schema)[section].model_fields if key not in idle]
