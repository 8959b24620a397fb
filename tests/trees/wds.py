"""WebDataset: tar files with NAME.jpg and NAME.cls, and the info file beside them."""

import io
import json
import tarfile
from pathlib import Path

from trees.pictures import picture

LAYOUTS = ("shards",)
# Shards of unequal lengths: images of each class are a whole number of `per_class` in all.
PARTS = {"train": (5, 1, 4, 2), "test": (2, 3, 1)}


def shard(path: Path, samples: list[tuple[str, dict[str, bytes]]]) -> None:
    """Write a tar file of samples, each a name and its files by extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, files in samples:
            for extension, data in files.items():
                member = tarfile.TarInfo(f"{name}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def build(layout: str, root: Path, classes: int = 3, per_class: int = 4) -> dict:
    """See `tree` in tests/conftest.py."""
    splits, numbers = {}, {}
    for split, parts in PARTS.items():
        total, names, lengths = classes * per_class, [], []
        labels = [number % classes for number in range(total)]
        cuts = [total * sum(parts[:k]) // sum(parts) for k in range(len(parts) + 1)]
        for k in range(len(parts)):
            span = range(cuts[k], cuts[k + 1])
            samples = []
            for number in span:
                image = picture(root / "one.jpg").read_bytes()
                samples.append((f"{split}{number:03d}", {"jpg": image, "cls": str(labels[number]).encode()}))
            name = f"{split}-{k:04d}.tar"
            shard(root / name, samples)
            names.append(name)
            lengths.append(len(span))
        splits[split] = {"name": split, "num_samples": total, "filenames": names, "shard_lengths": lengths}
        numbers[split] = total
    (root / "one.jpg").unlink()
    (root / "_info.json").write_text(json.dumps({"classes": [f"class {n}" for n in range(classes)], "splits": splits}))
    return {"root": root, "classes": classes, "train": numbers["train"], "val": None, "test": numbers["test"]}
