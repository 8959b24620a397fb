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

  NAME               of the data set; gcp list datasets names them; MODULE:FUNCTION is one of your own
  ROOT               its folder, or the one above; built-in sets take none

  --verify           decode every image, and look for duplicates and near duplicates
  --partial          accept counts other than the published ones, as data.partial=true does in training
  --sheet [FILE.png] one image of each class with its name; without a file NAME-classes.png in this folder
  --json FILE        everything, with the paths of all unreadable, duplicate and similar images

Reported: the layout recognised, classes, images by split beside the published counts, smallest and largest class, where
validation comes from, missing files, images that are in two splits byte for byte, and with --verify all that cannot be
decoded, duplicates within a split, and pairs that look alike (re-encoded, rotated, mirrored, a part of the other),
which are not errors but worth checking. The exit code is 0 for a valid data set and 2 for one with faults. Nothing is
written into ROOT.

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
    from gcp.data.own import import_dataset, is_own

    if is_own(name):
        import_dataset(name)
    sheet = _sheet_file(name, flags)
    target = _target("--json", flags["--json"][0]) if "--json" in flags else None
    thorough = "--verify" in flags
    found = inspect(name, _root(name, root), "--partial" in flags)
    print(head(found), flush=True)
    result: dict[str, Any] = {"shared": None, "verified": None, "sheet": None}
    if found.sizes:
        result["shared"] = _compare(found, thorough)
        result["verified"] = _verify(found) if thorough else None
        result["repeated"], result["alike"] = _same_pictures(found) if thorough and found.files else (None, None)
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
    shared = shared_files(found.paths, watch) if found.files else shared_images(sets, watch)
    if sets:  # whose validation split is a part of train, held out at random
        shared = [each for each in shared if each.second == "test"]
    print(f"  shared      {counted(len(shared), 'image')} in two splits, of {found.images:,} compared byte for byte")
    if shared:
        pairs = "".join(f"\n    {one} ({first}) = {other} ({second})" for first, one, second, other in shared[:SHOWN])
        found.faults.append(f"{counted(len(shared), 'image')} in two splits, byte for byte the same; the first:{pairs}")
    return [tuple(each) for each in shared]


def _verify(found: "Inspection") -> dict[str, Any]:
    """Decode every image."""
    from gcp.data import DATASETS
    from gcp.data.checks.verify import SMALL, verify, verify_sets

    if found.files:
        done = verify([path for files in found.paths.values() for path in files], watch=watch)
        applied = "is applied" if DATASETS[found.name].obj.as_shown else "is not applied"
        more = (
            f", {done.rotated:,} with a rotation in EXIF, which {applied} (data.exif), {done.small:,} with a side "
            f"below {SMALL} pixels"
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


def _same_pictures(found: "Inspection") -> tuple[list[tuple[str, ...]], list[tuple[str, str, float]] | None]:
    """Files that are twice in one split, which are a fault where their labels differ; and pairs of images that are
    alike, which are told for a look at them.
    """
    from gcp.data.checks.duplicates import shared_files
    from gcp.data.checks.near_duplicates import MOST, alike, by_kind

    paths = [path for files in found.paths.values() for path in files]
    splits = [split for split, files in found.paths.items() for _ in files]
    labels = [int(label) for split in found.paths for label in found.labels[split]]
    label_of = dict(zip(paths, labels, strict=True))
    copies = shared_files(found.paths, watch, within=True)
    repeated = [each for each in copies if each.first == each.second]
    conflicting = [each for each in repeated if label_of[each.one] != label_of[each.other]]
    rest = len(repeated) - len(conflicting)
    print(
        f"  repeated    {counted(len(conflicting), 'image')} of one split in two classes, {rest:,} twice in one class"
    )
    if conflicting:
        names = [(found.classes[label_of[each.one]], found.classes[label_of[each.other]]) for each in conflicting]
        lines = "".join(
            f"\n    {each.one} ({one}) = {each.other} ({other})"
            for each, (one, other) in zip(conflicting[:SHOWN], names, strict=False)
        )
        found.faults.append(
            f"{counted(len(conflicting), 'image')} in two classes of one split, byte for byte; the first:{lines}"
        )
    told = [tuple(each) for each in repeated]
    if len(paths) > MOST:
        print(f"  alike       not looked for among {counted(len(paths), 'image')}; at most {MOST:,} are compared")
        return told, None
    same = {frozenset((each.one, each.other)) for each in copies}
    pairs = [pair for pair in alike(paths, watch) if frozenset((paths[pair.first], paths[pair.second])) not in same]
    kinds = by_kind(pairs, splits, labels)
    counts = ", ".join(f"{counted(len(some), 'pair')} {kind}" for kind, some in kinds.items())
    print(f"  alike       {counts}")
    for kind in ("in two splits", "in two classes"):
        for pair in kinds[kind][:SHOWN]:
            print(f"    {paths[pair.first]} ~ {paths[pair.second]} ({pair.product:.2f}, {kind})")
    return told, [(paths[pair.first], paths[pair.second], round(pair.product, 4)) for pair in pairs]


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
