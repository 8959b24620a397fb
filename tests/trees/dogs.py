"""Stanford Dogs, with the lists in three places."""

from pathlib import Path

import numpy as np
from scipy.io import savemat
from trees.pictures import picture

LAYOUTS = ("archives", "lists", "kaggle", "parent")
BREEDS = ("n02085620-Chihuahua", "n02089867-Walker_hound", "n02105412-kelpie")


def build(layout: str, root: Path, classes: int = 3, per_class: int = 4) -> dict:
    """`per_class` training images and two test images of each breed."""
    breeds = [*BREEDS, *(f"n0300000{label}-Breed_{label}" for label in range(len(BREEDS), classes))][:classes]
    place = root / "dogs" if layout == "parent" else root
    images = place / ("images/Images" if layout == "kaggle" else "Images")
    lists = place / ("lists" if layout == "lists" else "")
    splits: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for label, breed in enumerate(breeds):
        for number in range(per_class + 2):
            file = f"{breed}/{breed.partition('-')[0]}_{number}.jpg"
            picture(images / file)
            splits["train" if number < per_class else "test"].append((file, label + 1))
    for split, pairs in splits.items():
        save(lists / f"{split}_list.mat", pairs)
    return {"root": root, "classes": classes, "train": per_class * classes, "val": None, "test": 2 * classes}


def save(path: Path, pairs: list[tuple[str, int]]) -> None:
    """`file_list` a cell array (N, 1) of strings, `labels` (N, 1) float64, as published."""
    path.parent.mkdir(exist_ok=True)
    files = np.array([[file] for file, _ in pairs], dtype=object)
    annotations = np.array([[file[:-4]] for file, _ in pairs], dtype=object)
    labels = np.array([[label] for _, label in pairs], dtype=float)
    savemat(path, {"file_list": files, "annotation_list": annotations, "labels": labels}, do_compression=True)
