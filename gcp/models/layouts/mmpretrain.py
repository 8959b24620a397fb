"""mmpretrain: torchvision's names under `backbone.`, the linear layer `head.fc` behind average pooling."""

from gcp.models.checkpoints import State
from gcp.models.layouts.layout import BODY, CLASSIFIER, LAYOUTS, Layout


def _recognise(state: State) -> bool:
    return any(key.startswith("backbone.") for key in state)


SPELLING = (("backbone.", BODY), ("head.fc.", CLASSIFIER))

LAYOUTS.add(
    "mmpretrain",
    Layout(_recognise, (SPELLING[:1], SPELLING), {"head": "average"}),
    summary="mmpretrain (mmcls), ImageClassifier",
)
