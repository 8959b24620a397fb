"""What the first batches tell a head: the sizes of outputs, learning rates with and without a scale, and both starts.

    python scripts/measure_first_batches.py sizes                       # made features, and digits by a random network
    python scripts/measure_first_batches.py sizes --weights weights/tf_efficientnet_lite0.pt --root textures
    python scripts/measure_first_batches.py rates --weights ... --root textures --json rates.json
    python scripts/measure_first_batches.py starts --weights ... --root textures --json starts.json

Heads and a linear layer are trained on the last map of a frozen backbone, which is computed once. `--root` is a folder
of train/, val/ and test/ with a folder for each class; without it, the digits. scripts/real/weights.py has the weights,
scripts/real/textures.py the images.
"""

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean, stdev

import benchmarking
import torch
from torch import Tensor, nn

import gcp
from gcp.data import create_dataset, create_loader
from gcp.heads import HEADS, create_head
from gcp.kernels.cpu import set_threads
from gcp.models import create_model
from gcp.runs.fit import IterableLoader, score
from gcp.studies.fidelity.features import relu_features

SIZED = (
    *("max", "gem", "covariance", "svd_pade", "newton_schulz", "polar_express", "second_moment", "gaussian"),
    *("power", "log_euclidean", "seb", "bilinear", "compact_bilinear"),
)
TRAINED = ("covariance", "polar_express", "second_moment", "log_euclidean", "bilinear")
RATES = tuple(0.0032 * 4**power for power in range(5))
BATCH = 32
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Maps:
    """Feature maps (N, C, h, w) float32 and labels of the three splits."""

    name: str
    splits: dict[str, tuple[Tensor, Tensor]]

    @property
    def channels(self) -> int:
        """C."""
        return self.splits["train"][0].shape[1]

    @property
    def classes(self) -> int:
        """How many there are."""
        return int(self.splits["train"][1].max()) + 1

    def batches(self, split: str, seed: int | None = None) -> "Batches":
        """Of a split, in a new order at every pass where there is a seed."""
        return Batches(*self.splits[split], None if seed is None else torch.Generator().manual_seed(seed))


@dataclass
class Batches:
    """Maps and labels, BATCH at a time."""

    maps: Tensor
    labels: Tensor
    generator: torch.Generator | None = None

    def __len__(self) -> int:
        return -(-len(self.labels) // BATCH)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        count = len(self.labels)
        order = torch.randperm(count, generator=self.generator) if self.generator else torch.arange(count)
        for part in order.split(BATCH):
            yield self.maps[part], self.labels[part]


@torch.no_grad()
def maps_of(args: Namespace) -> Maps:
    """The last maps of the backbone on the images, kept in `--cache`."""
    if args.cache and Path(args.cache).is_file():
        return Maps(**torch.load(args.cache, weights_only=True))
    torch.manual_seed(args.seed)
    backbone = args.backbone if args.weights else "resnet18"
    model = create_model(backbone, "average", 2, pretrained=args.weights or False).features
    model.train(not args.weights)  # a random network has no running statistics yet
    data = ("folder", args.root) if args.root else ("digits", None)
    splits = create_dataset(*data, image_size=args.image_size, transform="none", partial=True)
    found = {}
    for split in SPLITS:
        loader = create_loader(getattr(splits, split), 64, train=False, workers=0)
        parts = [(model(loader.normalize(images)).clone(), labels) for images, labels in loader.epoch(0)]
        found[split] = tuple(torch.cat(part) for part in zip(*parts, strict=True))
    network, images = backbone if args.weights else f"{backbone} of random weights", Path(args.root or "digits").name
    maps = Maps(f"{network} on {images}", found)
    if args.cache:
        torch.save({"name": maps.name, "splits": maps.splits}, args.cache)
    return maps


def options_of(name: str) -> dict[str, str]:
    """float32 everywhere, which is quicker and exact enough for sizes."""
    return {"precision": "float32"} if "precision" in HEADS[name].obj.takes else {}


def sizes(args: Namespace) -> list[dict]:
    """Size of each head's output over that of average pooling, by width of the reduction."""
    rows = []
    made = relu_features(256, 512, 7, torch.float32, args.seed)
    for maps in (Maps("made", {"train": (made, torch.zeros(256).long())}), maps_of(args)):
        x = maps.splits["train"][0][:512]
        print(f"\n{maps.name}, {maps.channels} channels, {x.shape[2]}x{x.shape[3]}: size over that of average pooling")
        print(f"{'head':18}" + "".join(f"{f'd = {d}':>10}" for d in args.dims))
        for name in ("average", *SIZED):
            found = {}
            for d in args.dims:
                torch.manual_seed(args.seed)
                head = create_head(name, maps.channels, d, output_scale="measured", **options_of(name))
                gcp.initialize_head(head, x.split(128))
                found[d] = 1 / float(head.scales[0])
            rows.append({"maps": maps.name, "head": name, "size": found})
            print(f"{name:18}" + "".join(f"{size:10.3g}" for size in found.values()), flush=True)
    return rows


def trained(maps: Maps, name: str, dim: int | None, lr: float, seed: int, args: Namespace, **options: str) -> dict:
    """Scores of a head and a linear layer after `--epochs`."""
    torch.manual_seed(seed)
    head = create_head(name, maps.channels, dim, **options, **options_of(name))
    model = nn.Sequential(head, nn.Linear(head.out_features, maps.classes))
    row = {"head": name, "dim": dim, "lr": lr, "seed": seed, **options}
    try:
        gcp.fit(model, maps.batches("train", seed), epochs=args.epochs, lr=lr, seed=seed)
        for split in ("val", "test"):
            scores = score(model, IterableLoader(maps.batches(split)), torch.device("cpu"))
            row |= {f"{split} {key}": round(scores[key], 4) for key in ("loss", "top1")}
    except gcp.errors.NonFiniteError:
        row |= {f"{split} {key}": value for split in ("val", "test") for key, value in (("loss", None), ("top1", 0.0))}
    return row


def rates(args: Namespace) -> list[dict]:
    """Validation accuracy of every head by learning rate, as published and at the size of average pooling."""
    maps, rows = maps_of(args), []
    print(f"\n{maps.name}, {args.epochs} epochs: validation top-1 % by learning rate")
    print(f"{'head':18}{'scale':11}" + "".join(f"{lr:9.4f}" for lr in RATES))
    heads = [("average", None), ("average", args.dim), *((name, args.dim) for name in TRAINED)]
    for (name, dim), scale in product(heads, ("published", "measured")):
        if scale == "measured" and dim is None:
            continue  # it is the one
        found = [trained(maps, name, dim, lr, args.seed, args, output_scale=scale) for lr in RATES]
        rows += found
        shown = name if dim else "average, all"
        print(f"{shown:18}{scale:11}" + "".join(f"{row['val top1']:9.1f}" for row in found), flush=True)
    return rows


def starts(args: Namespace) -> list[dict]:
    """Accuracy of heads with a random reduction and with principal directions, over seeds."""
    maps, rows = maps_of(args), []
    print(f"\n{maps.name}, {args.epochs} epochs, rate {args.lr:g}: test top-1 % and loss over {args.seeds} seeds")
    for name, beside, start in product(("average", "polar_express", "gaussian"), ("none", "concat"), ("random", "pca")):
        if name != "polar_express" and beside == "concat":
            continue
        options = {"reduction_init": start, "mean": beside, "output_scale": "measured"}
        found = [trained(maps, name, args.dim, args.lr, seed, args, **options) for seed in range(args.seeds)]
        rows += found
        top1, loss = ([row[f"test {key}"] for row in found] for key in ("top1", "loss"))
        spread = f"+- {stdev(top1):.1f}" if len(top1) > 1 else ""
        print(f"{name:18}mean {beside:8}{start:8}{mean(top1):7.1f} {spread:8}{mean(loss):8.3f}", flush=True)
    return rows


COMMANDS = {"sizes": sizes, "rates": rates, "starts": starts}


def main(words: list[str]) -> int:
    """Measure, print, and write all numbers. Returns the exit code."""
    example = "python scripts/measure_first_batches.py sizes"
    made = benchmarking.parser("What the first batches tell a head.", example, repeats=1, warmup=0)
    made.add_argument("command", choices=COMMANDS)
    made.add_argument("--weights", help="of the backbone; without, resnet18 with random weights")
    made.add_argument("--backbone", default="tf_efficientnet_lite0")
    made.add_argument("--root", help="folder of images; without, the digits")
    made.add_argument("--image-size", type=int, default=160)
    made.add_argument("--cache", help="file in which the maps are kept")
    made.add_argument("--dim", type=int, default=64, help="width of the reduction of what is trained (64)")
    made.add_argument("--epochs", type=int, default=8)
    made.add_argument("--lr", type=float, default=0.05)
    made.add_argument("--seeds", type=int, default=3)
    benchmarking.several(made, "--dims", [32, 64, 128, 256], "widths of the reduction")
    args = made.parse_args(words)
    set_threads(args.threads or 1)
    rows = COMMANDS[args.command](args)
    benchmarking.save(args.json, {"settings": benchmarking.settings_of(args), "rows": rows})
    return 0


if __name__ == "__main__":
    raise SystemExit(benchmarking.run(main))
