"""Photographs made up for a benchmark, and the loaders that read them in turns: ours, timm's and torchvision's."""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from gcp.data import Loader
from gcp.data.images import FileSet
from gcp.data.transforms import create_transform
from gcp.data.transforms.base import IMAGENET
from gcp.measure import spread, take_turns

OURS = "gcp"
PHOTOGRAPHS = "{count} generated JPEG files of 500x375, quality 90: gradients, waves and noise"
WIDTH, HEIGHT, QUALITY = 500, 375, 90
CLASSES = 4
NOISE = 12.0  # standard deviation in grey levels; files become about 75 kB


def write_photographs(root: Path, count: int, seed: int = 0) -> None:
    """Write root/CLASS/NUMBER.jpg, `count` files in `CLASSES` classes."""
    from PIL import Image

    for number in range(count):
        folder = root / f"class{number % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(_photograph(seed + number)).save(folder / f"{number:05d}.jpg", quality=QUALITY)


def _photograph(seed: int) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / np.array([HEIGHT, WIDTH]).reshape(2, 1, 1)
    slope, wave = generator.uniform(-60, 60, (2, 3)), generator.uniform(1, 8, (2, 3))
    phase = generator.uniform(0, 2 * np.pi, 3)
    plane = 128 + x[..., None] * slope[0] + y[..., None] * slope[1]
    waves = 40 * np.sin(2 * np.pi * (x[..., None] * wave[0] + y[..., None] * wave[1]) + phase)
    noise = generator.normal(0, NOISE, (HEIGHT, WIDTH, 3))
    return (plane + waves + noise).clip(0, 255).astype(np.uint8)


# What each row is, with the same transform but for the defaults of timm.
LOADERS = {
    OURS: "Loader, uint8 batches",
    "gcp, normalised": "Loader, and Normalize on the CPU",
    "timm": "create_loader without prefetcher and colour jitter",
    "timm, its defaults": "create_loader: prefetcher, colour jitter 0.4",
    "torchvision, Pillow": "ImageFolder, v2 transforms on Pillow images, DataLoader",
    "torchvision, tensors": "the same, v2 transforms on tensors",
}


Epoch = Callable[[int], Iterable[Any]]  # the batches of the epoch of that number


def compare_loaders(
    root: Path,
    batch_size: int = 64,
    image_size: int = 224,
    workers: int = 0,
    repeats: int = 7,
    warmup: int = 1,
    watch: Callable[[range], Iterable[int]] = iter,
) -> dict[str, Any]:
    """Measure epochs over the images of root/CLASS/*.jpg, the loaders in turns.

    Returns:
        Plain values: `images`, `workers`, and `rows` with `loader`, `what`, `images_per_second` (per core:
        divided by the workers), `cpu_ms` (processor time per image, only without workers) and `speedup`
        (time over the time of ours in the same round, median: above 1 ours is faster).
    """
    files = sorted(root.glob("*/*.jpg"))
    epochs = dict(_loaders(root, [str(path) for path in files], batch_size, image_size, workers))
    turn = iter(range(10**9))
    laps = {name: _epoch_lap(epoch, turn) for name, epoch in epochs.items()}
    times = take_turns(laps, warmup, repeats, watch)
    rows = []
    for name, measured in times.items():
        ratios = [theirs / ours for theirs, ours in zip(measured["wall"], times[OURS]["wall"], strict=True)]
        rate = [1000 * len(files) / wall / max(1, workers) for wall in measured["wall"]]
        cpu = None if workers else spread([milliseconds / len(files) for milliseconds in measured["cpu"]])
        row = {"images_per_second": spread(rate), "cpu_ms": cpu, "speedup": spread(ratios)}
        rows.append({"loader": name, "what": LOADERS[name], **row})
    return {"images": len(files), "workers": workers, "rows": rows}


def _epoch_lap(epoch: Epoch, turn: Iterator[int]) -> Callable[[], dict[str, float]]:
    def lap() -> dict[str, float]:
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        for _ in epoch(next(turn)):
            pass
        return {"wall": (time.perf_counter_ns() - wall) / 1e6, "cpu": (time.process_time_ns() - cpu) / 1e6}

    return lap


def _loaders(
    root: Path, paths: list[str], batch_size: int, image_size: int, workers: int
) -> Iterator[tuple[str, Epoch]]:
    names = sorted({Path(path).parent.name for path in paths})
    labels = [names.index(Path(path).parent.name) for path in paths]
    transform = create_transform("random_resized_crop", "random_resized_crop", image_size, 3)
    ours = Loader(FileSet(paths, labels, transform, 3), batch_size, train=True, workers=workers)
    yield OURS, ours.epoch
    yield "gcp, normalised", lambda number: ((ours.normalize(images), labels) for images, labels in ours.epoch(number))
    for name, options in {"timm": {"color_jitter": None, "use_prefetcher": False}, "timm, its defaults": {}}.items():
        yield name, _again(_timm(root, batch_size, image_size, workers, options))
    for backend in ("Pillow", "tensors"):
        yield f"torchvision, {backend}", _again(_torchvision(root, batch_size, image_size, workers, backend))


def _again(loader: Iterable[Any]) -> Epoch:
    return lambda number: loader


def _timm(root: Path, batch_size: int, image_size: int, workers: int, options: dict[str, Any]) -> Iterable[Any]:
    from timm.data import ImageDataset, create_loader

    size, cpu = (3, image_size, image_size), torch.device("cpu")
    return create_loader(
        ImageDataset(str(root)), size, batch_size, is_training=True, num_workers=workers, device=cpu, **options
    )


def _torchvision(root: Path, batch_size: int, image_size: int, workers: int, backend: str) -> Iterable[Any]:
    """The pipeline of torchvision's reference training, its workers kept from epoch to epoch as ours are."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    crop = [v2.RandomResizedCrop(image_size), v2.RandomHorizontalFlip()]
    pixels = [v2.PILToTensor()]
    tail = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(IMAGENET.mean), list(IMAGENET.std))]
    steps = [*crop, *pixels, *tail] if backend == "Pillow" else [*pixels, *crop, *tail]
    return DataLoader(
        ImageFolder(str(root), v2.Compose(steps)),
        batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
