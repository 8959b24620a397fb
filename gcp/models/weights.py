"""Weights from a file into a model whose shape may differ in the number of classes or the reduction.

Accepted: every layout of `gcp.models.layouts` in a file of torch or safetensors, a run folder, and the name of
weights of timm. Files are read as plain tensors; nothing in them is executed (see `gcp.models.checkpoints`).

Files of 2018 pack the row-major lower triangle, (0,0) (1,0) (1,1) (2,0) ..., later ones and this library the
row-major upper one, (0,0) (0,1) ... (0,d-1) (1,1) .... The matrix is symmetric, so entry (j,i) of the upper order
is entry (i,j) of the lower one, i >= j, and permuting the columns of the layer that reads it converts exactly.
"""

import logging
import sys
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gcp.command import typed
from gcp.errors import CheckpointError, OptionError
from gcp.kernels.triangle import triangle_size
from gcp.models.checkpoints import CONTAINERS, Checkpoint, State, open_checkpoint, unwrapped
from gcp.models.layouts import CLASSIFIER, Layout, best_spelling, recognise, rename

ORDERS = ("upper", "lower")


def upper_from_lower(d: int) -> Tensor:
    """Index (d(d+1)/2,) with `upper = lower[index]`: for each place of the upper order its place in the lower."""
    row, column = torch.triu_indices(d, d)
    return column * (column + 1) // 2 + row


def lower_from_upper(d: int) -> Tensor:
    """The inverse of `upper_from_lower`."""
    return torch.argsort(upper_from_lower(d))


def triangle_side(width: int) -> int | None:
    """The d with d(d+1)/2 = `width`, None where there is none."""
    d = int((2 * width) ** 0.5)
    return d if width > 0 and triangle_size(d) == width else None


def first_layer(state: dict[str, Tensor]) -> str | None:
    """Key of the weight (out, in) of the classifier's first linear layer, in a state dict of ours."""
    return next((key for key in ("classifier.weight", "classifier.0.weight") if key in state), None)


def reorder(state: dict[str, Tensor], to: str) -> dict[str, Tensor]:
    """A state dict of ours whose classifier reads the other order: `to` is "upper" or "lower".

    Raises OptionError where the classifier does not read a triangle.
    """
    key = first_layer(state)
    side = triangle_side(state[key].shape[1]) if key else None
    if key is None or side is None:
        width = f"takes {state[key].shape[1]} numbers" if key else "is not in the file"
        raise OptionError(f"there is no order to change: the classifier {width}, which is no d(d+1)/2")
    places = upper_from_lower(side) if to == "upper" else lower_from_upper(side)
    return {**state, key: state[key][:, places].contiguous()}


logger = logging.getLogger("gcp")

# Keys of old files lack it, and it is a counter that nothing here reads.
COUNTER = "num_batches_tracked"
FEATURES = "features."
POSITIONS = ("pos_embed", "relative_position", "rel_pos")  # in names of what depends on the size of the images
# A weight that the model divides by its spectral norm, and most files have as it is.
DIVIDED = ".parametrizations.weight.original"
# What a batch norm of a file has where the model whitens: the diagonal of its covariance.
VARIANCE, COVARIANCE = "running_var", "running_covariance"


def translate(checkpoint: Checkpoint, target: State, prefix: str = "") -> State:
    """The weights of a file under the names of `target`, which are ours without `prefix`.

    Raises CheckpointError where nothing fits.
    """
    layout = recognise(checkpoint.state).obj

    def fits(key: str, shape: tuple[int, ...]) -> bool:
        own = target.get(key.removeprefix(prefix))
        return own is not None and tuple(own.shape) == shape

    names = rename(checkpoint.state, best_spelling(checkpoint.state, layout, fits))
    state = {ours.removeprefix(prefix): checkpoint.state[theirs] for theirs, ours in names.items()}
    for key in [key for key in target if key.endswith(DIVIDED) and target[key].ndim > 1]:
        plain = key.removesuffix(DIVIDED) + ".weight"
        if plain in state and state[plain].shape == target[key].shape:
            state[key] = state.pop(plain)
    if not any(key in target and target[key].shape == value.shape for key, value in state.items()):
        raise CheckpointError(
            f"nothing in {checkpoint.path} fits the model. In the file: {_some(checkpoint.state)}. "
            f"In the model: {_some(target)}"
        )
    return state


def _diagonal(state: State, target: State) -> set[int]:
    """Turn the variances of batch norms into the diagonals of covariances where `target` has those; the ids of the
    tensors that this has used up.
    """
    used = set()
    for key in [key for key in target if key.endswith(COVARIANCE)]:
        plain, shape = key.removesuffix(COVARIANCE) + VARIANCE, target[key].shape
        if plain in state and state[plain].numel() == shape[0] * shape[1]:
            variance = state.pop(plain)
            used.add(id(variance))
            state[key] = torch.diag_embed(variance.view(shape[0], -1))
    return used


def _some(keys: Iterable[str], most: int = 5) -> str:
    names = list(keys)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _modules(keys: Iterable[str], among: Iterable[str]) -> list[str]:
    """Keys in short: `head` where they are all that `among` has of it, else its parts, down to single keys."""

    def prefixes(key: str) -> list[str]:
        return list(accumulate(key.split("."), "{}.{}".format))

    keys = list(keys)
    shared = {prefix for key in set(among).difference(keys) for prefix in prefixes(key)}
    return list(dict.fromkeys(next((p for p in prefixes(key) if p not in shared), key) for key in keys))


def _new(left_out: list[str], differing: dict[str, tuple[int, ...]], target: State) -> str:
    """What of the model keeps its initialisation, by module: `head, classifier (3 classes, 1000 in the file)`."""
    text = _some(_modules(left_out, target), 20)
    last = next((key for key in reversed(left_out) if key.startswith(CLASSIFIER) and key in differing), None)
    if last is not None and differing[last][0] != len(target[last]):
        text += f" ({len(target[last])} classes, {differing[last][0]} in the file)"
    return text


def _has_head(keys: Iterable[str]) -> bool:
    return any(key.startswith("head.") for key in keys)


def _unlike(differing: dict[str, tuple[int, ...]], target: State, other_head: bool) -> list[str]:
    """Tensors that the file has in another shape, each with both shapes, but for those of a classifier that follows
    from other classes or another head.
    """
    return [
        f"{key} ({shape} in the file, {tuple(target[key].shape)} in the model)"
        for key, shape in differing.items()
        if shape != tuple(target[key].shape)
        and not (key.startswith(CLASSIFIER) and (other_head or shape[1:] == tuple(target[key].shape[1:])))
    ]


def _faults(state: State, target: State) -> dict[str, str]:
    """Key of the target -> what is wrong with it in the file."""
    faults = {}
    for key, value in target.items():
        if key not in state and not key.endswith(COUNTER):
            faults[key] = "not in the file"
        elif key in state and state[key].shape != value.shape:
            faults[key] = f"{tuple(state[key].shape)} in the file, {tuple(value.shape)} in the model"
    return faults


def _summed(state: State, target: State) -> set[int]:
    """Sum the first convolution of a file for colours over them, where the model takes grey images: it answers a grey
    image as it would the same image in three equal channels. Returns the ids of the file's tensors that are used so.
    """
    used = set()
    for key, new in target.items():
        old = state.get(key)
        if old is None or not (old.ndim == new.ndim == 4 and old.shape[1] == 3 and new.shape[1] == 1):
            continue
        if old.shape[0] == new.shape[0] and old.shape[2:] == new.shape[2:]:
            used.add(id(old))
            state[key] = old.sum(1, keepdim=True)
            logger.info("%s: summed over the colours, for grey images", key)
    return used


def _require_backbone(faults: dict[str, str], state: State, target: State, path: str | Path) -> None:
    """Refuse a file of another backbone; only a first convolution of other input channels may differ."""
    if len(faults) == 1:
        (key,) = faults
        old, new = state.get(key), target[key]
        if old is not None and old.ndim == new.ndim == 4 and old.shape[::2] == new.shape[::2]:
            return
    if faults:
        listed = [f"{key} ({fault})" for key, fault in faults.items()]
        raise CheckpointError(
            f"{path} is of another backbone: {len(faults)} of {len(target)} tensors do not fit: {_some(listed, 2)}. "
            "Set model.backbone to that of the file, or model.pretrained to weights of this one"
        )


def _load(model: nn.Module, given: str | Path, required: str, prefix: str) -> None:
    """Load what fits; the keys of `model` that begin with `required` have to."""
    checkpoint = open_checkpoint(given)
    _require_factors(checkpoint, model)
    path, target = checkpoint.path, model.state_dict()
    translated = translate(checkpoint, target, prefix)
    variances = _diagonal(translated, target) | _summed(translated, target)
    state = _resampled(model, translated, target)
    faults = _faults(state, target)
    _require_stage(checkpoint, model, faults)
    _require_widths(checkpoint, faults)
    backbone = {key: fault for key, fault in faults.items() if key.startswith(required)}
    _require_backbone(backbone, state, {k: v for k, v in target.items() if k.startswith(required)}, path)
    # A layer is loaded whole or not at all: a bias without its weight would mean nothing.
    layers = {key.rpartition(".")[0] for key in faults}
    left_out = [key for key in target if key.rpartition(".")[0] in layers]
    kept = {key: value for key, value in state.items() if key in target and key not in left_out}
    model.load_state_dict(kept, strict=False)
    taken = {id(value) for key, value in translated.items() if key in target} | variances
    unused = [key for key, value in checkpoint.state.items() if id(value) not in taken]
    # A name that the file has too is not new to it, whatever its tensor was taken for: there its shape is another.
    theirs = state | {key: checkpoint.state[key] for key in left_out if key in unused}
    differing = {key: tuple(theirs[key].shape) for key in left_out if key in theirs}
    unused = _without_left_out(model, translated, checkpoint, [key for key in unused if key not in left_out])
    logger.info("weights    %s, layout %s", path, layout_text(checkpoint))
    parts = [f"new: {_new(left_out, differing, target)}"] if left_out else []
    if unused:
        parts.append(f"only in the file: {_some(_modules(unused, checkpoint.state))}")
    if parts:
        count = f"{len(kept)} of {len(target)} tensors"
        logger.warning("weights    loaded %s of %s; %s", count, path.name, "; ".join(parts))
    if unlike := _unlike(differing, target, other_head=_has_head(left_out) or _has_head(unused)):
        logger.warning("weights    left out of %s: %s", path.name, _some(unlike, 20))
    if checkpoint.averaged:
        logger.info("%s: of its weights the averaged ones are taken (%r)", path, checkpoint.container)
    _mention_order(checkpoint, kept)


def layout_text(checkpoint: Checkpoint) -> str:
    """How a file names its weights: `plain: torchvision or timm (prefix 'model.' off; names of transformers, ViT)`."""
    layout = recognise(checkpoint.state)
    return f"{layout}: {layout.summary}" + (f" ({checkpoint.names})" if checkpoint.names else "")


def _backbone_of(model: nn.Module) -> Any:
    """The Backbone of a Classifier, or the Backbone itself."""
    return getattr(model, "features", model)


def _without_left_out(model: nn.Module, state: State, checkpoint: Checkpoint, unused: list[str]) -> list[str]:
    """The names of the file that the model has no place for, without those of stages that were cut off on purpose."""
    backbone = _backbone_of(model)
    left_out = getattr(backbone, "left_out", ())
    if not left_out:
        return unused
    cut = {id(value) for key, value in state.items() if key.removeprefix(FEATURES).removeprefix("body.") in left_out}
    kept = [key for key in unused if id(checkpoint.state[key]) not in cut]
    if len(kept) < len(unused):
        logger.info("%s: %d tensors behind stage %s stay out", checkpoint.path, len(unused) - len(kept), backbone.stage)
    return kept


def _resampled(model: nn.Module, state: State, target: State) -> State:
    """The weights with the position embedding of another size of images brought to the grid of the model, by timm."""
    backbone = _backbone_of(model)
    prefix = next(
        (key[: key.index("body.") + 5] for key in target if key.startswith(("body.", f"{FEATURES}body."))), ""
    )
    differing = [key for key, value in target.items() if key in state and state[key].shape != value.shape]
    if not prefix or not any(word in key for key in differing for word in POSITIONS):
        return state
    mend = getattr(sys.modules[type(backbone.body).__module__], "checkpoint_filter_fn", None)
    if mend is None:
        return state
    own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    mended = {prefix + key: value for key, value in mend(own, backbone.body).items()}
    placed = [key for key in differing if key in mended and mended[key].shape == target[key].shape]
    if placed:
        logger.info("resampled for the grid of the model: %s", _some(placed))
    return {**state, **{key: mended[key] for key in placed}}


def _require_stage(checkpoint: Checkpoint, model: nn.Module, faults: dict[str, str]) -> None:
    """Raise CheckpointError where the backbone in the file was cut and that of the model was not, or elsewhere."""
    config = checkpoint.about.get("config")
    told = config.get("model") if isinstance(config, dict) else None
    stage = told.get("stage") if isinstance(told, dict) else None
    if stage is None or stage == getattr(_backbone_of(model), "stage", None):
        return
    if any("body." in key for key in faults):
        raise CheckpointError(
            f"{checkpoint.path} is of a backbone cut at stage {stage}, and that of the model is not: set "
            f"model.stage={stage}"
        )


def _mention_order(checkpoint: Checkpoint, kept: State) -> None:
    """A classifier of others that reads a triangle may read the order of 2018, at chance accuracy here."""
    if recognise(checkpoint.state).obj.packs and first_layer(kept):
        logger.warning(
            "%s: its classifier is taken to read the upper triangle. Files of 2018 read the lower one and score at "
            "chance like this; %s converts them",
            checkpoint.path,
            typed("convert", checkpoint.path, "OUT", "--order", "lower"),
        )


def take_foreign(model: nn.Module, state_dict: dict[str, Any], prefix: str = "") -> None:
    """Give the tensors of a known layout the names of a Classifier, in place, with a warning that says so.

    What has no place in the model keeps its name, so that strict loading reports it. A file as it was written, `{epoch,
    state_dict, ...}`, is taken for its weights. Keys that fit as they are, and those of no layout, are left alone.
    """
    target = model.state_dict()
    given = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    container = next((key for key in CONTAINERS if isinstance(given.get(key), dict)), None)
    given = given if container is None else given[container]
    state = {unwrapped(key): value for key, value in given.items()}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        return
    layout, lines = recognise(state), []
    if not state.keys() <= target.keys():
        try:
            named = translate(Checkpoint(Path("the state dict"), state), target)
        except CheckpointError:  # of another model: the names as they are say more
            return
        used = {id(value) for value in named.values()} | _diagonal(named, target)
        lines = [
            f"{len(used)} of {len(state)} tensors, layout {layout} ({layout.summary}), under the names of this model"
        ]
        lines += _told_otherwise(model, layout.obj, named)
        state = named | {key: value for key, value in state.items() if id(value) not in used}
    for key in [key for key in state_dict if key.startswith(prefix)]:
        del state_dict[key]
    state_dict.update({f"{prefix}{key}": value for key, value in state.items()})
    if layout.obj.packs and lines and first_layer(state):
        lines.append(
            "the classifier is taken to read the upper triangle; files of 2018 read the lower one (gcp convert)"
        )
    if lines:
        logger.warning("load_state_dict: %s", "; ".join(lines))


def _told_otherwise(model: nn.Module, layout: Layout, named: State) -> list[str]:
    """Where this model differs from the networks of a family of files, and in the width of the reduction."""
    own, reduction = getattr(model, "arguments", {}), named.get("head.reduction.0.weight")
    told = layout.arguments if reduction is None else {**layout.arguments, "dim": len(reduction)}
    return [
        f"such files have {key}={value}, this model has {own.get(key)}"
        for key, value in told.items()
        if own.get(key) != value
    ]


def factors_in(about: dict[str, Any]) -> list[str]:
    """The factors that the configuration in a file of ours names, none where there is no configuration."""
    config = about.get("config")
    model = config.get("model") if isinstance(config, dict) else None
    return list(model.get("factors") or ()) if isinstance(model, dict) else []


def _require_factors(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Raise CheckpointError where layers of the file are factored and those of the model are not."""
    told = factors_in(checkpoint.about)
    if not told:
        return
    from gcp.compress.factors import factors_of

    if missing := [factor for factor in told if factor not in factors_of(model)]:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise CheckpointError(
            f"{checkpoint.path} is compressed, and the model is not in the same way ({shown}). Set model.factors as in "
            f"its configuration: model.factors=[{','.join(told)}]"
        )


def _require_widths(checkpoint: Checkpoint, faults: dict[str, str]) -> None:
    """Raise CheckpointError where the widths of the file are its own, and the model has others."""
    config = checkpoint.about.get("config")
    model = config.get("model") if isinstance(config, dict) else None
    told = model.get("widths") if isinstance(model, dict) else None
    if told and any(key.startswith(FEATURES) for key in faults):
        shown = ", ".join(f"{name}: {width}" for name, width in told.items())
        raise CheckpointError(
            f"{checkpoint.path} has widths of its own, which the model has not. Set model.widths as in its "
            f"configuration: 'model.widths={{{shown}}}'"
        )


def load_backbone(backbone: nn.Module, given: str | Path) -> None:
    """Load a file of any layout, a run folder or weights of timm into a Backbone. Raises CheckpointError."""
    _load(backbone, given, "", FEATURES)


def load_classifier(model: nn.Module, given: str | Path) -> None:
    """Load a file of any layout, a run folder or weights of timm into a Classifier: all the parts that it has.

    Where the number of classes or the width of the reduction differs, the layers that do not fit keep their
    initialisation and a warning names them. Raises CheckpointError where the backbone does not fit.
    """
    _load(model, given, FEATURES, "")
