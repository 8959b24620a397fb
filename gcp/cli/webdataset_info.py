"""`gcp webdataset-info FOLDER SPLIT=PATTERN ... [--field NAME] [--classes FILE]`."""

from collections.abc import Sequence
from pathlib import Path

from gcp.cli.arguments import parse
from gcp.command import as_typed
from gcp.errors import DataError, GCPError

FLAGS = {"--field": (1, 1), "--classes": (1, 1), "--help": (0, 0)}

USAGE = """\
Write _info.json, which tells the shards of a WebDataset, their lengths and the classes. Every shard is read once.

  gcp webdataset-info FOLDER train='train-*.tar' test='test-*.tar' [flags]

  SPLIT=PATTERN      the shards of a split, below FOLDER; the splits train, test, validation are used in training
  --field NAME       the label is this field of the json file of a sample, not its .cls file
  --classes FILE     names of the classes, one per line in the order of their numbers; else the numbers are the names
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    arguments = parse(argv[1:] if argv and not argv[0].startswith("-") else argv, FLAGS)
    if "--help" in arguments.flags or not argv:
        print(as_typed(USAGE))
        return 0
    folder = Path(argv[0]).expanduser().absolute()
    patterns = dict(word.split("=", 1) for word in arguments.overrides)
    if not folder.is_dir() or not patterns:
        raise GCPError(f"needed are a folder, and SPLIT=PATTERN at least once; got {' '.join(argv)}. See --help.")
    names = _names(arguments.value("--classes"))
    write_info(folder, patterns, arguments.value("--field") or "", names)
    return 0


def write_info(folder: Path, patterns: dict[str, str], field: str, names: Sequence[str] | None) -> None:
    """Read the shards of each split, and write the info file. `names`: of the classes, None for numbers.

    Raises DataError where nothing matches, a shard cannot be read, or a label has no name.
    """
    from gcp.data.sets.wds import INFO, TarReader, check_names
    from gcp.data.stream import Shard
    from gcp.engine.folder import write_json

    splits, most = {}, -1
    for split, pattern in patterns.items():
        shards = sorted(str(path.relative_to(folder)) for path in folder.glob(pattern))
        if not shards:
            raise DataError(f"no file in {folder} matches {pattern!r}, the shards of {split!r}.")
        labels = [[sample.label for sample in TarReader(str(folder), field)(Shard(shard, 0))] for shard in shards]
        if empty := [shard for shard, found in zip(shards, labels, strict=True) if not found]:
            raise DataError(f"{folder / empty[0]} holds no image.")
        most = max(most, *(max(found) for found in labels))
        lengths = [len(found) for found in labels]
        splits[split] = {
            "name": split,
            "num_samples": sum(lengths),
            "filenames": shards,
            "shard_lengths": lengths,
        }
        print(f"{split:<12}{sum(lengths)} images in {len(shards)} shards")
    if names is not None and most >= len(names):
        raise DataError(f"there are labels up to {most}, but the file of classes has {len(names)} lines.")
    check_names("the file of classes", names or ())
    classes = list(names) if names is not None else [str(label) for label in range(most + 1)]
    write_json(folder / INFO, {"classes": classes, "splits": splits})
    print(f"{'classes':<12}{len(classes)}\nwritten     {folder / INFO}")


def _names(file: str | None) -> list[str] | None:
    if file is None:
        return None
    try:
        return Path(file).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise GCPError(f"cannot read the names of the classes in {file}: {error}") from error
