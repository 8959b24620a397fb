"""Recipes and studies by name: those that come with this library are found from any folder.

In the wheel they lie in `gcp/recipes`, in a checkout in `configs` beside the package. `digits/resnet` means, in this
order, the user's file `digits/resnet`, the user's file `digits/resnet.yaml`, and the recipe of that name.
"""

import re
from pathlib import Path

from gcp.errors import nearest

SUFFIXES = (".yaml", ".yml")
STUDIES = "studies"
_COMMAND = re.compile(r"^# commands? ", re.M)  # only files with a command are run; others are extended by these


def folder() -> Path:
    """Where the files lie that come with this library."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "configs"


def find(given: str | Path, below: str = "") -> Path:
    """The file that a name means, `given` itself where there is none. `below`: where among ours its name begins."""
    path = Path(given)
    own = [path, *(path.with_name(path.name + suffix) for suffix in SUFFIXES if path.name)]
    parts = path.parts[1:] if path.parts[:1] == ("configs",) else path.parts
    named = not path.is_absolute() and parts and ".." not in parts
    name = Path(*parts) if path.suffix in SUFFIXES else Path(*parts[:-1], f"{parts[-1]}.yaml") if parts else path
    ours = [folder() / below / name, folder() / name] if named else []
    return next((place for place in [*own, *ours] if place.is_file()), path)


def recipes() -> dict[str, str]:
    """Name -> what it is, of every recipe that comes with this library."""
    return {name: text for name, text in _described(folder(), "**").items() if not name.startswith(f"{STUDIES}/")}


def studies() -> dict[str, str]:
    """The same of studies, for `gcp ablate --study NAME`."""
    return _described(folder() / STUDIES, ".")


def close(given: str | Path, names: dict[str, str]) -> str | None:
    """The name of ours that was probably meant."""
    stem = Path(given).with_suffix("") if Path(given).suffix in SUFFIXES else Path(given)
    by_stem = {Path(name).name: name for name in reversed(names)}
    if stem.name in by_stem:
        return nearest(str(stem), [name for name in names if Path(name).name == stem.name]) or by_stem[stem.name]
    return nearest(str(stem), names)


def _described(place: Path, where: str) -> dict[str, str]:
    found = {}
    for file in sorted(place.glob(f"{where}/*.yaml")):
        text = file.read_text(encoding="utf-8")
        if _COMMAND.search(text):
            found[str(file.relative_to(place).with_suffix(""))] = _title(text)
    return found


def _title(text: str) -> str:
    """The first sentence of the header of a file, which ends with a line."""
    lines = [line[2:] for line in text.splitlines() if line.startswith("# ") and "$schema" not in line]
    last = next((place for place, line in enumerate(lines) if line.endswith(".")), 0)
    return " ".join(lines[: last + 1])
