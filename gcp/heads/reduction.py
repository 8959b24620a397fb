"""The layer that reduces channels before a head: 1x1 convolution, batch norm, ReLU, initialised as published.

With `orthogonal` the rows of the convolution's matrix stay orthonormal (its columns where `dim` is above the channels:
the covariance then has at most the rank of the channels, up to batch norm and ReLU). It starts at the polar factor of
the very weight that `conv` would have, and draws no further random number.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from gcp.errors import OptionError, ShapeError, suggest
from gcp.layers.parametrize import orthogonal
from gcp.layers.spectral_norm import spectral_norm


def _unconstrained(conv: nn.Conv2d) -> nn.Conv2d:
    return conv


STARTS = ("random", "pca")
REDUCTIONS: dict[str, Callable[[nn.Conv2d], nn.Conv2d]] = {"conv": _unconstrained, "orthogonal": orthogonal}


class Reduction(nn.Sequential):
    """(B, C, H, W) -> (B, dim, H, W); Kaiming initialisation by fan-out, as in the published heads.

    `constrain` takes the convolution once it has its weight, and returns it.
    """

    def __init__(self, in_channels: int, dim: int, constrain: Callable[[nn.Conv2d], nn.Conv2d] = _unconstrained):
        conv = nn.Conv2d(in_channels, dim, 1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        super().__init__(constrain(conv), nn.BatchNorm2d(dim), nn.ReLU(inplace=True))

    @property
    def conv(self) -> nn.Module:
        """The 1x1 convolution, or what compression has put in its place."""
        return self[0]

    def forward(self, x: Tensor) -> Tensor:
        weights = next(self.parameters()).dtype
        if x.dtype in (torch.bfloat16, torch.float16) and not torch.is_autocast_enabled(x.device.type):
            x = x.to(weights)  # of a backbone that ran under autocast
        elif torch.promote_types(x.dtype, weights) != weights:
            raise ShapeError(
                f"features are {x.dtype}, the reduction is {weights}: convert one, head.double() or x.float()."
            )
        return super().forward(x)


def trained_weight(reduction: nn.Module) -> nn.Parameter:
    """The weight of the convolution, where it is trained as it stands.

    Raises:
        OptionError: there is none, or it is computed from other parameters.
    """
    conv = _plain_conv(reduction)
    if conv is None:
        raise OptionError(
            "optim.nog and optim.olr need a reduction by a plain convolution; this one has none, or computes its "
            "weight from other parameters (head.reduction, head.spectral_norm, model.factors). Set them to false and "
            "null."
        )
    return conv.weight  # type: ignore[return-value]


def normalise(reduction: nn.Module, method: str) -> None:
    """Divide the weight of the convolution by its spectral norm from now on.

    Raises:
        OptionError: there is none, or it is computed from other parameters.
    """
    conv = _plain_conv(reduction)
    if conv is None:
        raise OptionError("spectral_norm needs a reduction by a plain convolution: set dim, and reduction='conv'.")
    spectral_norm(conv, method)


def _plain_conv(reduction: nn.Module) -> nn.Conv2d | None:
    conv = reduction.conv if isinstance(reduction, Reduction) else None
    return conv if isinstance(conv, nn.Conv2d) and not is_parametrized(conv, "weight") else None


def check_reduction(reduction: str) -> None:
    """Raise OptionError for an unknown reduction."""
    if reduction not in REDUCTIONS:
        raise OptionError(
            f"reduction is {reduction!r}; allowed: {', '.join(REDUCTIONS)}.{suggest(str(reduction), REDUCTIONS)}"
        )


def create_reduction(reduction: str, in_channels: int, dim: int | None) -> nn.Module:
    """The reduction to `dim` channels, or the identity where `dim` is None."""
    check_reduction(reduction)
    return nn.Identity() if dim is None else Reduction(in_channels, dim, REDUCTIONS[reduction])
