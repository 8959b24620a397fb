"""torchvision and timm: the network's own names. Taken where the keys are those of no other layout.

Their linear layer reads the mean of the map, so it is taken where it fits: behind the head `average` without a
reduction. A network that normalises between the mean and the linear layer (`head.norm`) computes something else.
"""

from gcp.models.layouts.layout import BODY, CLASSIFIER, FALLBACK, LAYOUTS, Layout

BODIES = (
    (("", BODY),),
    (("features.", BODY),),  # torchvision's AlexNet and VGG, of which the body is the features
)
LINEAR = tuple(
    ((f"{name}.weight", f"{CLASSIFIER}weight"), (f"{name}.bias", f"{CLASSIFIER}bias")) for name in ("fc", "classifier")
)

LAYOUTS.add(
    FALLBACK,
    Layout(
        lambda state: False,
        (*BODIES, *((*linear, *BODIES[0]) for linear in LINEAR)),
        {"head": "average"},
    ),
    summary="torchvision or timm",
)
