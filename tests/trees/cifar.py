"""CIFAR in small, in torchvision's files. They have sums of their own: see "train_list", "test_list" and "meta"."""

import pickle
from hashlib import md5
from pathlib import Path

import numpy as np

LAYOUTS = ("cifar10", "cifar100")


def build(layout: str, root: Path, classes: int = 3, per_class: int = 4) -> dict:
    """`per_class` training images and two test images of each class, in turn. "images" has their pixels."""
    ten = layout == "cifar10"
    folder = root / ("cifar-10-batches-py" if ten else "cifar-100-python")
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    train = np.arange(per_class * classes) % classes
    test = np.arange(2 * classes) % classes
    pixels = {
        name: generator.integers(0, 256, (len(of), 3072), dtype=np.uint8)
        for name, of in (("train", train), ("test", test))
    }
    key = "labels" if ten else "fine_labels"
    half = len(train) // 2
    parts = {"data_batch_1": slice(0, half), "data_batch_2": slice(half, None)} if ten else {"train": slice(None)}
    files = {name: {"data": pixels["train"][part], key: train[part].tolist()} for name, part in parts.items()}
    files["test_batch" if ten else "test"] = {"data": pixels["test"], key: test.tolist()}
    names = "label_names" if ten else "fine_label_names"
    files["batches.meta" if ten else "meta"] = {names: [f"thing {label}" for label in range(classes)]}
    sums = []
    for name, content in files.items():
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        sums.append([name, md5(data).hexdigest()])
    return {
        "root": root,
        "classes": classes,
        "train": len(train),
        "val": None,
        "test": len(test),
        "train_list": sums[:-2],
        "test_list": sums[-2:-1],
        "meta": {"filename": sums[-1][0], "key": names, "md5": sums[-1][1]},
        "images": {name: array.reshape(-1, 3, 32, 32) for name, array in pixels.items()},
    }
