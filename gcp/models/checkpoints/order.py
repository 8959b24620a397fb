"""Two orders of the triangle of a symmetric matrix, and the permutation of a classifier's columns between them.

Files of 2018 pack the row-major lower triangle, (0,0) (1,0) (1,1) (2,0) ..., later ones and this library the
row-major upper one, (0,0) (0,1) ... (0,d-1) (1,1) .... The matrix is symmetric, so entry (j,i) of the upper order
is entry (i,j) of the lower one, i >= j, and permuting the columns of the layer that reads it converts exactly.
"""

import torch
from torch import Tensor

from gcp.errors import OptionError
from gcp.ops.triangle import triangle_size

ORDERS = ("upper", "lower")


def upper_from_lower(d: int) -> Tensor:
    """Index (d(d+1)/2,) with `upper = lower[index]`: for each place of the upper order its place in the lower."""
    row, column = torch.triu_indices(d, d)
    return column * (column + 1) // 2 + row


def lower_from_upper(d: int) -> Tensor:
    """The inverse of `upper_from_lower`."""
    return torch.argsort(upper_from_lower(d))


def triangle_side(width: int) -> int | None:
    """The d of which `width` is d(d+1)/2, None where there is none."""
    d = int((2 * width) ** 0.5)
    return d if width > 0 and triangle_size(d) == width else None


def first_layer(state: dict[str, Tensor]) -> str | None:
    """Key of the weight (out, in) of the classifier's first linear layer, in a state dict of ours."""
    return next((key for key in ("classifier.weight", "classifier.0.weight") if key in state), None)


def reorder(state: dict[str, Tensor], to: str) -> dict[str, Tensor]:
    """A state dict of ours whose classifier reads the other order: `to` is "upper" or "lower".

    Raises OptionError where the classifier does not read a triangle.
    """
    key = first_layer(state)
    side = triangle_side(state[key].shape[1]) if key else None
    if key is None or side is None:
        width = f"takes {state[key].shape[1]} numbers" if key else "is not in the file"
        raise OptionError(f"there is no order to change: the classifier {width}, which is no d(d+1)/2")
    places = upper_from_lower(side) if to == "upper" else lower_from_upper(side)
    return {**state, key: state[key][:, places].contiguous()}
