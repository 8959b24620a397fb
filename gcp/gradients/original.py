"""`original`: the textbook gradient of the eigendecomposition, K = 1/(l_i - l_j).

Folded: exact, and 0 between equal eigenvalues. Published: overflows where two eigenvalues are close; the
overflow check then puts the largest finite entry of the batch in its place. Ionescu, Vantzos and
Sminchisescu, ICCV 2015 (arXiv:1509.07838).
"""

from dataclasses import dataclass

from torch import Tensor

from gcp.gradients.base import RULES, PublishedDifference, Rule


@RULES.register(
    "original",
    summary="K = 1/(l_i - l_j): exact, but 0 between equal eigenvalues",
    paper="Ionescu et al., ICCV 2015",
)
@dataclass(frozen=True)
class Original(Rule):
    """The textbook rule."""

    head = "svd_original"
    kernel = "Original"

    def ratio(self, left: Tensor, right: Tensor) -> Tensor:
        return (left != right).to(left.dtype)

    def published(self) -> PublishedDifference:
        return PublishedDifference()
