"""The normalising flow of a run."""

from typing import Annotated, Literal

from pydantic import Field

from gcp.config.duration import Duration
from gcp.config.sections.base import Section
from gcp.config.values import Below1, Count, Interval, Positive

Temperatures = Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]


class Flow(Section):
    """Glow: levels of steps, each an actnorm, an invertible 1x1 convolution and a coupling."""

    form: Literal["plain", "plu", "svd"] = Field(
        default="svd",
        description="matrix of the 1x1 convolutions: plain; plu: triangular factors; svd: its singular value "
        "decomposition",
    )
    spectrum: Literal["exp", "softplus", "box", "fixed"] = Field(
        default="exp", description="how the singular values of form svd are kept positive"
    )
    levels: Count = Field(default=2, description="levels; each halves the sides of the map")
    steps: Count = Field(default=8, description="steps of a level")
    width: Count = Field(default=64, description="channels of the hidden layers of a coupling")
    coupling: Literal["affine", "additive"] = Field(
        default="affine", description="what a coupling does: affine moves and scales, additive moves"
    )
    dropout: Below1 = Field(default=0.0, description="dropout in the networks of the couplings")
    temperatures: Temperatures = Field(
        default=(0.5, 0.7, 0.85, 1.0), description="deviations of the numbers that samples are drawn from"
    )
    draw: Interval = Field(default=Duration(10, "percent"), description="how often samples.png is drawn")

    def unread(self) -> dict[str, str]:
        """The spectrum of matrices that are not their singular value decomposition."""
        return {} if self.form == "svd" else {"spectrum": "form=svd"}
