"""YAML as editors and the JSON schema read it (YAML 1.2), with every fault located.

PyYAML follows YAML 1.1, where `1e-1` is a text, `yes` a switch, `010` eight, `1:30` ninety and a key
given twice silently wins. Here `1e-1` is a number, only `true` and `false` are switches, and a key
given twice is a fault.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from gcp.config.faults import Fault

_TAG = "tag:yaml.org,2002:"
_FLOAT = re.compile(
    r"[-+]?(?:[0-9]*\.[0-9]+|[0-9]+\.)(?:[eE][-+]?[0-9]+)?$"
    r"|[-+]?[0-9]+[eE][-+]?[0-9]+$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"
)


class _Loader(yaml.SafeLoader):
    """The safe loader with the scalars of YAML 1.2 and nothing else."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012  (PyYAML's own protocol)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node. What its tag cannot be made of, `!!int x` or a number of 5,000 digits, has its place."""
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception as error:  # the constructors raise whatever their conversions do
            text = repr(node.value) if isinstance(node, yaml.ScalarNode) else "this"
            short = f"{text[:40]}..." if len(text) > 44 else text
            problem = f"{short} cannot be read as {node.tag.removeprefix(_TAG)}"
            raise ConstructorError(None, None, problem, node.start_mark) from error


_Loader.add_implicit_resolver(_TAG + "bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(_TAG + "null", re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(_TAG + "int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(_TAG + "float", _FLOAT, list("-+0123456789."))
_Loader.add_implicit_resolver(_TAG + "merge", re.compile(r"<<$"), ["<"])


class _Dumper(yaml.SafeDumper):
    """Quotes every text that either version of YAML would take for something else."""


_Dumper.add_implicit_resolver(_TAG + "float", _FLOAT, list("-+0123456789."))
_Dumper.add_representer(
    list,
    lambda dumper, value: dumper.represent_sequence(
        _TAG + "seq", value, flow_style=not any(isinstance(item, dict) for item in value)
    ),
)


def parse(text: str) -> tuple[Any, list[Fault]]:
    """The value of a YAML document and the keys given twice. Raises `yaml.YAMLError`."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, []
        faults = list(_given_twice(node, "", (), set()))
        return loader.construct_document(node), faults
    finally:
        loader.dispose()


def read(path: Path) -> tuple[dict[str, Any] | None, list[Fault]]:
    """The mapping in a YAML file, None where there is none, and what is wrong with the file."""
    try:
        value, faults = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        return None, [Fault("", f"cannot read {str(path)!r}: {error.strerror or error}")]
    except UnicodeDecodeError:
        return None, [Fault("", f"{str(path)!r} is not a text file in UTF-8; allowed: a YAML file")]
    except yaml.YAMLError as error:
        return None, [Fault("", f"{str(path)!r} is not valid YAML: {located(error)}")]
    except RecursionError:
        return None, [Fault("", f"{str(path)!r} is nested too deeply to be read")]
    if value is None:
        return {}, faults
    if not isinstance(value, dict):
        return None, [
            *faults,
            Fault(
                "",
                f"{str(path)!r} holds a {_word(value)}; allowed: a mapping of sections, such as 'optim: {{lr: 0.1}}'",
            ),
        ]
    return value, faults


def says_nothing(path: Path) -> bool:
    """Whether a file is empty, or holds comments only."""
    try:
        return parse(path.read_text(encoding="utf-8"))[0] is None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return False  # `read` says what is wrong with it


def write(values: dict[str, Any]) -> str:
    """YAML text, one key a line, lists of plain values on one line, in the order given."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False)


def _given_twice(node: yaml.Node, path: str, above: tuple[int, ...], seen: set[int]) -> Iterator[Fault]:
    if id(node) in above:
        raise ConstructorError(None, None, "an alias that holds itself", node.start_mark)
    if id(node) in seen:  # aliases of aliases would be walked exponentially often
        return
    seen.add(id(node))
    above = (*above, id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _given_twice(item, path, above, seen)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        where = f"{path}.{name}" if path else name
        if name in lines and key.tag != _TAG + "merge":
            yield Fault(where, f"given twice, on line {lines[name]} and on line {line}; allowed: once")
        lines.setdefault(name, line)
        yield from _given_twice(value, where, above, seen)


def located(error: yaml.YAMLError) -> str:
    """Line, column and problem of a YAML error, in one line."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else str(problem)


def _word(value: object) -> str:
    return "list" if isinstance(value, list) else "single value"


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`: mappings are merged, anything else is replaced. Neither is changed."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            value = merge(below, value)
        merged[key] = value
    return merged
