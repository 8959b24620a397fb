"""What types cannot say: names that exist, and keys that must fit each other.

Each check yields faults and names the keys it concluded from. Registries are imported when they are asked.
"""

import inspect
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from gcp.config.faults import Fault, show, wrong
from gcp.config.plugins import plugins
from gcp.config.schema import Common, Config, FlowConfig, option_sections, sections
from gcp.config.values import Duration, HeadSection, Options, shorter_than_run
from gcp.errors import GCPError, UnknownNameError, nearest

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
        if got in known:
            continue
        if known is datasets and ":" in got:
            from gcp.data.own import is_own, why_unknown

            if is_own(got):
                yield Fault(key, why_unknown(got))
                continue
        if got not in known:
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
    for key, got, allowed, meant in source.refusals(data.root, size, data.in_chans, data.transform, data.exif):
        allowed = f"{allowed} (data.name: {data.name})"
        yield wrong(f"data.{key}", got, allowed, [meant] if meant else [], ("data.name",))


def _model(config: Config) -> Iterator[Fault]:
    for name in config.model.freeze:
        part, dot, rest = name.partition(".")
        if part not in PARTS or (dot and not all(rest.split("."))):
            close = nearest(part, PARTS)
            allowed = f"{', '.join(PARTS)}, or a part of them such as features.layer1"
            yield wrong("model.freeze", name, allowed, [close + dot + rest] if close else [])
    if config.model.norm is not None:
        from gcp.models.norms import norm_faults

        for key, text in norm_faults(config.model.norm).items():
            yield Fault(f"model.norm.{key}", text)
    if set(PARTS) <= set(config.model.freeze):
        yield wrong("model.freeze", config.model.freeze, "at least one part left to train")


def _cached(config: Config) -> Iterator[Fault]:
    """What features that are computed once rule out."""
    if not config.train.cache_features:
        return
    if "features" not in config.model.freeze:
        text = "[features] with train.cache_features: true, which needs a frozen backbone"
        yield wrong("model.freeze", list(config.model.freeze), text, ["[features]"], ("train.cache_features",))
    for key in ("mixup", "cutmix"):
        if value := getattr(config.train, key):
            text = "0 with train.cache_features: true, which keeps no images to mix"
            yield wrong(f"train.{key}", value, text, needs=("train.cache_features",))


def _optim(config: Common) -> Iterator[Fault]:
    from timm.optim import get_optimizer_class, list_optimizers

    name = config.optim.name
    if config.optim.nesterov and name in list_optimizers():
        takes = inspect.signature(get_optimizer_class(name, bind_defaults=False)).parameters
        if "nesterov" not in takes:
            yield wrong("optim.nesterov", True, f"false with optim.name: {name}", needs=("optim.name",))
    if name in list_optimizers():
        taken = list(inspect.signature(get_optimizer_class(name, bind_defaults=False)).parameters)
        own = [key for key in taken if key not in type(config.optim).model_fields and key not in ("params", "kwargs")]
        for key in ("betas", "eps"):
            if getattr(config.optim, key) is not None and key not in taken:
                yield wrong(
                    f"optim.{key}", getattr(config.optim, key), f"null with optim.name: {name}", needs=("optim.name",)
                )
        for key, value in config.optim.options.items():
            if key not in own:
                close = nearest(key, own)
                allowed = f"an option of {name}: {', '.join(own)}"
                yield wrong("optim.options", {key: value}, allowed, [close] if close else [], ("optim.name",))
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


def _log(config: Common) -> Iterator[Fault]:
    """Loggers that there are not, and their options. Those of the user's own are known when the run begins."""
    from gcp.loggers import LOGGERS, is_own, option_fault

    to, options = config.log.to, config.log.options
    listed = f"{', '.join(LOGGERS)} or MODULE:CLASS of your own (--list loggers)"
    for name in to:
        if name not in LOGGERS and not is_own(name):
            close = LOGGERS.nearest(name)
            yield wrong("log.to", name, listed, [close] if close else [])
    if len(set(to)) < len(to):
        yield wrong("log.to", to, "each logger once")
    for name, given in options.items():
        if name not in LOGGERS and name not in to:
            close = nearest(name, (*LOGGERS, *to))
            yield wrong(f"log.options.{name}", given, listed, keys=[f"log.options.{close}"] if close else [])
        elif name in LOGGERS and (fault := option_fault(name, given)):
            yield Fault(f"log.options.{name}", fault)


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
            yield wrong(f"{name}.{key}", shown[key], why, needs=[f"{name}.{cause}"], keys=[f"{name}.{instead}"])


def own_options(head: str) -> list[str]:
    """The names of a head's own options, none for a head that does not exist."""
    import gcp.heads

    try:
        return list(gcp.heads.head_options(head))
    except UnknownNameError:
        return []


def head_faults(config: Config) -> Iterator[Fault]:
    """What is wrong with each section that names a head, by itself."""
    for section, head in option_sections(config).items():
        if head.head is not None:
            yield from _section_faults(section, head.head, head)
    yield from _reduction_faults(config.head)


def _reduction_faults(head: HeadSection) -> Iterator[Fault]:
    """A start or a spectral norm without a convolution to act on."""
    if head.reduction_init != "random" and head.dim is None:
        text = "random with head.dim: null, which leaves no reduction to start; or set head.dim"
        yield wrong("head.reduction_init", head.reduction_init, text, needs=("head.dim",))
    if head.spectral_norm is not None and head.dim is None:
        text = "null with head.dim: null, which leaves no reduction to act on; or set head.dim"
        yield wrong("head.spectral_norm", head.spectral_norm, text, needs=("head.dim",))
    elif head.spectral_norm is not None and head.reduction == "orthogonal":
        text = "null with head.reduction: orthogonal, whose singular values are 1"
        needs, keys = ["head.reduction"], ["head.reduction=conv"]
        yield wrong("head.spectral_norm", head.spectral_norm, text, needs=needs, keys=keys)


def unfit(old: HeadSection, name: str, new: Options) -> str | None:
    """Which heads could take the place of `old` where `new`, the head `name`, cannot; None where it can."""
    import gcp.heads

    if _exchangeable(old, name, new.arguments):
        return None
    fit = [str(head) for head in gcp.heads.list_heads("*") if _exchangeable(old, str(head), {})]
    return f"a head with the outputs and tensors of {old.name}: {', '.join(fit) or 'there is none'}"


def _exchangeable(old: HeadSection, name: str, options: dict[str, Any]) -> bool:
    """True also where one of the two cannot be built, which is another fault."""
    import gcp.heads

    channels = old.dim or 64  # without a reduction the backbone decides; heads differ alike for any number
    before, after = _own(old.name, old.arguments), _own(name, options)
    try:
        gcp.heads.check_options(old.name, **before)
        gcp.heads.check_options(name, **after)
    except GCPError:
        return True
    outputs = gcp.heads.head_outputs
    return gcp.heads.exchange_fault(outputs(old.name, channels, **before), outputs(name, channels, **after)) is None


def _own(head: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options of the head itself among its arguments: only these decide on outputs and tensors."""
    return {key: value for key, value in given.items() if key in own_options(head)}


def _section_faults(section: str, name: str, head: Options) -> Iterator[Fault]:
    """Each argument of the head by itself, so that all their faults are found, then all of them together."""
    import gcp.heads

    if name not in list(gcp.heads.list_heads("*")):
        return
    own, naming = gcp.heads.head_options(name), f"{section}.{head.HEAD}"
    for key, value in (head.model_extra or {}).items():
        if key not in own and (value is not None or not _owners(key)):
            yield _foreign_option(section, head, key, value)
    given = {key: value for key, value in head.arguments.items() if key in (*type(head).model_fields, *own)}
    # the rule or the solver, where the head has the choice, says which further options there are
    method: dict[str, Any] = {key: given[key] for key in ("rule", "solver") if key in own and key in given}
    method = {} if _refused(name, method) else method
    problems = {key: problem for key, value in given.items() if (problem := _refused(name, method | {key: value}))}
    for key, problem in problems.items():
        yield Fault(f"{section}.{key}", problem, (naming,))
    if given["form"] == "published" and given["side"] == "sample":
        problems["side"] = f"channel or auto with {section}.form: published, which works on channels"
        yield wrong(f"{section}.side", "sample", problems["side"], needs=(naming, f"{section}.form"))
    if not problems and (problem := _refused(name, given)):
        yield Fault(section, problem, (naming, *(f"{section}.{key}" for key in given)))


def _refused(name: str, options: dict[str, Any]) -> str | None:
    import gcp.heads

    try:
        gcp.heads.check_options(name, **options)
    except GCPError as error:
        return str(error)
    return None


def _owners(key: str) -> list[str]:
    """The heads that have an option."""
    import gcp.heads

    return [str(head) for head in gcp.heads.list_heads("*") if key in gcp.heads.head_options(head)]


def _foreign_option(section: str, head: Options, key: str, value: object) -> Fault:
    import gcp.heads

    name = str(head.head)
    own, keys = list(gcp.heads.head_options(name)), list(type(head).model_fields)
    owners, needs = _owners(key), (f"{section}.{head.HEAD}",)
    allowed = f"{', '.join(keys)}" + (f", and of {name}: {', '.join(own)}" if own else f" ({name} has no options)")
    if owners:
        text = f"an option of {', '.join(owners)}, not of {name}"
        return Fault(f"{section}.{key}", text, needs, removable=True)
    close = nearest(key, own + keys)
    fault = wrong(f"{section}.{key}", value, allowed, needs=needs, keys=[f"{section}.{close}"] if close else [])
    return replace(fault, text=f"unknown key, {fault.text}")


def flow_faults(config: FlowConfig) -> Iterator[Fault]:
    """Levels that the sides of the images do not allow."""
    import gcp.data

    flow, data = config.flow, config.data
    if data.in_chans not in (1, 3):
        yield wrong("data.in_chans", data.in_chans, "1 (grey) or 3 (colour), a flow draws its images")
    if data.name not in gcp.data.DATASETS:
        return
    side = data.image_size if data.image_size != "auto" else gcp.data.DATASETS[data.name].obj.image_size
    most = (side & -side).bit_length() - 1  # how often the side can be halved
    if most == 0:
        yield wrong("data.image_size", side, "an even number, a flow halves the sides in every level")
    elif flow.levels > most:
        allowed = f"a whole number <= {most}, images of {side} x {side} pixels are halved in every level"
        yield wrong("flow.levels", flow.levels, allowed, needs=("data.image_size", "data.name"))


COMMON = (_unread, _names, _data, _optim, _precision, _schedule, _warmup, _log)
CHECKS = (_head, _backbone, _model, _cached, head_faults)
