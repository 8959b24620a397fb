"""`seb`: the covariance root scaled by one plus the norm of its damped spectrum."""

from torch import Tensor

from gcp.heads.base import HEADS, Head, HeadKind
from gcp.ops.triangle import triangle_size
from gcp.sqrtm import scaled_root


class ScalingBranch(Head):
    """triangle(Q (1 + s)), s = sqrt(sum_i l_i exp(-2 l_i)); small eigenvalues gain weight."""

    def __init__(
        self,
        in_channels: int,
        dim: int | None = None,
        reduction: str = "conv",
        side: str = "auto",
        precision: str | None = None,
    ):
        super().__init__(in_channels, dim, reduction)
        self.root = scaled_root(side, precision)
        self.out_features = triangle_size(self.channels)

    def pool(self, x: Tensor) -> Tensor:
        return self.root.of_features(x, packed=True)


HEADS.add(
    "seb",
    HeadKind(ScalingBranch, takes=("side", "precision")),
    summary="scaling eigen branch: Q (1 + s), exact gradient",
    paper="Song et al., TPAMI 2022",
)
