"""ImageNet-1k in small. The devkit numbers the classes against the order of their ids, as the real one does."""

from pathlib import Path

from trees.pictures import picture

LAYOUTS = ("folders", "kaggle", "devkit", "devkit_beside", "solution", "synsets", "numbers", "caffe")


def build(layout: str, root: Path, classes: int = 3, per_class: int = 4) -> dict:
    """Two images of each class in val. "label_of" in the answer has the label of each image of a flat val."""
    wnids = [f"n{1440764 + 1000 * label:08d}" for label in range(classes)]
    place = root / "ILSVRC" / "Data" / "CLS-LOC" if layout == "kaggle" else root
    for wnid in wnids:
        for number in range(per_class):
            picture(place / "train" / wnid / f"{wnid}_{number}.JPEG")
    made = {"root": root, "classes": classes, "train": per_class * classes, "val": None, "test": 2 * classes}
    if layout == "folders":
        for wnid in wnids:
            for number in range(2):
                picture(place / "val" / wnid / f"ILSVRC2012_val_{number + 1:08d}.JPEG")
        return made | {"wnids": wnids}

    labels = [(7 * number + 2) % classes for number in range(2 * classes)]
    names = [f"ILSVRC2012_val_{number + 1:08d}" for number in range(2 * classes)]
    for name in names:
        picture(place / "val" / f"{name}.JPEG")
    _write_labels(layout, root, place, names, labels, wnids)
    return made | {
        "wnids": wnids,
        "label_of": {f"{name}.JPEG": label for name, label in zip(names, labels, strict=True)},
    }


def _write_labels(layout: str, root: Path, place: Path, names: list, labels: list, wnids: list) -> None:
    if layout in ("kaggle", "solution"):
        rows = [
            f"{name},{wnids[label]} 1 2 30 40 {wnids[label]} 5 6 7 8 "
            for name, label in zip(names, labels, strict=True)
        ]
        (root / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows[::-1]]))
    elif layout in ("devkit", "devkit_beside"):
        devkit = root / ("ILSVRC2012_devkit_t12/data" if layout == "devkit" else "val")
        devkit.mkdir(parents=True, exist_ok=True)
        write_meta(devkit / "meta.mat", wnids)
        lines = [str(len(wnids) - label) for label in labels]
        (devkit / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(lines) + "\n")
    elif layout == "synsets":
        (place / "imagenet_2012_validation_synset_labels.txt").write_text("\n".join(wnids[label] for label in labels))
    elif layout == "numbers":
        (place / "val_labels.txt").write_text("\n".join(map(str, labels)))
    else:
        (place / "val.txt").write_text("".join(f"{n}.JPEG {label}\r\n" for n, label in zip(names, labels, strict=True)))


def write_meta(path: Path, wnids: list) -> None:
    """The devkit's table: number 1 is the last of the ids; behind the classes are inner nodes of WordNet."""
    import numpy as np
    from scipy.io import savemat

    nodes = [*wnids[::-1], "n00001740"]
    table = np.zeros(
        (len(nodes), 1), dtype=[(name, object) for name in ("ILSVRC2012_ID", "WNID", "words", "num_children")]
    )
    for index, wnid in enumerate(nodes):
        table[index, 0] = (np.array([[index + 1]], dtype=np.uint16), wnid, f"word {index}", np.array([[0]]))
    savemat(path, {"synsets": table})
