"""What acts on the reduction's convolution needs one, and goes together only so far."""

from collections.abc import Iterator
from typing import Any

from gcp.config.faults import Fault, wrong
from gcp.config.schema import Config

FROZEN = ("head", "head.reduction", "head.reduction.0")  # names in model.freeze that hold the convolution


def conditioning_faults(config: Config) -> Iterator[Fault]:
    """`optim.nog` and `optim.olr` where they would have nothing to act on."""
    norm = config.head.spectral_norm
    optim: Any = config.optim
    asked = {"nog": optim.nog, "olr": optim.olr}
    frozen = [name for name in config.model.freeze if name in FROZEN]
    for key, value in asked.items():
        off = "null" if key == "olr" else "false"
        if not value:
            continue
        if config.head.dim is None:
            text = f"{off} with head.dim: null, which leaves no reduction to act on; or set head.dim"
            yield wrong(f"optim.{key}", value, text, needs=("head.dim",))
        elif config.head.reduction == "orthogonal":
            text = f"{off} with head.reduction: orthogonal, whose parameters are reflectors and keep W W^T = I"
            yield wrong(f"optim.{key}", value, text, needs=["head.reduction"], keys=["head.reduction=conv"])
        elif norm is not None:
            text = f"{off} with head.spectral_norm: {norm}, which divides the weight that is trained"
            yield wrong(f"optim.{key}", value, text, needs=["head.spectral_norm"], keys=["head.spectral_norm=null"])
        elif frozen:
            text = f"{off} with model.freeze: {', '.join(frozen)}, which holds the reduction"
            yield wrong(f"optim.{key}", value, text, needs=("model.freeze",))
