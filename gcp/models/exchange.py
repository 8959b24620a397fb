"""Another head in the place of a model's own, around the very tensors that are there.

Heads that share reduction and outputs differ in their arithmetic only: an optimizer, an average of the weights and a
state dict that were made for the one are as good for the other.
"""

from typing import Any

from gcp.errors import OptionError
from gcp.heads import Head, create_head
from gcp.models.classifier import Classifier
from gcp.models.freeze import MARK, is_frozen


def misfit(old: Head, new: Head) -> str | None:
    """Why `new` cannot take the place of `old`; None where it can."""
    if old.out_features != new.out_features:
        return f"{new.out_features} outputs in place of {old.out_features}"
    own = [key for head in (old, new) for key in head.state_dict() if not key.startswith("reduction.")]
    return f"tensors of its own: {', '.join(own)}" if own else None


def exchange_head(model: Classifier, name: str, **options: Any) -> None:
    """Pool with the head `name` from now on; reduction and flag of the old one stay, no random number is drawn.

    `options` are those of `gcp.heads.create_head` but `dim` and `reduction`.
    Raises OptionError where the heads differ in their outputs or have tensors beside the reduction.
    """
    old = model.head
    new = create_head(name, old.channels, **options)
    if reason := misfit(old, new):
        raise OptionError(f"head {name!r} cannot take the place of this model's head: {reason}.")
    new.train(old.training)  # before the reduction joins it, which may be frozen
    new.in_channels, new.reduction, new.nonfinite = old.in_channels, old.reduction, old.nonfinite
    if is_frozen(old):
        setattr(new, MARK, True)
    model.head = new
    parts = ("backbone", "num_classes", "dim", "last_stride", "in_chans", "hidden", "dropout", "factors", "widths")
    kept = {k: v for k, v in model.arguments.items() if k in (*parts, "classifier_norm", "reduction", "spectral_norm")}
    model.arguments = {**kept, "head": name, **options}
