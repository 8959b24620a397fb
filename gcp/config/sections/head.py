"""The pooling head of a run."""

from typing import Annotated, Literal

from pydantic import Field

from gcp.config.sections.base import Options
from gcp.config.values import Count, SpectralNorm, Text

Side = Annotated[
    Literal["auto", "channel", "sample"],
    Field(description="matrix that is decomposed: channels or samples; auto: the smaller"),
]
Form = Annotated[
    Literal["folded", "published"],
    Field(description="backward: closed form, or the published factor with its instability"),
]
Precision = Annotated[
    Literal["float32", "float64"] | None,
    Field(description="precision inside the head; null: float64 for eigen-heads, float32 for iterative ones"),
]


class Head(Options):
    """The pooling head. The head's own options stand beside these keys; null removes an inherited one."""

    name: Text = Field(default="svd_pade", description="pooling head, see --list heads")
    dim: Count | None = Field(
        default=64,
        description="channels after the reduction, d: the head has d(d+1)/2 outputs; null: no reduction",
    )
    side: Side = "auto"
    form: Form = "folded"
    precision: Precision = None
    reduction: Text = Field(
        default="conv",
        description="how channels are reduced to dim: conv is 1x1 convolution, batch norm, ReLU; orthogonal is the "
        "same with orthonormal rows of the convolution",
    )
    spectral_norm: SpectralNorm = Field(
        default=None,
        description="divide the weight of the reduction's convolution by its spectral norm, as model.classifier_norm",
    )
