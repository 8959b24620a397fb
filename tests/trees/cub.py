"""CUB-200-2011, as its archive unpacks it and as folders by class."""

from pathlib import Path

from trees.pictures import picture

LAYOUTS = ("annotations", "nested", "train_val", "train_test")


def build(layout: str, root: Path, classes: int = 3, per_class: int = 4) -> dict:
    """`per_class` training images and two test images of each class, which take turns in the lists."""
    names = [f"{label + 1:03d}.Bird_{label}" for label in range(classes)]
    counts = {"root": root, "classes": classes, "train": per_class * classes, "val": None, "test": 2 * classes}
    if layout in ("train_val", "train_test"):
        for split, count in zip(layout.split("_"), (per_class, 2), strict=True):
            for name in names:
                for number in range(count):
                    picture(root / split / name / f"{number}.jpg")
        return counts

    place = root / "CUB_200_2011" if layout == "nested" else root
    images = []
    for label, name in enumerate(names):
        for number in range(per_class + 2):
            path = f"{name}/Bird_{label}_{number:04d}.jpg"
            picture(place / "images" / path)
            # The first and the third image of a class are test images.
            images.append((path, label + 1, int(number not in (0, 2))))
    lines = list(enumerate(images, 1))
    texts = {
        "images.txt": [f"{number} {path}" for number, (path, _, _) in lines],
        "image_class_labels.txt": [f"{number} {label}" for number, (_, label, _) in lines],
        "train_test_split.txt": [f"{number} {train}" for number, (_, _, train) in lines],
        "classes.txt": [f"{label} {name}" for label, name in enumerate(names, 1)],
    }
    for file, text in texts.items():
        (place / file).write_text("\n".join(text) + "\n")
    return counts
