"""What a head takes: its own options, and those common arguments that mean something to it."""

from collections.abc import Iterator
from typing import Any

from gcp.config.faults import Fault, wrong
from gcp.config.schema import Config, Head
from gcp.errors import GCPError, UnknownNameError, nearest


def own_options(head: str) -> list[str]:
    """The names of a head's own options, none for a head that does not exist."""
    import gcp.heads

    try:
        return list(gcp.heads.head_options(head))
    except UnknownNameError:
        return []


def head_faults(config: Config) -> Iterator[Fault]:
    """Each argument of the head by itself, so that all their faults are found, then all of them together."""
    import gcp.heads

    head, name = config.head, config.head.name
    if name not in list(gcp.heads.list_heads("*")):
        return
    own = gcp.heads.head_options(name)
    for key, value in (head.model_extra or {}).items():
        if key not in own and (value is not None or not _owners(key)):
            yield _foreign_option(name, key, value)
    fixed = {key: getattr(head, key) for key in Head.model_fields if key != "name"}
    given = fixed | {key: value for key, value in head.options.items() if key in own}
    problems = {key: problem for key, value in given.items() if (problem := _refused(name, {key: value}))}
    for key, problem in problems.items():
        yield Fault(f"head.{key}", problem, ("head.name",))
    if head.form == "published" and head.side == "sample":
        problems["side"] = "channel or auto with head.form: published, which works on channels"
        yield wrong("head.side", "sample", problems["side"], needs=("head.name", "head.form"))
    if not problems and (problem := _refused(name, given)):
        yield Fault("head", problem, tuple(f"head.{key}" for key in ("name", *given)))


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


def _foreign_option(name: str, key: str, value: object) -> Fault:
    import gcp.heads

    own, keys = list(gcp.heads.head_options(name)), list(Head.model_fields)
    owners = _owners(key)
    allowed = f"{', '.join(keys)}" + (f", and of {name}: {', '.join(own)}" if own else f" ({name} has no options)")
    if owners:
        text = f"an option of {', '.join(owners)}, not of {name}; remove it with head.{key}=null"
        return Fault(f"head.{key}", text, ("head.name",))
    close = nearest(key, own + keys)
    fault = wrong(f"head.{key}", value, allowed, [f"head.{close}"] if close else [], ("head.name",))
    return Fault(fault.key, f"unknown key, {fault.text}", fault.needs)
