"""NABirds, as its archive unpacks it: image ids with dashes, file names without, a tree of classes."""

from pathlib import Path
from uuid import UUID

from trees.pictures import picture

LAYOUTS = ("annotations", "nested", "no_dashes")


def build(layout: str, root: Path, classes: int = 3, per_class: int = 4) -> dict:
    """`per_class` training images and two test images of each class. The classes with images are 295, 302, ..."""
    place = root / "nabirds" if layout == "nested" else root
    ids = [295 + 7 * label for label in range(classes)]
    names = ["0 Birds", "1 Ducks, Geese, and Swans"]
    names += [f"{number} Bird {number} (Adult male)" for number in ids]
    images, labels, split = [], [], []
    for label in ids:
        for number in range(per_class + 2):
            name = UUID(int=label << 64 | number)
            image = name.hex if layout == "no_dashes" else str(name)
            path = f"{label:04d}/{name.hex}.jpg"
            picture(place / "images" / path)
            images.append(f"{image} {path}")
            labels.append(f"{image} {label}")
            split.append(f"{image} {int(number >= 2)}")
    texts = {
        "images.txt": images,
        "image_class_labels.txt": labels[::-1],  # the files need not have one order
        "train_test_split.txt": split,
        "classes.txt": names,
        "hierarchy.txt": ["1 0", *(f"{number} 1" for number in ids)],
    }
    for file, text in texts.items():
        (place / file).write_text("\n".join(text) + "\n")
    return {"root": root, "classes": classes, "train": per_class * classes, "val": None, "test": 2 * classes}
