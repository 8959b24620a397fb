"""The backbone and the classifier of a run."""

from typing import Literal

from pydantic import Field

from gcp.config.sections.base import Section
from gcp.config.values import Below1, Names, Sizes, SpectralNorm, Text, Widths


class Model(Section):
    """The backbone and the classifier around the head."""

    backbone: Text = Field(default="resnet18", description="any timm or torchvision name, see --list backbones")
    pretrained: bool | Text = Field(
        default=False,
        description="weights to start from; true: the published ones (a download); a path: a run folder or a "
        "checkpoint file of any known layout; the name of weights of timm, such as resnet50.a1_in1k; false: none",
    )
    last_stride: Literal[1, 2] | None = Field(
        default=None,
        description="stride of the last stage: 1 doubles the side of the map; null: as published",
    )
    freeze: Names = Field(
        default=(),
        description="parts that are not trained: features, head, classifier, or a part of them such as "
        "features.layer1; their batch-norm statistics stay as they are",
    )
    hidden: Sizes | None = Field(
        default=None,
        description="widths of the hidden layers of the classifier; []: one linear layer; null: the "
        "backbone's published classifier",
    )
    dropout: Below1 | None = Field(default=None, description="dropout in the classifier; null: as published")
    classifier_norm: SpectralNorm = Field(
        default=None,
        description="divide the weights of the classifier by their spectral norms: power (one iteration a step), "
        "exact, bound (never above 1); null: not",
    )
    factors: Names = Field(
        default=(),
        description="layers that are products of thinner ones, such as classifier=200, as gcp compress writes them",
    )
    widths: Widths = Field(
        default_factory=dict,
        description="widths that differ from those of the backbone, under the names of evolution.csv; an "
        "evolved checkpoint has its own here",
    )
