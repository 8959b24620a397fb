"""Whether a checkpoint is of the data at hand."""

from gcp.data import Splits
from gcp.errors import CheckpointError


def check_images(saved: dict, splits: Splits, source: str) -> None:
    """Refuse to continue on other images: those held out from training could be in it now.

    Raises:
        CheckpointError: a split has other files or labels than when the run began.
    """
    theirs, ours = saved.get("images", {}), splits.fingerprint()
    changed = [f"{name} ({theirs.get(name)} then, {ours[name]} now)" for name in ours if ours[name] != theirs.get(name)]
    if changed:
        raise CheckpointError(
            f"{source} was trained on other images: {', '.join(changed)}. Going on could train on what was held out. "
            f"Put the files back, or begin a new run from its weights: model.pretrained={source}"
        )


def check_classes(saved: dict, splits: Splits, source: str) -> None:
    """Refuse a checkpoint whose classes are not those of the data.

    Raises:
        CheckpointError: another number of classes, or other names.
    """
    theirs, ours = list(saved.get("classes", [])), list(splits.classes)
    if len(theirs) != len(ours):
        raise CheckpointError(f"{source} was trained on {len(theirs)} classes, the data set has {len(ours)}")
    if theirs != ours:
        place = next(i for i, pair in enumerate(zip(theirs, ours, strict=True)) if pair[0] != pair[1])
        raise CheckpointError(
            f"{source} was trained on other classes: class {place} is {theirs[place]!r} there and "
            f"{ours[place]!r} in the data set"
        )
