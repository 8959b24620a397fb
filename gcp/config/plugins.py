"""What a callback adds to a configuration, and the registry of callbacks.

A folder of `gcp.callbacks` registers one `Plugin`: sections of its own, or keys in a section that all runs have, the
checks of both, and what makes the callback of a run. Whatever is not wanted is not imported.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gcp.config.faults import Fault
from gcp.config.values import Section
from gcp.registry import Registry

if TYPE_CHECKING:
    from gcp.config.schema import Config


@dataclass(frozen=True, eq=False)
class Plugin:
    """What a callback registers.

    Attributes:
        asked_by: "section.key"s; a run has the callback if one of them is set (not null, not false).
        create: "module:name" of what makes the callback from a configuration.
        faults: "module:name" of the checks beyond types, None for none; asked where a key differs from its default.
        sections: sections of its own, by name.
        keys: keys in common sections, by the section's name.
        resumable: whether the keys of its sections may change in a run that is resumed.
        changes_model: whether it makes another model of that which the other settings describe.
        order: callbacks with a lower number are called first: those that change a model before those that observe it.
    """

    asked_by: tuple[str, ...]
    create: str
    faults: str | None = None
    sections: Mapping[str, type[Section]] = field(default_factory=dict)
    keys: Mapping[str, type[Section]] = field(default_factory=dict)
    resumable: bool = False
    changes_model: bool = False
    order: int = 0

    def wanted(self, config: "Config") -> bool:
        """Whether a run has the callback."""
        values = (getattr(getattr(config, section), key) for section, key in (p.split(".") for p in self.asked_by))
        return any(value not in (None, False) for value in values)

    def check(self, config: "Config") -> Iterator[Fault]:
        """What is wrong with its keys in `config`."""
        if self.faults is not None and self._is_set(config):
            yield from _imported(self.faults)(config)

    def build(self, config: "Config") -> Any:
        """The callback of a run."""
        return _imported(self.create)(config)

    def _is_set(self, config: "Config") -> bool:
        if any(getattr(config, name) != section() for name, section in self.sections.items()):
            return True
        return any(
            getattr(getattr(config, name), key) != default
            for name, keys in self.keys.items()
            for key, default in dict(keys()).items()
        )


PLUGINS: Registry[Plugin] = Registry("callback")


def plugins() -> tuple[Plugin, ...]:
    """Those of `gcp.callbacks` and of modules of the user's own, in the order in which callbacks are called."""
    import_module("gcp.callbacks")  # by its name: it stands on the configuration
    return tuple(sorted((PLUGINS[name].obj for name in PLUGINS), key=lambda plugin: plugin.order))


# Keys, or beginnings of keys, that may change in a run that is resumed.
RESUMABLE = (
    "train.epochs",
    "train.cache_dir",
    "run.device",
    "run.threads",
    "run.hang_minutes",
    "run.rank_logs",
    "data.workers",
    "data.root",
    "evaluate.",
    "checkpoint.",
    "log.",
)


def resumable() -> tuple[str, ...]:
    """`RESUMABLE` with the sections of callbacks that may change as well."""
    return (*RESUMABLE, *(f"{name}." for plugin in plugins() if plugin.resumable for name in plugin.sections))


def within(key: str, places: Iterable[str]) -> bool:
    """Whether a key, perhaps of a stage, is one of `places`, or begins with one that ends in a dot."""
    key = re.sub(r"^stages\.\d+\.", "", key)
    return any(key.startswith(place) if place.endswith(".") else key == place for place in places)


def without_changes(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a configuration without the sections of callbacks that change the model on the way."""
    changing = {name for plugin in plugins() if plugin.changes_model for name in plugin.sections}
    return {name: section for name, section in values.items() if name not in changing}


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
