"""The runs of the study of evolving widths: from a start, three that belong together."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# of resnet8_cifar
USUAL = {
    "conv1": 16,
    "layer1.0.conv1": 16,
    "layer2.0.conv1": 32,
    "layer2.0.conv2": 32,
    "layer3.0.conv1": 64,
    "layer3.0.conv2": 64,
}


@dataclass(frozen=True)
class Start:
    """The usual widths times `factor`, `dim` channels after the reduction, and how the widths evolve."""

    factor: float
    dim: int
    evolution: tuple[str, ...]


EVERY = ("evolve.every=1", "evolve.start=1", "evolve.stop=60 %", "evolve.min_width=4")
BUDGET = (*EVERY, "evolve.policy=budget", "evolve.budget=12.5k parameters", "evolve.factor=2")
STARTS = {
    "narrow": Start(0.5, 12, EVERY),
    "wide": Start(2, 64, EVERY),
    "huge": Start(5, 128, BUDGET),  # 2 million parameters
}
OPTIMIZERS = {
    "sgd": ["optim.name=sgd", "optim.lr=0.1", "optim.weight_decay=5e-4"],
    "adamw": ["optim.name=adamw", "optim.lr=0.01", "optim.weight_decay=0.05"],
}
HEADS = ("svd_pade", "average")
# the digits have 8x8 pixels; 16 leave the last stage 4x4 positions
COMMON = ["model.backbone=resnet8_cifar", "data.image_size=16", "train.epochs=15", "run.threads=1"]
ARMS = ("fixed", "evolved", "scratch")


@dataclass(frozen=True)
class Cell:
    """One run."""

    start: str
    optimizer: str
    head: str
    seed: int
    arm: str
    out: Path

    def other(self, arm: str) -> "Cell":
        """Another run of the same triple."""
        return replace(self, arm=arm)

    @property
    def variant(self) -> str:
        """All but the seed."""
        return f"{self.start}, {self.optimizer}, {self.head}, {self.arm}"

    @property
    def folder(self) -> Path:
        return self.out / "cells" / f"{self.variant.replace(', ', '-')}-seed{self.seed}"

    def result(self) -> dict[str, Any] | None:
        """What it has come to, None where it has not."""
        path = self.folder / "result.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def words(self) -> list[str]:
        """The settings that make it. The evolved run has to be finished before the one from scratch."""
        start = STARTS[self.start]
        dim, shape = start.dim, {f"features.body.{name}": round(start.factor * usual) for name, usual in USUAL.items()}
        if self.arm == "scratch":
            result = self.other("evolved").result()
            assert result is not None
            shape = result["widths"]
            dim = shape.pop("head.reduction")
        return [
            *COMMON,
            *OPTIMIZERS[self.optimizer],
            *(start.evolution if self.arm == "evolved" else ()),
            f"head.name={self.head}",
            f"head.dim={dim}",
            f"model.widths={json.dumps(shape)}",
            f"run.seed={self.seed}",
            f"run.dir={json.dumps(str(self.folder.parent))}",
            f"run.name={self.folder.name}",
        ]

    def score(self) -> float | None:
        """Top-1 accuracy of the final weights on the test split, percent."""
        result = self.result()
        return result["test"]["final"]["top1"] if result else None
