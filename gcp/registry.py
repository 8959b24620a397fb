"""One small registry: the list of names, the test plan and the documentation at once.

An entry is its own name (a `str`), so lists of entries print, sort and compare as names, and carries
what it stands for: the object, a one-line summary and the paper it comes from.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Generic, TypeVar

from gcp.errors import OptionError, UnknownNameError, nearest

T = TypeVar("T")


class Entry(str, Generic[T]):
    """A registered name with its object."""

    obj: T
    summary: str
    paper: str

    def __new__(cls, name: str, obj: T, summary: str, paper: str = "") -> "Entry[T]":
        entry = super().__new__(cls, name)
        entry.__dict__.update(obj=obj, summary=summary, paper=paper)
        return entry

    def __setattr__(self, key: str, value: object) -> None:
        raise AttributeError(f"entry {str(self)!r} is frozen")

    def __reduce__(self) -> tuple:
        return str, (str(self),)


class Registry(Generic[T]):
    """Names of one kind in the order of registration. Registering a name twice is an error.

    A name that ends in `/*` stands for every name with that beginning: `hfds/*` is the entry of `hfds/cifar100`.
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, Entry[T]] = {}

    def add(self, name: str, obj: T, *, summary: str, paper: str = "") -> T:
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered already")
        self._entries[name] = Entry(name, obj, summary, paper)
        return obj

    def register(self, name: str, *, summary: str, paper: str = "") -> Callable[[T], T]:
        """Decorator form of `add`."""
        return lambda obj: self.add(name, obj, summary=summary, paper=paper)

    def __getitem__(self, name: str) -> Entry[T]:
        entry = self._find(name)
        if entry is None:
            raise UnknownNameError(self.kind, name, self._entries, self.nearest(name))
        return entry

    def nearest(self, name: object) -> str | None:
        """The known name most like `name`, or None; one of a family with the rest of `name`."""
        rest = str(name).partition("/")[2] or "NAME"
        return nearest(str(name), [f"{known[:-1]}{rest}" if _family(known) else known for known in self])

    def list(self, pattern: str = "*") -> list[Entry[T]]:
        """Entries whose name matches a shell pattern, in the order of registration."""
        return [entry for name, entry in self._entries.items() if fnmatchcase(name, pattern)]

    def __contains__(self, name: object) -> bool:
        return self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def _find(self, name: object) -> Entry[T] | None:
        if not isinstance(name, str):
            return None
        beginning, slash, rest = name.partition("/")
        return self._entries.get(name) or (self._entries.get(f"{beginning}/*") if slash and rest else None)


def _family(name: str) -> bool:
    return name.endswith("/*")


def import_all(package: str, path: Iterable[str]) -> None:
    """Import every module of a folder, so that a new file registers itself and touches nothing else."""
    for module in iter_modules(path):
        import_module(f"{package}.{module.name}")


def import_own(module: str, example: str) -> ModuleType:
    """Import a module of the user's own, from the folder at hand too.

    This runs its code: only for a name that the user gave. `example` completes the message, such as "allowed: ...".

    Raises:
        OptionError: there is no such module, or it cannot be imported.
    """
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # where an installed command, unlike `python train.py`, would not look
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise OptionError(f"cannot import {module}: {error}.") from error
        raise OptionError(
            f"no module {error.name!r}, looked for in {os.getcwd()} and in what is installed; {example}"
        ) from error
    except Exception as error:  # the code of somebody else
        raise OptionError(f"cannot import {module}: {type(error).__name__}: {error}.") from error
