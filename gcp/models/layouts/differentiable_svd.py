"""DifferentiableSVD, trained from scratch: `features.module.<i>`, `representation.conv_dr_block`, `classifier`.

The features are torchvision's children in a Sequential: of ResNet 0 conv1, 1 bn1, 4 to 7 layer1 to layer4; of
AlexNet with batch norm the convolutions at 0, 4, 8, 11, 14 and the norms at 1, 5, 9, 12, 15, which is our
`alexnet_bn`. Files that were fine-tuned without the reduction have no `representation`.
"""

from gcp.models.checkpoints import State
from gcp.models.layouts.layout import BODY, CLASSIFIER, LAYOUTS, REDUCTION, Layout, Spelling

RESNET: Spelling = (
    ("features.0.", f"{BODY}conv1."),
    ("features.1.", f"{BODY}bn1."),
    *((f"features.{3 + stage}.", f"{BODY}layer{stage}.") for stage in (1, 2, 3, 4)),
)
HEAD: Spelling = (("representation.conv_dr_block.", REDUCTION), ("classifier.", CLASSIFIER))


def is_resnet(state: State) -> bool:
    """Whether `features` holds the children of a ResNet."""
    return "features.0.weight" in state and "features.7.0.conv1.weight" in state


def _resnet(state: State) -> bool:
    return is_resnet(state) and "features.8.weight" not in state


def _alexnet(state: State) -> bool:
    first = state.get("features.0.weight")
    reduced = "representation.conv_dr_block.0.weight" in state
    return reduced and first is not None and tuple(first.shape[-2:]) == (11, 11)


LAYOUTS.add(
    "differentiable_svd",
    Layout(_resnet, ((*RESNET, *HEAD),), packs=True, wrapped="features."),
    summary="DifferentiableSVD from scratch, ResNet",
    paper="Song et al., ICCV 2021",
)
LAYOUTS.add(
    "differentiable_svd_alexnet",
    Layout(_alexnet, ((("features.", BODY), *HEAD),), packs=True, wrapped="features."),
    summary="DifferentiableSVD from scratch, AlexNet with batch norm",
    paper="Song et al., ICCV 2021",
)
