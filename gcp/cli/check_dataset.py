"""`gcp check NAME [ROOT] [--verify] [--sheet [FILE.png]] [--json FILE]`."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gcp.cli.arguments import parse
from gcp.command import as_typed
from gcp.errors import GCPError, OptionError, counted

if TYPE_CHECKING:
    from gcp.data.checks.inspection import Inspection

T = TypeVar("T")
FLAGS = {"--verify": (0, 0), "--partial": (0, 0), "--sheet": (0, 1), "--json": (1, 1)}
# Comparing the contents of more files than this takes minutes.
MANY = 200_000
SHOWN = 10
TYPE = "type gcp check NAME ROOT [flags]; see --help."

USAGE = """\
What a data set on this machine holds, and what is wrong with it.

  gcp check NAME [ROOT] [flags]

  NAME               of the data set; gcp list datasets names them
  ROOT               its folder, or the one above; built-in sets take none

  --verify           decode every image
  --partial          accept other counts than the published ones, as data.partial=true does in training
  --sheet [FILE.png] one image of each class with its name; without a file NAME-classes.png in this folder
  --json FILE        everything, with the paths of all images that are unreadable or in two splits

Reported: the layout recognised, classes, images by split beside the published counts, smallest and largest class, where
validation comes from, missing files, images that are in two splits byte for byte, and with --verify all that cannot be
decoded. The exit code is 0 for a sound data set and 2 for one with faults. Nothing is written into ROOT.

Example:
  gcp check cars /data/stanford_cars --verify --sheet
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; what stops it from checking is raised as GCPError."""
    if not argv or {"-h", "--help"} & set(argv):
        print(as_typed(USAGE))
        return 0
    count = next((number for number, word in enumerate(argv) if word.startswith("-")), len(argv))
    words = argv[:count]
    if not words:
        raise GCPError(f"the data set comes first: {TYPE}")
    arguments = parse(argv[count:], FLAGS)
    stray = [*words[2:], *arguments.overrides]
    if stray:
        raise GCPError(f"unexpected {stray[0]!r}: {TYPE}")
    _tolerate(sys.stdout)
    return _check(words[0], words[1] if len(words) > 1 else None, arguments.flags)


def _tolerate(stream: Any) -> None:
    """Show letters that the terminal does not know, and bytes that are no letters in names of files, as escapes."""
    stream.reconfigure(errors="backslashreplace")


def _check(name: str, root: str | None, flags: dict[str, list[str]]) -> int:
    from gcp.data.checks.inspection import head, inspect, tail

    sheet = _sheet_file(name, flags)
    target = _target("--json", flags["--json"][0]) if "--json" in flags else None
    thorough = "--verify" in flags
    found = inspect(name, _root(name, root), "--partial" in flags)
    print(head(found), flush=True)
    result: dict[str, Any] = {"shared": None, "verified": None, "sheet": None}
    if found.sizes:
        result["shared"] = _compare(found, thorough)
        result["verified"] = _verify(found) if thorough else None
        result["sheet"] = _draw(found, sheet) if sheet else None
    print(tail(found, thorough), flush=True)
    if target:
        from gcp.engine.folder import write_json

        write_json(target, {**found.as_json(), **result, "faults": found.faults})
    return 2 if found.faults else 0


def _root(name: str, root: str | None) -> str | None:
    """Raise OptionError where a data set on disk has no folder, or a built-in one has."""
    from gcp.data import DATASETS

    needs = DATASETS[name].obj.needs_root
    if needs and root is None:
        raise OptionError(f"data set {name!r} lies on disk; type its folder: gcp check {name} FOLDER")
    if needs is False and root is not None:
        raise OptionError(f"data set {name!r} is built in and takes no folder; type gcp check {name}")
    return root


def _compare(found: "Inspection", thorough: bool) -> list[tuple[str, ...]] | None:
    """Images in two splits, or None where they were not compared."""
    from gcp.data import StreamSet
    from gcp.data.checks.duplicates import shared_files, shared_images

    sets = {name: images for name, images in found.sets.items() if not isinstance(images, StreamSet)}
    if len(sets) != len(found.sets):
        print("  shared      not looked for: a stream has to be read for that")
        return None
    if not thorough and (found.images > MANY or (sets and not found.in_memory)):
        print(f"  shared      not looked for among {counted(found.images, 'image')}; --verify compares their contents")
        return None
    twins = shared_files(found.paths, watch) if found.files else shared_images(sets, watch)
    if sets:  # whose validation split is a part of train, held out at random
        twins = [twin for twin in twins if twin.second == "test"]
    print(f"  shared      {counted(len(twins), 'image')} in two splits, of {found.images:,} compared byte for byte")
    if twins:
        pairs = "".join(f"\n    {one} ({first}) = {other} ({second})" for first, one, second, other in twins[:SHOWN])
        found.faults.append(f"{counted(len(twins), 'image')} in two splits, byte for byte the same; the first:{pairs}")
    return [tuple(twin) for twin in twins]


def _verify(found: "Inspection") -> dict[str, Any]:
    """Decode every image."""
    from gcp.data.checks.verify import SMALL, verify, verify_sets

    if found.files:
        done = verify([path for files in found.paths.values() for path in files], watch=watch)
        more = (
            f", {done.rotated:,} with a rotation in EXIF, which is not applied, {done.small:,} with a side below "
            f"{SMALL} pixels"
        )
    else:
        done, more = verify_sets(found.sets, watch), ""
    print(f"  decoded     {counted(done.images, 'image')}: {len(done.unreadable):,} unreadable{more}")
    if done.unreadable:
        lines = "".join(f"\n    {path}: {reason}" for path, reason in done.unreadable[:SHOWN])
        found.faults.append(f"{counted(len(done.unreadable), 'image')} cannot be decoded; the first:{lines}")
    return {
        "images": done.images,
        "unreadable": [{"path": path, "reason": reason} for path, reason in done.unreadable],
        "rotated": done.rotated,
        "small": done.small,
    }


def _draw(found: "Inspection", path: str) -> str | None:
    if "train" not in found.labels:
        print("  sheet       not drawn: a stream has to be read for that")
        return None
    from gcp.evaluation.contact_sheet import draw_sheet

    names = found.classes
    width, height = draw_sheet(watch(found.examples(), len(names), "contact sheet"), names, path)
    print(f"  sheet       {path} ({counted(len(names), 'class')}, {width} x {height} pixels)")
    return path


def _sheet_file(name: str, flags: dict[str, list[str]]) -> str | None:
    if "--sheet" not in flags:
        return None
    path = next(iter(flags["--sheet"]), f"{name.replace('/', '-')}-classes.png")
    if not path.lower().endswith(".png"):
        raise OptionError(f"--sheet is {path!r}; allowed: a file that ends in .png.")
    return _target("--sheet", path)


def _target(flag: str, path: str) -> str:
    """Refuse a file that cannot be written before minutes are spent on what should go into it."""
    if Path(path).is_dir() or not Path(path).resolve().parent.is_dir():
        raise OptionError(f"{flag} {path}: not a file in a folder that exists.")
    return path


def watch(items: Iterable[T], total: int, text: str) -> Iterable[T]:
    """A progress bar on a terminal, nothing elsewhere."""
    from tqdm import tqdm

    return tqdm(items, desc=text, total=total, leave=False, disable=None)
