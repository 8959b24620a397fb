"""Every key with its default, meaning and what is allowed: the help text, and the JSON schema for editors."""

import textwrap
from typing import Any

from gcp.config.faults import allowed, show
from gcp.config.schema import Config, composed, sections
from gcp.config.stages import KEYS
from gcp.config.validate import key_schemas
from gcp.config.values import HeadSection, Options, Section


def describe(width: int = 100, schema: type[Section] = Config) -> str:
    """The help text of a kind of configuration: one aligned entry per key, section by section, `width` columns wide."""
    schema = composed(schema)
    defaults = schema().plain(unread=True)  # type: ignore[attr-defined]
    keys = {
        f"{section}.{key}": (_brief(defaults[section][key]), form)
        for section, forms in key_schemas(schema).items()
        for key, form in forms.items()
    }
    columns = max(map(len, keys)), max(len(default) for default, _ in keys.values())
    indent = 2 + columns[0] + 2 + columns[1] + 2
    lines, last = [f"{'key':{columns[0] + 2}}  {'default':{columns[1]}}  meaning (allowed)"], ""
    for key, (default, form) in keys.items():
        section = key.split(".")[0]
        if section != last:
            lines += ["", *textwrap.wrap(f"{section}: {_summary(schema, section)}", width, subsequent_indent="  ")]
        last = section
        start = f"  {key:{columns[0]}}  {default:{columns[1]}}  "
        values = "" if form.get("type") == "string" and allowed(form) == "text" else f" ({allowed(form)})"
        lines += textwrap.wrap(
            f"{start}{form['description']}{values}",
            width,
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        if key == "head.reduction":
            lines += _options_text(width)
    if "stages" not in schema.model_fields:
        return "\n".join(lines)
    stages = f"stages  []  {Config.model_fields['stages'].description}"
    return "\n".join([*lines, "", *textwrap.wrap(stages, width, subsequent_indent="  ", break_long_words=False)])


def json_schema(kind: type[Section] = Config) -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a kind of configuration file, with the names of heads and data sets."""
    import gcp.data

    is_classifier, kind = kind is Config, composed(kind)
    schema = _without_titles(kind.model_json_schema())
    for section, values in kind().plain(unread=True).items():  # type: ignore[attr-defined]
        definition = _section(schema, section)
        definition["properties"] = {key: definition["properties"][key] | {"default": values[key]} for key in values}
    if is_classifier:
        _add_heads(schema)
    datasets = list(gcp.data.DATASETS)
    families = "|".join(name[:-2] for name in datasets if name.endswith("/*"))
    own = r"^[\w.]+:\w+$"  # MODULE:FUNCTION
    _section(schema, "data")["properties"]["name"] |= {
        "anyOf": [{"enum": datasets}, {"pattern": f"^({families})/."}, {"pattern": own}]
    }
    extends = {"type": "string", "description": "a file whose values stand under these, relative to this one"}
    schema["properties"] = {"extends": extends} | schema["properties"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "gcp configuration"} | schema


def _add_heads(schema: dict[str, Any]) -> None:
    """The names and the own options of heads, and what a stage may set."""
    import gcp.heads

    heads = [str(entry) for entry in gcp.heads.list_heads("*")]
    for section, kind in sections(composed(Config)).items():
        if not issubclass(kind, Options):
            continue
        definition = _section(schema, section)
        definition["properties"] |= {key: _option_schema(key, owners) for key, owners in _options().items()}
        definition["additionalProperties"] = False
        definition["properties"][kind.HEAD]["enum"] = [*heads, *([None] if kind().head is None else [])]
    schema["properties"]["stages"]["items"] = _stage_schema(schema)


def _stage_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A stage: the sections that it may set, and of some of them only some keys."""
    allowed_here = {}
    for section, kind in sections(composed(Config)).items():
        properties = _section(schema, section)["properties"]
        fixed = [key for key in kind.model_fields if section in KEYS and key not in KEYS[section]]
        if len(fixed) < len(kind.model_fields):
            free = {key: value for key, value in properties.items() if key not in fixed}
            own = {"type": "object", "properties": free, "additionalProperties": False}
            allowed_here[section] = own if fixed else schema["properties"][section]
    return {"type": "object", "properties": allowed_here, "additionalProperties": False}


def _section(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return schema["$defs"][schema["properties"][name]["$ref"].rsplit("/", 1)[1]]


def _summary(schema: type[Section], section: str) -> str:
    return (sections(schema)[section].__doc__ or "").strip()


def _without_titles(schema: Any) -> Any:
    """Without the title that pydantic gives every key; a key called title would be a mapping and stays."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: _without_titles(value) for key, value in schema.items() if not (key == "title" and isinstance(value, str))
    }


def _brief(value: object) -> str:
    """A default as short as it can be typed: 10 for 10.0, 1e+10 for 10000000000.0, [a, b] for texts."""
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return f"[{', '.join(value)}]"
    short = f"{value:g}" if isinstance(value, float) else ""
    return short if short and float(short) == value else show(value).strip("'")


def _options() -> dict[str, dict[str, Any]]:
    """The heads' own options: name -> head -> default."""
    import gcp.heads

    options: dict[str, dict[str, Any]] = {}
    for head in gcp.heads.list_heads("*"):
        for key, default in gcp.heads.head_options(head).items():
            if key not in HeadSection.model_fields:
                options.setdefault(key, {})[str(head)] = default
    return options


def _option_schema(key: str, heads: dict[str, Any]) -> dict[str, Any]:
    owners = ", ".join(f"{head} (default {_brief(default)})" for head, default in heads.items())
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    types = sorted({kinds[type(default)] for default in heads.values() if type(default) in kinds})
    # An integer default of an option that also takes fractions would be too narrow for an editor.
    types = ["number" if kind == "integer" and "number" in types else kind for kind in types]
    # null alone says nothing of the type; beside a default of another head it is that option, passed on
    open_ended = not types or any(default is not None and type(default) not in kinds for default in heads.values())
    return {"description": f"option of {owners}; null: none"} | (
        {} if open_ended else {"type": [*dict.fromkeys(types), "null"]}
    )


def _options_text(width: int) -> list[str]:
    lines = []
    for key, heads in _options().items():
        owners = ", ".join(f"{head} ({_brief(default)})" for head, default in heads.items())
        lines += textwrap.wrap(
            f"  head.{key}: option of {owners}",
            width,
            subsequent_indent=" " * 6,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines
