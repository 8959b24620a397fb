"""What a file of weights is, in lines to read."""

from gcp.models.checkpoints import Checkpoint
from gcp.models.layouts import LAYOUTS
from gcp.models.summary import Summary


def describe(checkpoint: Checkpoint, summary: Summary) -> str:
    """What a file is, one line for each fact."""
    assumed = "" if summary.head_told or summary.head is None else " (assumed from the width; the file does not tell)"
    order = {
        "": "none: the classifier reads no triangle",
        "upper": "upper",
        "unknown": "not told by the file: upper (2019 and later) or lower (2018); --data tells by the accuracy",
    }[summary.order]
    averaged = " (averaged weights)" if checkpoint.averaged else ""
    stride = {None: "as the backbone has it", 1: "1", 2: "2"}[summary.last_stride]
    lines = {
        "file": f"{checkpoint.path}{averaged}",
        "layout": f"{summary.layout}: {LAYOUTS[summary.layout].summary}",
        "backbone": summary.backbone or "none of the usual ones; name it by --backbone",
        "last stride": stride,
        "head": f"{summary.head or 'none of this library'}{assumed}",
        "d": summary.dim if summary.dim is not None else "no reduction",
        "classifier": _layers(summary),
        "classes": summary.num_classes if summary.num_classes is not None else "not told",
        "order": order,
        "epoch": summary.epoch if summary.epoch is not None else "not told",
        "size": f"{summary.tensors} tensors, {summary.parameters / 1e6:.2f} million numbers",
    }
    return "\n".join(f"{key:<12}{value}" for key, value in lines.items())


def _layers(summary: Summary) -> str:
    widths = [summary.width, *summary.hidden, summary.num_classes]
    return " -> ".join(map(str, widths)) if summary.width else "none that a head of this library can stand before"
