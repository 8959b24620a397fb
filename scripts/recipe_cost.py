"""What the published recipes take: operations counted, card hours at a rate that you give.

    python scripts/recipe_cost.py                         # all recipes with a known number of images
    python scripts/recipe_cost.py --tflops 150 'cub/*'

The operations of one image forward are counted on the model of the recipe, head included, as twice its multiplications
(torch's counter; eigendecompositions and what runs outside of matrix products are not in it), and a step is three
times that. Hours are those operations over --tflops, what the card sustains on convolutions and not what it is sold
with: a model of time, no measurement. It leaves out reading images, which is what limits many machines.
"""

import argparse
import sys
import warnings
from fnmatch import fnmatch
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # works in a checkout that is not installed

import torch
from torch.utils.flop_counter import FlopCounterMode

from gcp.cli.main import run
from gcp.config import load
from gcp.config.recipes import find, recipes
from gcp.data import DATASETS
from gcp.errors import GCPError
from gcp.runs.build import build_model

TFLOPS = 100.0


def cost(name: str) -> tuple[int, int, float] | None:
    """Epochs, training images, 1e9 operations of one image forward; None where the number of images is not known."""
    if name.split("/")[0] in ("glow", "digits", "finetune"):
        return None
    config = load(find(name), ["data.root=ROOT", "model.pretrained=false"])
    source = DATASETS[config.data.name].obj
    counts = source.counts or {}
    images = sum(count for split, count in counts.items() if split != "test")
    if not images or isinstance(config.data.image_size, str):
        return None
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        model = build_model(config, source.classes or 1000, torch.device("cpu")).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, config.data.in_chans, config.data.image_size, config.data.image_size))
    return config.train.epochs, images, counter.get_total_flops() / 1e9


def main(argv: list[str]) -> int:
    """The command. Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("recipes", nargs="*", default=["*"], help="names or shell patterns")
    parser.add_argument("--tflops", type=float, default=TFLOPS, help=f"1e12 operations a second of a card ({TFLOPS:g})")
    args = parser.parse_args(argv)
    chosen = [name for name in recipes() if any(fnmatch(name, pattern) for pattern in args.recipes)]
    if not chosen:
        raise GCPError("no recipe has such a name: `gcp list recipes` lists them.")
    if not 0 < args.tflops < float("inf"):
        raise GCPError(f"--tflops: got {args.tflops}; allowed: a positive number.")
    print(f"| recipe | images | epochs | GFLOP an image | hours at {args.tflops:g} TFLOP/s |\n|---|---|---|---|---|")
    for name in chosen:
        found = cost(name)
        if found is not None:
            epochs, images, gflops = found
            hours = 3 * gflops * 1e9 * images * epochs / (args.tflops * 1e12) / 3600
            print(f"| {name} | {images:,} | {epochs} | {gflops:.1f} | {hours:.3g} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
