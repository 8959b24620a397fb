"""From a file of any layout to a Classifier, and from a Classifier's weights to the layouts of others."""

from typing import Any

from gcp.errors import CheckpointError
from gcp.models.checkpoints import Checkpoint, State
from gcp.models.classifier import Classifier, create_model
from gcp.models.layouts import LAYOUTS, recognise, rename, restore
from gcp.models.summary import CONVERTED, Summary, plain_value
from gcp.models.weights import COUNTER, reorder

KEPT = ("epoch", "arch", "best_prec1")  # what a converted file keeps about the one that it comes from


def arguments_of(summary: Summary, **changes: Any) -> dict[str, Any]:
    """Arguments of `create_model` for the model of a file; `changes` that are not None come on top.

    Raises CheckpointError where the file does not hold enough to build its model.
    """
    arguments = summary.arguments | {key: value for key, value in changes.items() if value is not None}
    if arguments["backbone"] is None:
        raise CheckpointError("the backbone is none of the usual ones; name it by --backbone NAME (--list backbones)")
    if arguments["num_classes"] is None or arguments["head"] is None:
        raise CheckpointError(
            f"the file has no classifier that a head of this library can stand before (layout: {summary.layout}, width "
            f"{summary.width}). Give it to a training as model.pretrained=FILE, which takes the backbone"
        )
    return arguments


def ours(checkpoint: Checkpoint, summary: Summary) -> State:
    """The weights of a file under our names; what has no place there stays out."""
    return {mine: checkpoint.state[theirs] for theirs, mine in rename(checkpoint.state, summary.spelling).items()}


def build_model(checkpoint: Checkpoint, summary: Summary, order: str = "upper", **changes: Any) -> Classifier:
    """The model of a file with its weights, in evaluation mode.

    Args:
        checkpoint: the file.
        summary: of it.
        order: of the triangle that its classifier reads.
        **changes: arguments of `create_model` that the file does not hold, None for none.

    Raises:
        CheckpointError: the file does not hold enough to build its model, or does not fit the model that these
            arguments make.
        OptionError: an order for a classifier that reads no triangle.
    """
    arguments = arguments_of(summary, **changes)
    state = ours(checkpoint, summary)
    if order != "upper":
        state = reorder(state, to="upper")
    model = create_model(**arguments)
    own = model.state_dict()
    kept = {key: value for key, value in state.items() if key in own}
    faults = [key for key, value in own.items() if key not in kept and not key.endswith(COUNTER)]
    faults += [
        f"{key} ({tuple(value.shape)} in the file, {tuple(own[key].shape)} in the model)"
        for key, value in kept.items()
        if value.shape != own[key].shape
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise CheckpointError(
            f"{checkpoint.path} does not fit {arguments['backbone']} with head {arguments['head']} and dim "
            f"{arguments['dim']}: {', '.join(faults[:5])}{more}"
        )
    model.load_state_dict(kept, strict=False)
    return model.eval()


def left_over(checkpoint: Checkpoint, summary: Summary, model: Classifier) -> list[str]:
    """Keys of the file that have no place in the model."""
    own = model.state_dict()
    names = rename(checkpoint.state, summary.spelling)
    return [key for key in checkpoint.state if names.get(key) not in own]


def names_in(checkpoint: Checkpoint, summary: Summary) -> dict[str, str]:
    """Our names -> those in the file, prefixes of wrapped models included."""
    names = rename(checkpoint.state, summary.spelling)
    return {mine: checkpoint.wrapped.get(theirs, theirs) for theirs, mine in names.items()}


def origin(checkpoint: Checkpoint, summary: Summary, order: str) -> dict[str, Any]:
    """Where converted weights come from: the file, its layout and order, and its own names, for the way back."""
    kept = {key: plain_value(checkpoint.about.get(key)) for key in KEPT}
    return {
        "file": checkpoint.path.name,
        "layout": summary.layout,
        "order": order,
        "names": names_in(checkpoint, summary),
        **{key: value for key, value in kept.items() if value is not None},
    }


def export(checkpoint: Checkpoint, summary: Summary, to: str, state: State, order: str | None = None) -> dict[str, Any]:
    """A file in the layout `to`: {epoch, arch, state_dict, best_prec1}.

    Args:
        checkpoint: the file that the weights come from.
        summary: of it.
        to: name of a layout.
        state: the weights under our names, their classifier in the upper order.
        order: of the triangle in the new file; None is that of the file it once was, else upper.

    A file that is or was in this layout gets back the very names that it had.
    Raises UnknownNameError (layout), OptionError (order), CheckpointError (weights that the layout has no names for).
    """
    layout = LAYOUTS[to].obj
    source = checkpoint.about.get(CONVERTED)
    source = source if isinstance(source, dict) and source.get("layout") == to else {}
    names = source.get("names") or (names_in(checkpoint, summary) if summary.layout == to else restore(state, layout))
    order = order or source.get("order") or "upper"
    if order != "upper":
        state = reorder(state, to=order)
    missing = [key for key in state if key not in names and not key.endswith(COUNTER)]
    written = {names[key]: value.contiguous().clone() for key, value in state.items() if key in names}
    if missing or recognise(_unwrapped(written)) != to:
        shown = f"no name there for {', '.join(missing[:3])}" if missing else "its keys would be those of another"
        raise CheckpointError(f"{summary.backbone} with {summary.head} cannot be written in layout {to!r}: {shown}")
    about = {**{key: plain_value(checkpoint.about.get(key)) for key in KEPT}, **source}
    return {
        "epoch": summary.epoch or 0,
        "arch": about.get("arch") or summary.backbone,
        "state_dict": written,
        "best_prec1": about.get("best_prec1") or 0.0,
    }


def _unwrapped(state: State) -> State:
    return {key.replace("features.module.", "features.", 1): value for key, value in state.items()}
