"""A folder in the format of the Hugging Face package: one parquet file for each split, images inside."""

from pathlib import Path

from trees.pictures import picture

LAYOUTS = ("parquet",)


def build(layout: str, root: Path, classes: int = 3, per_class: int = 4, **splits: list[int]) -> dict:
    """See `tree` in tests/conftest.py. `splits`: the labels of each, in place of train and test."""
    import datasets

    names = [f"class {number}" for number in range(classes)]
    every = [number % classes for number in range(classes * per_class)]
    features = datasets.Features(
        {
            "img": datasets.Image(),
            "fine": datasets.ClassLabel(names=names),
            "coarse": datasets.ClassLabel(names=["all"]),
        }
    )
    splits = splits or {"train": every, "test": every}
    (root / "data").mkdir()
    for split, labels in splits.items():
        files = [picture(root / "one.jpg").read_bytes() for _ in labels]
        rows = {
            "img": [{"bytes": data, "path": None} for data in files],
            "fine": labels,
            "coarse": [0] * len(labels),
        }
        made = datasets.Dataset.from_dict(rows, features=features)
        made.to_parquet(str(root / "data" / f"{split}-00000-of-00001.parquet"))
    (root / "one.jpg").unlink()
    count = {name: len(splits[name]) if name in splits else None for name in ("train", "val", "test")}
    return {"root": root, "classes": classes, **count}
