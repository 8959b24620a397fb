"""fast-MPN-COV's `mpncovresnet`: torchvision's ResNet with `layer_reduce`, `layer_reduce_bn` and `fc` beside it.

Its last stage has stride 1 (14x14 at 224 pixels), its root is that of Newton-Schulz.
"""

from gcp.models.layouts.layout import BODY, CLASSIFIER, LAYOUTS, REDUCTION, Layout

SPELLING = (
    ("layer_reduce.", f"{REDUCTION}0."),
    ("layer_reduce_bn.", f"{REDUCTION}1."),
    ("fc.", CLASSIFIER),
    ("", BODY),
)

LAYOUTS.add(
    "fast_mpn_cov",
    Layout(
        lambda state: "layer_reduce.weight" in state and "layer4.0.conv1.weight" in state,
        (SPELLING,),
        {"head": "newton_schulz", "last_stride": 1},
        packs=True,
    ),
    summary="fast-MPN-COV, mpncovresnet",
    paper="Li et al., CVPR 2018",
)
