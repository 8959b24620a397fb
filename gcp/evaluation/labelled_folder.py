"""Scoring on a folder that no model could be trained on: one with `test/` alone, or with a part of the classes.

ROOT/test/CLASS/*   without a folder train
ROOT/CLASS/*        all images, unless it is what the run was trained on, of which its test split is scored

The classes are those of the model, by their names. Where the folder has a part of them only, as ImageNet-A has, the
logits of the others are left out, as its authors do (Hendrycks et al., CVPR 2021).
"""

import re
from dataclasses import replace
from pathlib import Path

from gcp.data import Splits
from gcp.data.annotations.layout import existing_folder, listed, scan, subfolders
from gcp.data.annotations.listing import SPLITS, by_class
from gcp.data.images import FileSet
from gcp.engine.timm_reference import TimmReference
from gcp.errors import CheckpointError, DataError, suggest
from gcp.runs.scored_model import ScoredModel

WORDNET = re.compile(r"n\d{8}")


def folder_to_score(scored_model: ScoredModel, split: str) -> tuple[ScoredModel, Splits] | None:
    """The model, restricted to the classes of the folder, and the folder as the test split; None where the data set is
    one with a split of its own to score.

    Raises CheckpointError for classes that the model does not have, DataError for another split than test.
    """
    data = scored_model.config.data
    if data.name != "folder" or data.root is None:
        return None
    place = _place(scored_model, existing_folder(data.root))
    if place is None:
        return None
    if split != "test":
        raise DataError(f"split={split}: {data.root} has no folder train; allowed: split=test, all images of {place}")
    by_name, faults = scan(place)
    if faults:
        raise DataError("\n".join(faults))
    names = _names(scored_model, by_name)
    files = by_class([by_name.get(name, []) for name in names])
    images = FileSet(files.paths, files.labels, scored_model.file_transform(), data.in_chans, scored_model.as_shown)
    rule = f"All {len(images):,} images of {place}."
    kept = tuple(number for number, name in enumerate(names) if name in by_name)
    if len(kept) < len(names):
        print(f"{'classes':<12}{len(kept)} of the {len(names)} of the model, those of {place}; the others are left out")
        names = tuple(names[number] for number in kept)
        files = by_class([by_name[name] for name in names])
        images = FileSet(files.paths, files.labels, images.transform, data.in_chans, scored_model.as_shown)
        scored_model = replace(scored_model, kept=kept)
    none = images.subset([])
    return scored_model, Splits(none, none, images, names, rule)


def _place(scored_model: ScoredModel, root: Path) -> Path | None:
    """The folder whose folders are the classes, None where the data set is whole."""
    inside = subfolders(root)
    if "train" in inside:
        return None
    if alone := [name for name in ("test", "val") if name in inside]:
        return root / alone[0]
    if root.name in SPLITS or scored_model.images is None:
        return root
    try:
        own = scored_model.splits().test.fingerprint()
    except (CheckpointError, DataError):
        return root
    return None if own == scored_model.images.get("test") else root


def _names(scored_model: ScoredModel, found: dict[str, list[str]]) -> tuple[str, ...]:
    """The classes of the model in their order."""
    names = scored_model.classes
    if names is None and isinstance(scored_model.model, TimmReference) and all(map(WORDNET.fullmatch, found)):
        from timm.data import ImageNetInfo

        names = tuple(ImageNetInfo("imagenet-1k").label_names())
        names = names if len(names) == scored_model.model.num_classes else None
    if names is None and len(found) == scored_model.model.num_classes:
        return tuple(found)
    if names is None:
        raise CheckpointError(
            f"{scored_model.given} tells no names of its {scored_model.model.num_classes} classes, and the folder has "
            f"{len(found)}: which they are is not known"
        )
    if strange := [name for name in found if name not in names]:
        raise CheckpointError(
            f"{scored_model.given} has no class {listed(strange)}, which the folder has.{suggest(strange[0], names)}"
        )
    return names
