"""Glow on pieces of photographs with each form of its 1x1 convolutions and several seeds, and how the forms compare.

    python scripts/real/photographs.py --out data/photographs --pieces 16
    python scripts/real/flow_forms.py --data data/photographs --out runs/photographs --tables tables

Runs that have ended are not repeated, and one that was stopped is continued, so that several calls with other --seeds
may share the work. Into --tables go `runs.csv`, a row a run; `bits.csv`, the bits per dimension of each test image in
each run; `pairs.csv`, the difference of each form to `plain`: of an image the mean over the seeds, of a photograph the
mean over its images, which are not independent. `error_images` and `error_photographs` are the standard errors of its
mean by either, `deviation_seeds` the standard deviation of the mean difference of a seed.
"""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from material import positive

from gcp.cli import train_glow
from gcp.cli.main import run
from gcp.engine.distributed import ALONE
from gcp.errors import DataError
from gcp.evaluation.files import write_csv
from gcp.runs.flow.trained import open_model

FORMS = ("plain", "plu", "svd")
REFERENCE = FORMS[0]
CONFIG = Path(__file__).parents[2] / "configs/glow/photographs.yaml"


def train(form: str, seed: int, data: Path, out: Path, more: Sequence[str]) -> Path:
    """The folder of a finished run."""
    folder = out / f"{form}-{seed}"
    if not (folder / "result.json").is_file():
        words = [f"flow.form={form}", f"run.seed={seed}", f"data.root={data}", *more]
        names = [f"run.dir={out}", f"run.name={folder.name}", "resume=auto"]
        train_glow.main(["--config", str(CONFIG), *words, *names])
    return folder


def image_bits(folder: Path) -> dict[str, float]:
    """Bits per dimension of each test image, by the name of its file; kept beside the run."""
    kept = folder / "test_bits.json"
    if not kept.is_file():
        trained = open_model(str(folder), [], ALONE)
        images = trained.splits().images("test")
        paths = [Path(path).stem for path in images.paths or []]
        kept.write_text(json.dumps(dict(zip(paths, trained.bits(images, ALONE).tolist(), strict=True))))
    found: dict[str, float] = json.loads(kept.read_text())
    return found


def row_of(form: str, seed: int, folder: Path) -> dict[str, Any]:
    """What runs.csv says of a run: scores of the weights best on validation, and the checks of the trained flow."""
    result = json.loads((folder / "result.json").read_text())
    with (folder / "metrics.csv").open() as file:
        epochs = list(csv.DictReader(file))
    inversion, best = result["inversion"], result["test"]["best"]
    return {
        "form": form,
        "seed": seed,
        "epochs": len(epochs),
        "val_bits": min(float(epoch["val_bits"]) for epoch in epochs),
        "test_bits": best["loss"],
        "error_images": best["error"],
        "inverse_largest": f"{inversion['largest']:.1e}",
        "inverse_mean": f"{inversion['mean']:.1e}",
        "log_det_largest": f"{result['determinant']['largest']:.1e}",
    }


def standard_error(values: np.ndarray) -> float:
    """Of the mean of independent values (N,)."""
    return float(values.std(ddof=1) / len(values) ** 0.5)


def compare(bits: dict[tuple[str, int], np.ndarray], photographs: np.ndarray) -> list[dict[str, Any]]:
    """The rows of pairs.csv.

    Args:
        bits: (N,) by form and seed, the same images in each.
        photographs: (N,), which each image is a piece of.
    """
    rows = []
    seeds = sorted({seed for _, seed in bits})
    for form in dict.fromkeys(form for form, _ in bits):
        if form == REFERENCE:
            continue
        differences = np.stack([bits[form, seed] - bits[REFERENCE, seed] for seed in seeds])
        images = differences.mean(0)
        groups = np.array([images[photographs == number].mean() for number in np.unique(photographs)])
        rows.append(
            {
                "form": form,
                "against": REFERENCE,
                "difference": images.mean(),
                "error_images": standard_error(images),
                "error_photographs": standard_error(groups),
                "deviation_seeds": differences.mean(1).std(ddof=1) if len(seeds) > 1 else "",
                "images": len(images),
                "photographs": len(groups),
                "seeds": len(seeds),
            }
        )
    return rows


def write_tables(folders: dict[tuple[str, int], Path], target: Path) -> None:
    """runs.csv, bits.csv and pairs.csv of finished runs."""
    target.mkdir(parents=True, exist_ok=True)
    write_csv(target / "runs.csv", [row_of(*key, folder) for key, folder in folders.items()])
    by_run = {key: image_bits(folder) for key, folder in folders.items()}
    names = sorted(next(iter(by_run.values())))
    if any(sorted(found) != names for found in by_run.values()):
        raise DataError("the runs have scored different images; make them all of one --data.")
    columns = {f"{form}-{seed}": found for (form, seed), found in by_run.items()}
    rows = [{"image": name} | {run: found[name] for run, found in columns.items()} for name in names]
    write_csv(target / "bits.csv", rows)
    bits = {key: np.array([found[name] for name in names]) for key, found in by_run.items()}
    pairs = compare(bits, np.array([int(name) // 100 for name in names]))
    write_csv(target / "pairs.csv", pairs)
    for pair in pairs:
        print(
            f"{pair['form']:<6} minus {pair['against']}: {pair['difference']:+.4f} bits per dimension, standard error "
            f"{pair['error_photographs']:.4f} over {pair['photographs']} photographs, {pair['error_images']:.4f} over "
            f"{pair['images']} images"
        )


def main(words: list[str]) -> int:
    """Train what is missing, and write the tables."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True, help="folder that photographs.py made")
    options.add_argument("--out", type=Path, required=True, help="folder of the runs")
    options.add_argument("--tables", type=Path, help="folder for the CSV files")
    options.add_argument("--seeds", type=positive, default=3, help="runs of each form (default 3)")
    options.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    options.add_argument("settings", nargs="*", help="of the runs, key=value")
    given = options.parse_args(words)
    if not (given.data / "about.json").is_file():
        raise DataError(f"--data {given.data} is no folder of photographs.py: it has no about.json.")
    folders = {}
    for seed in range(given.first, given.first + given.seeds):
        for form in FORMS:
            folders[form, seed] = train(form, seed, given.data.resolve(), given.out, given.settings)
    if given.tables:
        write_tables(folders, given.tables)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
