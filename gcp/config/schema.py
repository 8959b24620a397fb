"""The configuration: sections, keys, defaults, and what each key means.

The one source of the help text, of the JSON schema for editors, of the checks and of what is allowed in
a message. Types are strict: a number is never made from a text, nor a switch from a number.
"""

from typing import Any, ClassVar, Protocol

from pydantic import Field

from gcp.config.sections import (
    Checkpoint,
    Data,
    Evaluate,
    Evolve,
    Flow,
    Head,
    Hybrid,
    Model,
    Monitor,
    Optim,
    Run,
    Schedule,
    Section,
    Train,
)


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
    def checkpoint(self) -> Checkpoint: ...

    def plain(self, unread: bool = False) -> dict[str, Any]:
        """Plain Python values by section, which `gcp.config.from_dict` reads back.

        `unread`: those keys too that nothing reads beside the others.
        """
        ...


STAGES = "[{model: {freeze: [features]}, train: {epochs: 5}}, {train: {epochs: 10}}]"  # for messages and help


class Config(Section):
    """One run of a classifier, all of it. `stages` are the values that each stage of it puts over the rest, see
    `gcp.config.stages`.
    """

    run: Run = Field(default_factory=Run)
    data: Data = Field(default_factory=Data)
    model: Model = Field(default_factory=Model)
    head: Head = Field(default_factory=Head)
    hybrid: Hybrid = Field(default_factory=Hybrid)
    optim: Optim = Field(default_factory=Optim)
    schedule: Schedule = Field(default_factory=Schedule)
    train: Train = Field(default_factory=Train)
    evaluate: Evaluate = Field(default_factory=Evaluate)
    checkpoint: Checkpoint = Field(default_factory=Checkpoint)
    monitor: Monitor = Field(default_factory=Monitor)
    evolve: Evolve = Field(default_factory=Evolve)
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
        for name in ("head", "hybrid"):
            section = getattr(self, name)
            read = {key: values[name][key] for key in type(section).model_fields if key in values[name]}
            values[name] = read | section.options
        return values | ({"stages": [dict(stage) for stage in self.stages]} if self.stages else {})


class FlowConfig(Section):
    """One run of a normalising flow: the sections of a classifier's run without what is about classes.

    IDLE: keys of these sections that a flow does not read, and that its configurations therefore do not have.
    """

    IDLE: ClassVar[dict[str, tuple[str, ...]]] = {
        "run": ("amp", "compile", "channels_last", "sync_batch_norm"),
        "data": ("per_class",),
        "optim": (
            "features_lr_factor",
            "head_lr_factor",
            "head_weight_decay",
            "classifier_lr_factor",
            "classifier_weight_decay",
            "nog",
            "olr",
        ),
        "train": ("label_smoothing", "mixup", "cutmix"),
        "evaluate": ("crops",),
    }

    run: Run = Field(default_factory=Run)
    data: Data = Field(default_factory=Data)
    flow: Flow = Field(default_factory=Flow)
    optim: Optim = Field(default_factory=Optim)
    schedule: Schedule = Field(default_factory=Schedule)
    train: Train = Field(default_factory=Train)
    evaluate: Evaluate = Field(default_factory=Evaluate)
    checkpoint: Checkpoint = Field(default_factory=Checkpoint)

    def plain(self, unread: bool = False) -> dict[str, Any]:
        """Plain Python values by section, durations as text; `gcp.config.from_dict` reads it back. `unread`: those keys
        too that nothing reads beside the others.
        """
        return _plain(self, unread)


TRAINED_BY: dict[type[Any], str] = {Config: "gcp train", FlowConfig: "gcp train-glow"}


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


SECTIONS = sections(Config)
