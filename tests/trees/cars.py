"""Stanford Cars in its four layouts; the .mat files have the fields, shapes and types of the published ones."""

from pathlib import Path

import numpy as np
from scipy.io import savemat
from trees.pictures import picture

LAYOUTS = ("torchvision", "devkit_labels", "car_ims", "kaggle", "folders")
NAMES = ("AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012", "smart fortwo Convertible 2012")
BOX = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
LABELLED = "cars_test_annos_withlabels.mat"


def build(layout: str, root: Path, classes: int = 3, per_class: int = 4) -> dict:
    """`per_class` training images and two test images of each class; files are not in the order of the classes."""
    names = [*NAMES, *(f"Car {label} Coupe 2012" for label in range(len(NAMES), classes))][:classes]
    counts = {"root": root, "classes": classes, "train": per_class * classes, "val": None, "test": 2 * classes}
    order = {"train": list(range(classes)) * per_class, "test": list(range(classes)) * 2}
    if layout == "folders":
        for split, labels in order.items():
            for number, label in enumerate(labels):
                picture(root / split / names[label].replace("/", "-") / f"{number:05d}.jpg")
    elif layout == "car_ims":
        # Both splits in one list, in turns.
        rows = [(label, split) for split, labels in order.items() for label in labels][::-1]
        files = [f"car_ims/{number:06d}.jpg" for number in range(1, len(rows) + 1)]
        for file in files:
            picture(root / file)
        records = [
            (file, 1, 1, 9, 9, label + 1, int(split == "test"))
            for file, (label, split) in zip(files, rows, strict=True)
        ]
        save(root / "cars_annos.mat", records, ("relative_im_path", *BOX, "class", "test"), names)
    else:
        _devkit(layout, root, order, names)
        counts["root"] = root if layout == "torchvision" else root / "stanford_cars"
    return counts


def _devkit(layout: str, root: Path, order: dict[str, list[int]], names: list[str]) -> None:
    """A list for each split. Only "torchvision" has the labels of the test images outside the devkit."""
    place = root / "stanford_cars"
    devkit = place / ("car_devkit/devkit" if layout == "kaggle" else "devkit")
    devkit.mkdir(parents=True)
    labelled = {"torchvision": place / LABELLED, "devkit_labels": devkit / LABELLED}
    targets = {
        "train": devkit / "cars_train_annos.mat",
        "test": labelled.get(layout, place / "cars_test_annos_withlabels (1).mat"),
    }
    for split, labels in order.items():
        images = place / f"cars_{split}" / (f"cars_{split}" if layout == "kaggle" else "")
        files = [f"{number:05d}.jpg" for number in range(1, len(labels) + 1)]
        for file in files:
            picture(images / file)
        records = [(1, 1, 9, 9, label + 1, file) for file, label in zip(files, labels, strict=True)]
        save(targets[split], records, (*BOX, "class", "fname"))
    save(devkit / "cars_test_annos.mat", [row[:4] + row[5:] for row in records], (*BOX, "fname"))
    savemat(devkit / "cars_meta.mat", {"class_names": np.array(names, dtype=object)})


def save(path: Path, records: list[tuple], fields: tuple[str, ...], names: list[str] | None = None) -> None:
    """A struct array (1, N) of `fields`, with numbers as uint8, and the cell array of names where it belongs there."""
    rows = [tuple(np.uint8(value) if isinstance(value, int) else value for value in record) for record in records]
    content = {"annotations": np.array([rows], dtype=[(field, object) for field in fields])[0]}
    if names is not None:
        content["class_names"] = np.array(names, dtype=object)
    savemat(path, content, do_compression=True)
