"""Which singular values of a pretrained backbone are negligible: cut at several thresholds, the accuracy left.

    python scripts/real/textures.py --out data/textures
    python scripts/real/weights.py --out weights
    python scripts/real/thresholds.py --data data/textures --weights weights/tf_efficientnet_lite0.pt

For each threshold the widths of the pretrained backbone are cut once as `evolve.shrink_below` would cut them, by the
singular values of the activations on some training images, and what reads them is fitted anew on the same images. No
other weight is trained: a classifier on the averaged features, ridge regression, is fitted to the training images each
time, its ridge chosen on the validation images. So what is lost was lost by the cut. The threshold to take is the one
that leaves fewest parameters among those whose validation accuracy is within `--tolerance` points of the whole
backbone; the test images choose nothing.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
from material import positive
from torch import Tensor, nn
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import gcp
from gcp.cli.main import run
from gcp.errors import DataError
from gcp.evolve import shrink, trace
from gcp.evolve.policy.budget import Bounds
from gcp.evolve.policy.policies import activation_values, by_spectrum, chosen

SPLITS = ("train", "val", "test")
RIDGES = tuple(10.0**power for power in range(-5, 3))  # of the mean eigenvalue
BATCH = 48


def read(folder: Path, size: int) -> tuple[Tensor, Tensor]:
    """Images (n, 3, size, size) from -1 to 1, as this backbone takes them, and their classes (n,)."""
    ready = v2.Compose([v2.ToImage(), v2.Resize((size, size)), v2.ToDtype(torch.float32, scale=True)])
    pairs = [(ready(image), label) for image, label in ImageFolder(str(folder))]
    return torch.stack([image for image, _ in pairs]) * 2 - 1, torch.tensor([label for _, label in pairs])


@torch.no_grad()
def averages(model: nn.Module, images: Tensor) -> Tensor:
    """(n, channels) of the last map, float64."""
    maps = [model.features(batch) for batch in images.split(BATCH)]  # type: ignore[operator]
    return torch.cat([each.mean((2, 3)) for each in maps]).double()


def accuracies(features: dict[str, Tensor], labels: dict[str, Tensor]) -> tuple[float, float]:
    """Percent right of the validation and of the test images, with the ridge that is best on validation."""
    X, target = features["train"], nn.functional.one_hot(labels["train"]).double()
    mean, offset, spread = X.mean(0), target.mean(0), X.std(0).clamp(min=1e-6)
    whole = {name: (features[name] - mean) / spread for name in SPLITS}
    gram = whole["train"].mT @ whole["train"]
    found = []
    for ridge in RIDGES:
        damped = gram + ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        W = torch.linalg.solve(damped, whole["train"].mT @ (target - offset))
        guessed = {name: (whole[name] @ W + offset).argmax(1) for name in ("val", "test")}
        found.append([100 * float((each == labels[name]).double().mean()) for name, each in guessed.items()])
    best = max(found, key=lambda pair: pair[0])
    return best[0], best[1]


def main(argv: Sequence[str]) -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="with train, val and test/CLASS")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="of the backbone")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", metavar="NAME", help="(tf_efficientnet_lite0)")
    parser.add_argument("--stage", default="blocks.4", metavar="NAME", help="the last one that is kept (blocks.4)")
    parser.add_argument("--size", type=positive, default=112, metavar="PIXELS", help="(112)")
    text = "training images that widths are cut and fitted on (128)"
    parser.add_argument("--images", type=positive, default=128, metavar="N", help=text)
    thresholds = (0.01, 0.02, 0.03, 0.05, 0.1)
    text = f"({' '.join(map(str, thresholds))})"
    parser.add_argument("--thresholds", type=float, nargs="+", default=thresholds, metavar="PART", help=text)
    text = "points of validation accuracy that may be lost (1)"
    parser.add_argument("--tolerance", type=float, default=1.0, metavar="POINTS", help=text)
    parser.add_argument("--out", type=Path, default=Path("thresholds.csv"), metavar="FILE", help="(thresholds.csv)")
    arguments = parser.parse_args(argv)
    if missing := [name for name in SPLITS if not (arguments.data / name).is_dir()]:
        folder = arguments.data / missing[0]
        raise DataError(f"no folder {folder}: make the images by python scripts/real/textures.py --out FOLDER")
    sets = {name: read(arguments.data / name, arguments.size) for name in SPLITS}
    images, labels = ({name: pair[part] for name, pair in sets.items()} for part in (0, 1))
    options = {"pretrained": str(arguments.weights), "num_classes": int(labels["train"].max()) + 1}
    whole = gcp.create_model(arguments.backbone, head="average", stage=arguments.stage, dim=None, **options).eval()
    some = torch.randperm(len(images["train"]), generator=torch.Generator().manual_seed(0))[: arguments.images]
    fit = images["train"][some]
    dimensions = chosen(whole, trace(whole, fit[:1]), ["features"])
    values = activation_values(whole, dimensions, fit.split(BATCH))
    rows = []
    for threshold in (0.0, *sorted(arguments.thresholds)):
        model = deepcopy(whole)
        decisions = by_spectrum(values, dimensions, Bounds(least=4, factor=1e9), threshold, 1.0)
        if decisions:
            shrink(model, {each.dimension: each.after for each in decisions}, images=fit)
        val, test = accuracies({name: averages(model, images[name]) for name in SPLITS}, labels)
        row = {
            "shrink_below": threshold,
            "parameters": sum(p.numel() for p in model.features.parameters()),  # type: ignore[union-attr]
            "widths": sum(dimension.width for dimension in trace(model, fit[:1]).values() if dimension.editable),
            "val_top1": round(val, 2),
            "test_top1": round(test, 2),
        }
        rows.append(row)
        print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)
        with open(arguments.out, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerows(rows)
    kept = [row for row in rows if row["val_top1"] >= rows[0]["val_top1"] - arguments.tolerance]
    best = min(kept, key=lambda row: row["parameters"])
    print(f"within {arguments.tolerance:g} points on validation: shrink_below={best['shrink_below']:g}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
