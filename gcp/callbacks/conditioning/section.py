"""Keys of the section `optim` that condition the layer before the covariance."""

from typing import Literal

from pydantic import Field

from gcp.config.values import Section


class Conditioning(Section):
    """The step of the reduction's convolution."""

    nog: bool = Field(
        default=False,
        description="nearest-orthogonal gradient of the reduction's convolution: U V^T for G = U diag(s) V^T, after "
        "clip",
    )
    olr: Literal["paper", "exact"] | None = Field(
        default=None,
        description="learning rate of the reduction's convolution, at most lr: paper: the published optimal one; "
        "exact: the one that minimises |W W^T - I|; null: lr",
    )
