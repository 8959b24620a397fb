"""This library: a Classifier (`features.body.`, `head.`, `classifier.`), or a Backbone alone (`body.`)."""

from gcp.models.checkpoints import State
from gcp.models.layouts.layout import BODY, LAYOUTS, Layout


def _recognise(state: State) -> bool:
    return any(key.startswith(BODY) for key in state) or all(key.startswith("body.") for key in state)


LAYOUTS.add(
    "own",
    Layout(_recognise, ((("", ""),), (("body.", BODY),))),
    summary="this library",
)
