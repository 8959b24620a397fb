"""`exact`: the derivative of the matrix square root, W = 1/(sqrt a + sqrt b).

No error, no cancellation, finite for repeated eigenvalues. Daleckii and Krein 1965; the closed form is the
Sylvester equation Q dQ + dQ Q = dP in the eigenbasis.
"""

from dataclasses import dataclass

from gcp.gradients.base import RULES, Rule


@RULES.register("exact", summary="W = 1/(sqrt a + sqrt b): the derivative itself", paper="Daleckii and Krein 1965")
@dataclass(frozen=True)
class Exact(Rule):
    """The exact derivative; it has one form only."""

    head = "svd_exact"
    kernel = "Exact"
