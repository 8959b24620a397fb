"""Cells of a study: a variant with a seed is an ordinary run in `cells/ID`.

The configuration of every cell is checked before anything is run, and written into its folder: from then on the cell is
a run that has not begun, which `resume` begins, and a recipe that changes later does not change the study.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from gcp.config import Config, dump, from_dict, load
from gcp.config.load import flat, with_images_of
from gcp.engine.folder import RunFolder, write_json, write_text
from gcp.errors import ConfigError, nearest
from gcp.studies.grid import HEAD, OWN, Study, Variant, overrides, values_by_name, variants

# what a cell that is continued may have otherwise: none of it changes what is learned
FREE = ("run.dir", "run.device", "run.threads", "data.workers", "data.root", "train.cache_dir")
FIRST_ORDER = ("average", "gem", "max", "avg_max")
SHOWN = 8  # variants named in a fault


@dataclass(frozen=True)
class Cell:
    """A run of a study; `folder` need not be there yet."""

    variant: Variant
    seed: int
    folder: RunFolder

    @property
    def id(self) -> str:
        """Name of its folder."""
        return self.folder.path.name


def cells_of(study: Study, place: Path, chosen: Iterable[Variant] | None = None) -> list[Cell]:
    """Every cell, the first seed of all variants first, so that a study that is half done compares."""
    every = list(variants(study) if chosen is None else chosen)
    return [
        Cell(variant, seed, RunFolder(place / "cells" / f"{variant.slug}-seed{seed}"))
        for seed in study.seeds
        for variant in every
    ]


def check(study: Study, faults: Sequence[str] = ()) -> list[Variant]:
    """The variants that can be run, those that cannot left out where the study says so.

    Raises:
        ConfigError: with `faults`, every fault of the configuration of every variant, and a reference or a published
            number that is of none of them.
    """
    if not study.config:  # the fault that says so is enough
        raise ConfigError(faults, "the study")
    every = variants(study)
    refused: dict[str, list[Variant]] = {}
    sound = []
    for variant in every:
        try:
            config_of(study, variant)
            sound.append(variant)
        except ConfigError as error:
            for fault in error.faults:
                refused.setdefault(fault, []).append(variant)
    usable = sound if study.skip_invalid and sound else every
    found = [*faults, *_foreign_keys(study), *_foreign_labels(study, [variant.label for variant in usable])]
    if refused and usable is every:
        found += [_culprits(those, every) + fault for fault, those in refused.items()]
        if sound:
            found.append("leave out the variants that cannot be run with --skip-invalid")
    if found:
        raise ConfigError(found, "the study")
    return sound


def check_beginnings(study: Study, chosen: Sequence[Variant]) -> None:
    """Look for what every run would miss: the weights and the images that the variants begin with, each once.

    Raises:
        CheckpointError, DataError: they are not there.
        ConfigError: they are augmented in a way whose features cannot be kept.
    """
    from gcp.runs.build import build_splits
    from gcp.runs.pretrained import check_pretrained

    looked: list[dict] = []
    for variant in chosen:
        config = config_of(study, variant)
        check_pretrained(config)
        needs = config.data.model_dump()
        if needs not in looked:
            looked.append(needs)
            splits = build_splits(config)
            if config.train.cache_features:
                from gcp.runs.features import count_views

                count_views(config, splits.images("train"))


def _culprits(refused: Sequence[Variant], every: Sequence[Variant]) -> str:
    """Which values the fault comes from, as few as identify it, such as `form=published`; nothing if it is in all."""
    if len(refused) == len(every):
        return ""
    for size in range(1, len(every[0].values)):
        for keys in combinations(every[0].values, size):
            shared = {variant.part(keys) for variant in refused}
            if len(refused) == sum(variant.part(keys) in shared for variant in every) and len(shared) <= SHOWN:
                return f"{'; '.join(dict.fromkeys(variant.part(keys) for variant in refused))}: "
    labels = [variant.label for variant in refused]
    more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
    return f"{'; '.join(labels[:SHOWN])}{more}: "


def _foreign_keys(study: Study) -> list[str]:
    settings = [word.partition("=")[0] for word in study.overrides]
    own = [key for values in study.variants.values() for key in values]
    every = [*study.grid, *settings, *own, *study.tune]
    faults = [f"{key}: set by {OWN[key]}" for key in dict.fromkeys(every) if key in OWN]
    twice = [key for key in study.grid if key in (*settings, *own)] + [
        key for key in study.tune if key in (*study.grid, *own)
    ]
    return faults + [f"{key}: given once as a setting and once to vary; allowed: one of them" for key in twice]


def _foreign_labels(study: Study, labels: list[str]) -> list[str]:
    """References and published numbers of variants that are not there."""
    values = list(values_by_name(study))
    named = [("--reference", study.reference, [*labels, *values])] if study.reference is not None else []
    named += [("published", label, labels) for label in study.published]
    faults = []
    for what, label, allowed in named:
        if label not in allowed:
            close = nearest(label, allowed)
            hint = f" Did you mean {close!r}?" if close else ""
            faults.append(f"{what}: no variant {label!r}.{hint} Variants: {'; '.join(labels[:40])}.")
    return faults


def lay_out(study: Study, cells: Sequence[Cell]) -> None:
    """Write the configuration of every cell that is not finished.

    Raises:
        ConfigError: cells that are there have other settings.
    """
    changed: dict[str, None] = {}
    texts: list[tuple[RunFolder, str]] = []
    for cell in cells:
        config = _configure(study, cell)
        if cell.folder.config.is_file():
            before = load(cell.folder.config, written=True)
            changed.update(dict.fromkeys(_differences(before, with_images_of(config, before))))
        if not cell.folder.result.is_file():
            texts.append((cell.folder, dump(config)))
    if changed:
        place = cells[0].folder.path.parent.parent
        raise ConfigError(changed, f"the settings, with which {place} cannot be continued; give another --name")
    for folder, text in texts:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_text(folder.config, text)


def config_of(study: Study, variant: Variant, words: Sequence[str] = ()) -> Config:
    """The configuration of the runs of a variant, with what was chosen for it and further settings.

    Raises:
        ConfigError: for what it refuses.
    """
    chosen = overrides(study.chosen.get(variant.label, {}))
    config = load(study.config, [*study.overrides, *variant.words, *chosen, *words])
    if pools_all_channels(study, variant) and config.head.dim is not None:
        config = from_dict(config.plain(), ["head.dim=null", "head.reduction_init=random"])
    return config


def pools_all_channels(study: Study, variant: Variant) -> bool:
    """Whether `head.dim` is not meant for the head of this variant.

    Among heads that vary it is the reduction of the covariance heads, whose output grows with its square. A head of
    first order has no need of one, and with it is another head, a layer deeper, than the average pooling that one
    compares with: it gets none, unless the study asks for it.
    """
    given = {**variant.keys, **study.tune}
    return given.get(HEAD) in FIRST_ORDER and "head.dim" not in given and not study.reduce_average


def _configure(study: Study, cell: Cell) -> Config:
    own = {"run.seed": cell.seed, "run.name": cell.id, "run.dir": str(cell.folder.path.parent)}
    config = config_of(study, cell.variant, [f"{key}={json.dumps(value)}" for key, value in own.items()])
    if study.threads is None or config.run.threads is not None:
        return config
    return from_dict(config.plain(), [f"run.threads={study.threads}"])


def _differences(before: Config, now: Config) -> Iterable[str]:
    old, new = flat(before), flat(now)
    for key in old | new:
        if old.get(key) != new.get(key) and key not in FREE:
            yield f"{key}: got {new.get(key)!r}; the study has {old.get(key)!r}"


FAILURE = "failure.json"
IMAGES = "test_images.npz"  # which images of the test split the final weights have right
DONE, FAILED, PENDING = "done", "failed", "pending"


@dataclass(frozen=True)
class Outcome:
    """State of a cell with what the table says of it.

    `again`: it failed by no fault of its own, a kill from outside, and is run again by the next command.
    """

    cell: Cell
    state: str = PENDING
    message: str = ""
    nonfinite: bool = False
    again: bool = False
    result: dict[str, Any] | None = None

    def score(self, weights: str = "final", key: str = "top1") -> float | None:
        """A score on the test split, of the `final` weights or of the `best` on validation; accuracies in percent."""
        scores: dict[str, Any] = (self.result or {}).get("test", {}).get(weights, {})
        return scores.get(key)

    def cost(self, key: str) -> Any:
        """A figure of `gcp.runs.result`."""
        return (self.result or {}).get("cost", {}).get(key)

    @property
    def images(self) -> "ImageScores | None":
        """Which test images it has right, None where its folder does not record it."""
        return read_images(self.cell.folder)

    @property
    def validation(self) -> float | None:
        """Best top-1 accuracy on the validation split, in percent."""
        found = (self.result or {}).get("validation", {}).get("best") or {}
        return found.get("top1")


def read(cell: Cell) -> Outcome:
    """The record of a cell as it is now."""
    if cell.folder.result.is_file():
        return Outcome(cell, DONE, result=json.loads(cell.folder.result.read_text()))
    path = cell.folder.path / FAILURE
    return Outcome(cell, FAILED, **json.loads(path.read_text())) if path.is_file() else Outcome(cell)


@dataclass(frozen=True)
class ImageScores:
    """Of a finished run: `right` (N,) bool, in the order of the test split; `chance`: % of its commonest class."""

    right: np.ndarray
    chance: float


def read_images(folder: RunFolder) -> ImageScores | None:
    """What `write_images` wrote into a run folder; None where it has written nothing."""
    try:
        with np.load(folder.path / IMAGES, allow_pickle=False) as file:
            found = ImageScores(file["right"].astype(bool), float(file["chance"]))
    except (OSError, EOFError, ValueError, KeyError, BadZipFile):
        return None
    return found if found.right.size else None


def write_images(folder: RunFolder) -> None:
    """Score the final weights of a finished run once more, image by image, and write which it has right.

    Where the scores differ from those of `result.json`, nothing is known of single images, and the file holds none.

    Raises:
        GCPError: the weights or the images are not there any more.
    """
    from gcp.engine.distributed import ALONE
    from gcp.evaluation.scoring import score
    from gcp.runs.open_model import open_model

    expected = json.loads(folder.result.read_text())["test"]["final"]["top1"]
    model = open_model(str(folder.last), [], ALONE)
    config = model.config
    if config.train.cache_features and config.evaluate.crops == "one" and config.evaluate.image_size is None:
        from gcp.runs.features import score_cached

        samples = score_cached(model, "test")
    else:
        samples = score(model, "test", ALONE).samples
    right = samples.right.numpy()
    same = abs(100 * right.mean() - expected) < 1e-6
    chance = 100 * np.bincount(samples.labels.numpy()).max() / len(right)
    temporary = folder.path / f".{IMAGES}.tmp"
    with open(temporary, "wb") as file:
        np.savez_compressed(file, right=right if same else right[:0], chance=chance)
    os.replace(temporary, folder.path / IMAGES)


def write_failure(folder: RunFolder, message: str, nonfinite: bool = False, again: bool = False) -> None:
    """Note why a cell has no result."""
    write_json(folder.path / FAILURE, {"message": message, "nonfinite": nonfinite, "again": again})


def forget_failure(folder: RunFolder) -> None:
    """Before a cell is run again."""
    (folder.path / FAILURE).unlink(missing_ok=True)
