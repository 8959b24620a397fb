"""Images in folders."""

from pathlib import Path

from trees.pictures import picture

LAYOUTS = ("train_val_test", "train_test", "train_val")


def build(layout: str, root: Path, classes: int = 3, per_class: int = 4) -> dict:
    splits = {"train": per_class, "val": 2, "test": 3}
    splits = {name: count for name, count in splits.items() if name in layout.split("_")}
    for split, count in splits.items():
        for label in range(classes):
            for number in range(count):
                picture(root / split / f"class {label}" / f"{number}.jpg")
    tested = splits.get("test") or splits["val"]
    return {
        "root": root,
        "classes": classes,
        "train": per_class * classes,
        "val": splits["val"] * classes if len(splits) == 3 else None,
        "test": tested * classes,
    }
