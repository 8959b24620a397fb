"""What types cannot say: names that exist, and keys that must fit each other.

Each check yields faults and names the keys it concluded from. Registries are imported when they are asked.
"""

import inspect
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from gcp.config.duration import Duration, shorter_than_run
from gcp.config.faults import Fault, show, wrong
from gcp.config.flow_checks import flow_faults
from gcp.config.head_checks import head_faults
from gcp.config.plugins import plugins
from gcp.config.schema import Common, Config, FlowConfig, sections
from gcp.errors import GCPError, nearest

PARTS = ("features", "head", "classifier")


def faults(config: Config | FlowConfig) -> Iterator[Fault]:
    """Every fault of a configuration whose types are right."""
    for common in COMMON:
        yield from common(config)
    if isinstance(config, FlowConfig):
        yield from flow_faults(config)
        return
    for check in CHECKS:
        yield from check(config)
    for plugin in plugins():
        yield from plugin.check(config)


def _names(config: Common) -> Iterator[Fault]:
    """Names of data sets and optimizers."""
    from timm.optim import list_optimizers

    import gcp.data
    from gcp.data.own import is_own, why_unknown

    datasets = gcp.data.DATASETS
    optimizers = [str(name) for name in list_optimizers()]
    names: list[tuple[str, str, Collection[str], str]] = [
        (
            "data.name",
            config.data.name,
            datasets,
            f"{', '.join(datasets)} or MODULE:FUNCTION of your own (--list datasets)",
        ),
        (
            "optim.name",
            config.optim.name,
            optimizers,
            f"the {len(optimizers)} names of timm.optim.list_optimizers(), such as sgd, adamw, lamb, lion",
        ),
    ]
    for key, got, known, allowed in names:
        if known is datasets and is_own(got) and got not in known:
            yield Fault(key, why_unknown(got))
        elif got not in known:
            close = datasets.nearest(got) if known is datasets else nearest(got, known)
            yield wrong(key, got, allowed, [close] if close else [])


def _head(config: Config) -> Iterator[Fault]:
    import gcp.heads

    got, heads = config.head.name, list(gcp.heads.list_heads("*"))
    if got not in heads:
        close = nearest(got, heads)
        yield wrong("head.name", got, f"{', '.join(heads)} (--list heads)", [close] if close else [])


def _backbone(config: Config) -> Iterator[Fault]:
    import gcp.models

    try:
        gcp.models.check_backbone(config.model.backbone)
    except GCPError as error:
        yield Fault("model.backbone", str(error))


def _data(config: Common) -> Iterator[Fault]:
    """What the data set says about itself, without touching the disk."""
    import gcp.data

    data = config.data
    if data.name not in gcp.data.DATASETS:
        return
    source = gcp.data.DATASETS[data.name].obj
    size = None if data.image_size == "auto" else data.image_size
    for key, got, allowed, meant in source.refusals(data.root, size, data.in_chans, data.transform):
        allowed = f"{allowed} (data.name: {data.name})"
        yield wrong(f"data.{key}", got, allowed, [meant] if meant else [], ("data.name",))


def _model(config: Config) -> Iterator[Fault]:
    for name in config.model.freeze:
        part, dot, rest = name.partition(".")
        if part not in PARTS or (dot and not all(rest.split("."))):
            close = nearest(part, PARTS)
            allowed = f"{', '.join(PARTS)}, or a part of them such as features.layer1"
            yield wrong("model.freeze", name, allowed, [close + dot + rest] if close else [])
    if set(PARTS) <= set(config.model.freeze):
        yield wrong("model.freeze", config.model.freeze, "at least one part left to train")


def _optim(config: Common) -> Iterator[Fault]:
    from timm.optim import get_optimizer_class, list_optimizers

    name = config.optim.name
    if config.optim.nesterov and name in list_optimizers():
        takes = inspect.signature(get_optimizer_class(name, bind_defaults=False)).parameters
        if "nesterov" not in takes:
            yield wrong("optim.nesterov", True, f"false with optim.name: {name}", needs=("optim.name",))
    if config.optim.nesterov and config.optim.momentum == 0:
        yield wrong("optim.momentum", 0, "a number > 0 with optim.nesterov: true", needs=("optim.nesterov",))
    if config.schedule.min_lr > config.optim.lr:
        yield wrong(
            "schedule.min_lr",
            config.schedule.min_lr,
            f"a number <= optim.lr, {config.optim.lr:g}",
            needs=("optim.lr",),
        )


def _precision(config: Common) -> Iterator[Fault]:
    if config.run.device == "cpu" and config.run.amp == "fp16":
        yield wrong("run.amp", "fp16", "none, bf16 with run.device: cpu", ["bf16"], ("run.device",))


def _schedule(config: Common) -> Iterator[Fault]:
    schedule = config.schedule
    name, stones = schedule.name, [str(milestone) for milestone in schedule.milestones]
    if not stones and name == "multistep":
        yield wrong(
            "schedule.milestones",
            stones,
            "at least one duration with schedule.name: multistep",
            needs=("schedule.name",),
        )
    if name == "multistep" and not _increasing(schedule.milestones):
        yield wrong("schedule.milestones", stones, "durations that increase")


def _warmup(config: Common) -> Iterator[Fault]:
    schedule, name = config.schedule, config.schedule.name
    if schedule.warmup.amount > 0 and name == "onecycle":
        yield wrong(
            "schedule.warmup",
            str(schedule.warmup),
            "0 with schedule.name: onecycle, which has its own rise",
            needs=("schedule.name",),
        )
    if not shorter_than_run(schedule.warmup, config.train.epochs):
        yield wrong(
            "schedule.warmup",
            str(schedule.warmup),
            f"shorter than the run of {config.train.epochs} epochs, or 0 for none",
            needs=("train.epochs",),
        )


def _increasing(durations: Sequence[Duration]) -> bool:
    """False if neighbours of one unit are not in order; those of two cannot be compared without the data."""
    pairs = pairwise(durations)
    return all(first.unit != second.unit or first.amount < second.amount for first, second in pairs)


def _unread(config: Common) -> Iterator[Fault]:
    """Keys that say something that nothing would do."""
    for name in sections(type(config)):  # type: ignore[arg-type]
        section = getattr(config, name)
        fields = type(section).model_fields
        shown = section.model_dump(mode="json", include={*section.unread()})
        for key, instead in section.unread().items():
            if getattr(section, key) == fields[key].get_default(call_default_factory=True):
                continue
            cause = instead.partition("=")[0]
            value = getattr(section, cause)
            why = f"the default with {name}.{cause}: {value if isinstance(value, str) else show(value)}"
            yield wrong(f"{name}.{key}", shown[key], why, [f"{name}.{instead}"], (f"{name}.{cause}",))


COMMON = (_unread, _names, _data, _optim, _precision, _schedule, _warmup)
CHECKS = (_head, _backbone, _model, head_faults)
