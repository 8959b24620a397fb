"""Folders as a grid of runs leaves them, with made-up numbers, for the tests of what reads them."""

import csv
import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import yaml

HEADS = (
    *("svd_exact", "svd_pade", "svd_taylor", "svd_pi", "svd_trunc", "svd_topn", "svd_newton", "svd_original"),
    *("newton_schulz", "polar_express", "mpa_lyapunov", "mtp_lyapunov", "seb", "covariance", "bilinear"),
    *("compact_bilinear", "average"),
)
EVIL = 'a <b>&"quoted"</b> $x$ | `y` _z_'


def build(folder: Path, grid: dict, seeds: int = 5, epochs: int = 12, failing: dict | None = None, **more) -> dict:
    """Write a study; returns {label: [accuracies of the seeds]}. `failing`: {label: seeds that fail}.

    `more`: keys of study.yaml.
    """
    generator = np.random.default_rng(0)
    failing = failing or {}
    keys = list(grid)
    shift = generator.normal(0, 0.25, seeds)
    cells, table, scores = [], [], {}
    for place, values in enumerate(product(*grid.values())):
        given = dict(zip(keys, map(str, values), strict=True))
        label = ", ".join(v if k == "head.name" else f"{k.rpartition('.')[2]}={v}" for k, v in given.items())
        mean = 98.6 - 0.25 * place - (12 if "average" in label else 0)
        top1 = np.round(mean + shift + generator.normal(0, 0.15, seeds), 2)
        time = 0.02 + 0.004 * place
        kept = []
        for seed in range(seeds):
            cell = {"id": f"v{place}-seed{seed}", "variant": label, **given, "seed": seed}
            own = folder / "cells" / cell["id"]
            own.mkdir(parents=True)
            (own / "config.yaml").write_text(CONFIG)
            (own / "environment.json").write_text(json.dumps(ENVIRONMENT))
            failed = seed in failing.get(label, ())
            _curves(own / "metrics.csv", generator, epochs // 3 if failed else epochs, top1[seed])
            if "average" not in label:
                _spectrum(own / "spectrum.csv", generator, epochs, place)
            if failed:
                cells.append({**cell, "state": "failed", "message": f"loss is nan; {EVIL}", "nonfinite": 1})
                continue
            kept.append(seed)
            numbers = {"test_top1": top1[seed], "seconds_per_step": time, "peak_memory_mib": 300 + 20 * place}
            cells.append({**cell, "state": "done", **numbers, "nonfinite": 0, "epochs": epochs})
        scores[label] = [float(top1[seed]) for seed in kept]
        table.append({"variant": label, **given, **_row(scores, label, seeds - len(kept)), "seconds_per_step": time})
        table[-1]["peak_memory_mib"] = 300 + 20 * place
    _write(folder / "cells.csv", cells)
    _write(folder / "table.csv", table)
    about = {"name": folder.name, "title": "Backwards of the matrix square root", "command": "python scripts/ablate.py"}
    about |= {"config": "configs/digits/resnet.yaml", "overrides": ["train.epochs=12"], "seeds": list(range(seeds))}
    about |= {"reference": next(iter(scores)), "grid": grid, "published": {}, "notes": [], **more}
    (folder / "study.yaml").write_text(yaml.safe_dump(about, sort_keys=False))
    return scores


CONFIG = """\
data: {name: digits, per_class: 10, image_size: 32, val_fraction: 0.1}
model: {backbone: resnet20_cifar, pretrained: false}
head: {name: svd_exact, dim: 64, side: auto, form: folded}
optim: {name: sgd, lr: 0.1, weight_decay: 0.0005}
schedule: {name: cosine}
train: {epochs: 12, batch_size: 64}
"""
ENVIRONMENT = {
    "python": "3.11.7",
    "packages": {"torch": "2.15.0", "timm": "1.0.31"},
    "device": "cpu",
    "processor": "Some Processor",
    "cores": 2,
    "threads": 1,
    "commit": "0123456789abcdef",
}


def _row(scores: dict, label: str, failed: int) -> dict:
    values = scores[label]
    row = {"n": len(values), "failed": failed}
    if not values:
        return row
    row |= {"mean": f"{np.mean(values):.6g}", "best_mean": f"{np.mean(values) + 0.1:.6g}"}
    if len(values) > 1:
        row["std"] = f"{np.std(values, ddof=1):.6g}"
    reference = next(iter(scores))
    if label != reference:
        count = min(len(values), len(scores[reference]))
        pairs = np.subtract(values[:count], scores[reference][:count])
        row["difference"] = f"{pairs.mean():.6g}"
        if count > 1:
            half = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}[count] * pairs.std(ddof=1) / math.sqrt(count)
            row |= {"low": f"{pairs.mean() - half:.6g}", "high": f"{pairs.mean() + half:.6g}"}
            row |= {"p": 0.01, "p_holm": 0.2 if abs(pairs.mean()) < 2 * half else 0.0004}
    return row


def _curves(path: Path, generator, epochs: int, top: float) -> None:
    rows = []
    for epoch in range(1, epochs + 1):
        rise = 1 - math.exp(-epoch / 2.5)
        noise = generator.normal(0, 3 / epoch)
        rows.append({"epoch": epoch, "step": 20 * epoch, "train_loss": 2.3 * (1.02 - rise) * math.exp(noise / 20)})
        rows[-1]["val_accuracy"] = min(100.0, 10 + (top - 10) * rise + noise)
    _write(path, rows)


def _spectrum(path: Path, generator, epochs: int, place: int) -> None:
    rows = []
    for step in range(10, 20 * epochs + 1, 10):
        level = 10 ** (-place / 8 - step / 150 + generator.normal(0, 0.05))
        row = {"step": step, "epoch": 1 + (step - 1) // 20}
        row |= {f"q{q}": level * 10 ** ((q - 50) / 25) for q in (0, 5, 25, 50, 75, 95, 100)}
        row |= {"condition": row["q100"] / row["q0"], "effective_rank": 20 + 5 * math.sin(step / 40), "rank": 63}
        row |= {"samples": 64, "channels": 64, "rule_share": 0.01 * place, "condition_before_norm": 1e3 + step}
        rows.append(row)
    _write(path, rows)


def add_fidelity(folder: Path) -> None:
    """Write fidelity.csv: two sweeps, and features of a checkpoint."""
    rows = []
    for head, form, precision in product(HEADS[:8], ("folded", "published"), ("float32", "float64")):
        rounding = {"float32": 1e-7, "float64": 1e-16}[precision] * (30 if form == "published" else 1)
        base = {"head": head, "form": form, "precision": precision, "side": "channel", "samples": 96, "channels": 64}
        base |= {"cosine": 0.9999, "norm_ratio": 1.0, "oracle": "float64"}
        for exponent in range(0, 15):
            error = rounding * 10 ** (exponent / 1.5)
            error = "inf" if form == "published" and error > 10 else min(error, 1.0)
            rows.append({"source": "condition", **base, "condition": 10.0**exponent, "gap": 0.1, "rank_deficit": 0})
            rows[-1]["error"] = error
        for exponent in range(1, 15):
            error = rounding * (10**exponent if form == "published" else 1)
            rows.append({"source": "gap", **base, "condition": 1e3, "gap": 10.0**-exponent, "rank_deficit": 0})
            rows[-1]["error"] = error
        rows.append({"source": "runs/x", **base, "condition": 2e4, "gap": 1e-3, "rank_deficit": 1, "error": 2e-5})
    _write(folder / "fidelity.csv", rows)


def _write(path: Path, rows: list[dict]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
