"""How files of others name their weights: a Layout for each family of files, and how to recognise it by its keys."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from gcp.models.checkpoints import State
from gcp.registry import Entry, Registry

Spelling = tuple[tuple[str, str], ...]
REDUCTION, CLASSIFIER, BODY = "head.reduction.", "classifier.", "features.body."
REDUCED = "representation.conv_dr_block.0.weight"


@dataclass(frozen=True)
class Layout:
    """One family of files.

    Attributes:
        recognise: whether a state dict is of this family, by its keys.
        spellings: ways to turn its keys into ours; each is pairs (prefix there, prefix here), of which the first
            that a key begins with counts. Where there are several, the one under which most tensors fit is taken.
        arguments: what the family fixes about the model beyond its shapes, as arguments of `create_model`.
        packs: whether the classifier reads a triangle, whose order the keys do not show.
        own_images: whether its images are ImageNet's as published, whatever others say of the backbone.
        wrapped: a prefix that DataParallel lengthened by `module.` in the published files, for writing them.
    """

    recognise: Callable[[State], bool]
    spellings: tuple[Spelling, ...]
    arguments: dict[str, Any] = field(default_factory=dict)
    packs: bool = False
    own_images: bool = True
    wrapped: str = ""


LAYOUTS: Registry[Layout] = Registry("layout")
FALLBACK = "plain"


def recognise(state: State) -> Entry[Layout]:
    """The layout of a state dict; `plain` (torchvision, timm) where its keys are those of no other."""
    return next((entry for entry in LAYOUTS.list() if entry.obj.recognise(state)), LAYOUTS[FALLBACK])


def rename(keys: Iterable[str], spelling: Spelling) -> dict[str, str]:
    """Key of the file -> key of ours; keys that no prefix fits stay out."""
    found = {}
    for key in keys:
        pair = next((pair for pair in spelling if key.startswith(pair[0])), None)
        if pair is not None:
            found[key] = pair[1] + key.removeprefix(pair[0])
    return found


def restore(keys: Iterable[str], layout: Layout) -> dict[str, str]:
    """Key of ours -> key of the file: the inverse of `rename`, with the prefix of DataParallel where it was."""

    def backwards(spelling: Spelling) -> dict[str, str]:
        return rename(keys, tuple((ours, theirs) for theirs, ours in spelling))

    def named(spelling: Spelling) -> tuple[int, int]:  # of two that name all, the one whose prefixes say more
        return len(backwards(spelling)), sum(len(ours) for _, ours in spelling)

    keys = list(keys)
    names = backwards(max(layout.spellings, key=named))
    if not layout.wrapped:
        return names
    wrapped = layout.wrapped
    return {ours: wrapped + "module." + theirs.removeprefix(wrapped) if theirs.startswith(wrapped) else theirs
            for ours, theirs in names.items()}  # fmt: skip


def best_spelling(state: State, layout: Layout, fits: Callable[[str, tuple[int, ...]], bool]) -> Spelling:
    """The spelling under which most tensors of the file fit, by `fits(our key, shape)`; the first of equals."""

    def count(spelling: Spelling) -> int:
        renamed = rename(state, spelling)
        return sum(fits(ours, tuple(state[theirs].shape)) for theirs, ours in renamed.items())

    return max(layout.spellings, key=count)


def _has(*keys: str) -> Callable[[State], bool]:
    return lambda state: all(key in state for key in keys)


def _reduced_from(kernel: int) -> Callable[[State], bool]:
    """A reduction behind features whose first convolution has a kernel of this side."""

    def recognised(state: State) -> bool:
        first = state.get("features.0.weight")
        return REDUCED in state and first is not None and tuple(first.shape[-2:]) == (kernel, kernel)

    return recognised


# DifferentiableSVD has torchvision's children in a Sequential: of ResNet 0 conv1, 1 bn1, 4 to 7 layer1 to layer4; of
# AlexNet with batch norm the convolutions at 0, 4, 8, 11, 14 and the norms at 1, 5, 9, 12, 15, as our `alexnet_bn`.
# Files that were fine-tuned without the reduction have no `representation`.
_is_resnet = _has("features.0.weight", "features.7.0.conv1.weight")
_RESNET: Spelling = (
    ("features.0.", f"{BODY}conv1."),
    ("features.1.", f"{BODY}bn1."),
    *((f"features.{3 + stage}.", f"{BODY}layer{stage}.") for stage in (1, 2, 3, 4)),
)
_HEAD: Spelling = (("representation.conv_dr_block.", REDUCTION), ("classifier.", CLASSIFIER))

LAYOUTS.add(
    "differentiable_svd",
    Layout(
        lambda state: _is_resnet(state) and "features.8.weight" not in state,
        ((*_RESNET, *_HEAD),),
        packs=True,
        wrapped="features.",
    ),
    summary="DifferentiableSVD from scratch, ResNet",
    paper="Song et al., ICCV 2021",
)
LAYOUTS.add(
    "differentiable_svd_alexnet",
    Layout(_reduced_from(11), ((("features.", BODY), *_HEAD),), packs=True, wrapped="features."),
    summary="DifferentiableSVD from scratch, AlexNet with batch norm",
    paper="Song et al., ICCV 2021",
)
# Fine-tuned from an mpncovresnet, whose last stage has stride 1: 8 is the convolution of the reduction, 9 its norm.
LAYOUTS.add(
    "differentiable_svd_finetuned",
    Layout(
        lambda state: _is_resnet(state) and "features.8.weight" in state,
        (
            (
                *_RESNET,
                ("features.8.", f"{REDUCTION}0."),
                ("features.9.", f"{REDUCTION}1."),
                ("classifier.", CLASSIFIER),
            ),
        ),
        {"last_stride": 1},
        packs=True,
    ),
    summary="DifferentiableSVD fine-tuned from mpncovresnet",
    paper="Song et al., ICCV 2021",
)
# torchvision's ResNet with the reduction and `fc` beside it; its last stage has stride 1 (14x14 at 224 pixels).
LAYOUTS.add(
    "fast_mpn_cov",
    Layout(
        _has("layer_reduce.weight", "layer4.0.conv1.weight"),
        (
            (
                ("layer_reduce.", f"{REDUCTION}0."),
                ("layer_reduce_bn.", f"{REDUCTION}1."),
                ("fc.", CLASSIFIER),
                ("", BODY),
            ),
        ),
        {"head": "newton_schulz", "last_stride": 1},
        packs=True,
    ),
    summary="fast-MPN-COV, mpncovresnet",
    paper="Li et al., CVPR 2018",
)
LAYOUTS.add(
    "mmpretrain",
    Layout(
        lambda state: any(key.startswith("backbone.") for key in state),
        (
            (("backbone.", BODY),),
            *((("backbone.", BODY), (name, CLASSIFIER)) for name in ("head.fc.", "fc.", "classifier.", "head.")),
        ),
        {"head": "average"},
    ),
    summary="mmpretrain (mmcls), ImageClassifier, and others with `backbone.` and a classifier",
)
# torchvision's VGG up to its last max pool and three linear layers; timm names its layers alike, one level deeper.
LAYOUTS.add(
    "mpncov_vgg",
    Layout(
        _reduced_from(3),
        ((("features.", BODY), *_HEAD), (("features.", f"{BODY}features."), *_HEAD)),
        {"head": "newton_schulz"},
        packs=True,
        wrapped="features.",
    ),
    summary="fast-MPN-COV, mpncovvgg",
    paper="Li et al., CVPR 2018",
)
# A Classifier (`features.body.`, `head.`, `classifier.`), or a Backbone alone (`body.`).
LAYOUTS.add(
    "own",
    Layout(
        lambda state: any(key.startswith(BODY) for key in state) or all(key.startswith("body.") for key in state),
        ((("", ""),), (("body.", BODY),)),
    ),
    summary="this library",
)

# torchvision and timm: the network's own names, taken where the keys are those of no other layout. Their linear layer
# reads the mean of the map, so it fits behind the head `average` without a reduction. A network that normalises
# between the mean and the linear layer (`head.norm`) computes something else.
_BODIES = (
    (("", BODY),),
    (("features.", BODY),),  # torchvision's AlexNet and VGG, of which the body is the features
)
_LINEAR = tuple(
    ((f"{name}.weight", f"{CLASSIFIER}weight"), (f"{name}.bias", f"{CLASSIFIER}bias")) for name in ("fc", "classifier")
)
LAYOUTS.add(
    FALLBACK,
    Layout(
        lambda state: False,
        (*_BODIES, *((*linear, *_BODIES[0]) for linear in _LINEAR)),
        {"head": "average"},
        own_images=False,
    ),
    summary="torchvision or timm",
)
