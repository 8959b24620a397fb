"""The names that a pickle would import, read off its instructions without executing any of them."""

import pickletools
from collections.abc import Iterator
from typing import IO, Any

# What torch itself writes around tensors and plain Python, and what rebuilds them.
PLAIN = ("torch._utils.", "torch.storage.", "torch.nn.parameter.", "torch._tensor.", "collections.OrderedDict")
TYPES = ("torch.Size", "torch.device", "torch.dtype", "torch.serialization._get_layout", "_codecs.encode")


def imports(file: IO[bytes], pickles: int = 1) -> list[str]:
    """Dotted names, in their order, that the next `pickles` pickles of the file ask for, torch's own left out."""
    names: dict[str, None] = {}
    try:
        for _ in range(pickles):
            for name in _globals(file):
                names[name] = None
    except (ValueError, EOFError, IndexError, KeyError, MemoryError, OverflowError):  # no further whole pickle
        pass
    return [name for name in names if not _plain(name)]


def _plain(name: str) -> bool:
    storage = name.startswith("torch.") and name.count(".") == 1 and name.endswith("Storage")
    return storage or name.startswith(PLAIN) or name in TYPES


def _globals(file: IO[bytes]) -> Iterator[str]:
    strings: list[str] = []  # pushed so far; the newest two name what STACK_GLOBAL asks for
    memo: dict[int, str] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode.name == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif opcode.name == "MEMOIZE":
            memo[len(memo)] = strings[-1] if strings else ""
        elif opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument)] = strings[-1] if strings else ""
        elif opcode.name in ("GET", "BINGET", "LONG_BINGET"):
            strings.append(memo.get(int(argument), ""))
        elif isinstance(argument, str):
            strings.append(argument)
