"""fast-MPN-COV's `mpncovvgg`: torchvision's VGG up to its last max pool, three linear layers behind the triangle."""

from gcp.models.checkpoints import State
from gcp.models.layouts.differentiable_svd import HEAD
from gcp.models.layouts.layout import BODY, LAYOUTS, Layout


def _recognise(state: State) -> bool:
    first = state.get("features.0.weight")
    reduced = "representation.conv_dr_block.0.weight" in state
    return reduced and first is not None and tuple(first.shape[-2:]) == (3, 3)


LAYOUTS.add(
    "mpncov_vgg",
    Layout(
        _recognise,
        # The two libraries that have VGG name its layers alike, timm one level deeper.
        ((("features.", BODY), *HEAD), (("features.", f"{BODY}features."), *HEAD)),
        {"head": "newton_schulz"},
        packs=True,
        wrapped="features.",
    ),
    summary="fast-MPN-COV, mpncovvgg",
    paper="Li et al., CVPR 2018",
)
