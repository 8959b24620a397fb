"""Oxford Flowers, pointed at directly or from above."""

from pathlib import Path

import numpy as np
from scipy.io import savemat
from trees.pictures import picture

LAYOUTS = ("flowers", "parent")


def build(layout: str, root: Path, classes: int = 3, per_class: int = 4) -> dict:
    """`per_class` training images, one validation image and two test images of each species."""
    place = root / "flowers-102"
    place.mkdir()
    labels, ids = [], {"trnid": [], "valid": [], "tstid": []}
    for label in range(1, classes + 1):
        for number in range(per_class + 3):
            labels.append(label)
            picture(place / "jpg" / f"image_{len(labels):05d}.jpg")
            ids["trnid" if number < per_class else "valid" if number == per_class else "tstid"].append(len(labels))
    savemat(place / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    # The published numbers are not sorted.
    savemat(place / "setid.mat", {name: np.array([numbers[::-1]], dtype=np.uint16) for name, numbers in ids.items()})
    counts = {"train": per_class * classes, "val": classes, "test": 2 * classes}
    return {"root": root if layout == "parent" else place, "classes": classes, **counts}
