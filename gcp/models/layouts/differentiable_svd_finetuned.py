"""DifferentiableSVD, fine-tuned from an mpncovresnet: its children in a Sequential, the reduction among them.

As in `differentiable_svd`, but 8 is the convolution of the reduction and 9 its norm; nothing is under
`representation`. The network is fast-MPN-COV's, whose last stage has stride 1.
"""

from gcp.models.checkpoints import State
from gcp.models.layouts.differentiable_svd import RESNET, is_resnet
from gcp.models.layouts.layout import CLASSIFIER, LAYOUTS, REDUCTION, Layout


def _recognise(state: State) -> bool:
    return is_resnet(state) and "features.8.weight" in state


SPELLING = (
    *RESNET,
    ("features.8.", f"{REDUCTION}0."),
    ("features.9.", f"{REDUCTION}1."),
    ("classifier.", CLASSIFIER),
)

LAYOUTS.add(
    "differentiable_svd_finetuned",
    Layout(_recognise, (SPELLING,), {"last_stride": 1}, packs=True),
    summary="DifferentiableSVD fine-tuned from mpncovresnet",
    paper="Song et al., ICCV 2021",
)
