r"""`FC_Decomposer` as fasterai has it: every Linear layer by the SVD of its weight, the rank a share of its outputs.

    W = U diag(s) V^T  ->  up = U_L, down = diag(s_L) V_L^T,     L = int((1 - percent_removed) m) for m outputs

in the order of the products only; here both factors have rows of equal norm, so that neither leaves the range of half
precision. Outputs are the same. What differs: a layer without bias stays without one, dtype, device, mode and frozen
weights stay, a layer in two places is factored once, a Linear that is the model itself is factored too, attention that
reads weights without calling the layer stays as it is, and L is at least 1 and at most the rank that the layer has.

As there the number of parameters grows where L > m n / (m + n), with a warning here. `gcp.compress.decompose` never
lets it grow, spends one budget on all layers together, and with data keeps the outputs rather than the weights: see
docs/compress.md for what the two keep of a covariance classifier at equal size.

Hubens, fasterai (github.com/nathanhubens/fasterai), misc/fc_decomposer.
"""

import warnings
from copy import deepcopy

from torch import nn

from gcp.compress.basis import basis
from gcp.compress.choose import numbers
from gcp.compress.factored import create_factored, most
from gcp.compress.survey import put_in_place, survey
from gcp.errors import OptionError


class FC_Decomposer:
    """`FC_Decomposer().decompose(model, percent_removed=0.5)`: a copy whose Linear layers are products of two.

    Args:
        percent_removed: share of the rank of each layer that goes, from 0 to below 1, as of its outputs.

    Raises:
        OptionError: another share.
    """

    def __init__(self, percent_removed: float = 0.5):
        self.percent_removed = _checked(percent_removed)

    def decompose(self, model: nn.Module, percent_removed: float | None = None) -> nn.Module:
        """The copy; `percent_removed` in the place of that of the object."""
        removed = self.percent_removed if percent_removed is None else _checked(percent_removed)
        model = deepcopy(model)
        grown = []
        for layer in survey(model):
            old = layer.module
            if layer.reason is not None or not isinstance(old, nn.Linear):
                continue
            rank = min(max(1, int((1.0 - removed) * old.out_features)), *most(old))
            new = create_factored(old, (rank,))
            basis(old, "svd").fill(new)
            if numbers(new) > numbers(old):
                grown.append(f"{layer.name or 'the model'} ({numbers(old):,} -> {numbers(new):,})")
            if layer.names == [""]:
                model = new
            else:
                put_in_place(model, layer.names, new)
        if grown:
            text = f"more parameters than before in {', '.join(grown)}: remove more, or take gcp.compress.decompose"
            warnings.warn(text, stacklevel=2)
        return model


def _checked(percent_removed: float) -> float:
    number = isinstance(percent_removed, int | float) and not isinstance(percent_removed, bool)
    if not number or not 0 <= percent_removed < 1:
        raise OptionError(f"percent_removed is {percent_removed!r}; allowed: a share from 0 to below 1, such as 0.5.")
    return percent_removed
