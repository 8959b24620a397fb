"""What a head takes: its own options, and those common arguments that mean something to it.

Every section that names a head (`gcp.config.sections.Options`) is checked by the same rules.
"""

from collections.abc import Iterator
from typing import Any

from gcp.config.faults import Fault, wrong
from gcp.config.schema import Config, option_sections
from gcp.config.sections import Head, Options
from gcp.errors import GCPError, UnknownNameError, nearest


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
    yield from _norm_faults(config.head)


def _norm_faults(head: Head) -> Iterator[Fault]:
    """A spectral norm without a convolution to act on."""
    if head.spectral_norm is not None and head.dim is None:
        text = "null with head.dim: null, which leaves no reduction to act on; or set head.dim"
        yield wrong("head.spectral_norm", head.spectral_norm, text, needs=("head.dim",))
    elif head.spectral_norm is not None and head.reduction == "orthogonal":
        text = "null with head.reduction: orthogonal, whose singular values are 1"
        yield wrong("head.spectral_norm", head.spectral_norm, text, ["head.reduction=conv"], ("head.reduction",))


def unfit(old: Head, name: str, new: Options) -> str | None:
    """Which heads could take the place of `old` where `new`, the head `name`, cannot; None where it can."""
    import gcp.heads

    if _exchangeable(old, name, new.arguments):
        return None
    fit = [str(head) for head in gcp.heads.list_heads("*") if _exchangeable(old, str(head), {})]
    return f"a head with the outputs and tensors of {old.name}: {', '.join(fit)}"


def _exchangeable(old: Head, name: str, options: dict[str, Any]) -> bool:
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
    problems = {key: problem for key, value in given.items() if (problem := _refused(name, {key: value}))}
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
        text = f"an option of {', '.join(owners)}, not of {name}; remove it with {section}.{key}=null"
        return Fault(f"{section}.{key}", text, needs)
    close = nearest(key, own + keys)
    fault = wrong(f"{section}.{key}", value, allowed, [f"{section}.{close}"] if close else [], needs)
    return Fault(fault.key, f"unknown key, {fault.text}", fault.needs)
