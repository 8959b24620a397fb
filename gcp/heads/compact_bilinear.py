"""`compact_bilinear`: tensor sketch of the second moment, signed square root, l2 norm.

Gao, Beijbom, Zhang and Darrell, CVPR 2016 (arXiv:1511.06062). The hashes are buffers drawn from their own seed:
they are saved with the model, and the global random state is left alone. A bucket that no pair of channels meets
holds rounding noise of the FFT, which the published signed root lifts to 1e-4.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gcp.heads.base import HEADS, Head, HeadKind
from gcp.heads.bilinear import signed_root
from gcp.ops.precision import check_precision, compute_dtype, output_dtype, outside_autocast
from gcp.ops.sketch import hashes, tensor_sketch
from gcp.options import build, option


@dataclass(frozen=True)
class SketchOptions:
    """Size of the sketch, and the seed of its hashes."""

    sketch: int = option(8192, "dimensions of the sketch", minimum=1)
    seed: int = option(0, "seed of the hashes", minimum=0)


class CompactBilinear(Head):
    """Sketched second moment; a 1x1 map is allowed."""

    buckets: Tensor
    signs: Tensor

    least_samples = 1

    def __init__(
        self,
        in_channels: int,
        dim: int | None = None,
        reduction: str = "conv",
        precision: str | None = None,
        **options: Any,
    ):
        check_precision(precision)
        chosen = build(SketchOptions, "compact_bilinear", options)
        super().__init__(in_channels, dim, reduction)
        self.precision = precision
        self.out_features = chosen.sketch
        buckets, signs = hashes(self.channels, chosen.sketch, chosen.seed)
        self.register_buffer("buckets", buckets)
        self.register_buffer("signs", signs)

    def pool(self, x: Tensor) -> Tensor:
        with outside_autocast(x):
            X = x.flatten(2).to(compute_dtype(x, self.precision, "float32")).mT / (x.shape[2] * x.shape[3]) ** 0.5
            return signed_root(tensor_sketch(X, self.buckets, self.signs, self.out_features)).to(output_dtype(x))


HEADS.add(
    "compact_bilinear",
    HeadKind(CompactBilinear, takes=("precision",), options=SketchOptions),
    summary="tensor sketch of X X^T, signed root, l2 norm",
    paper="Gao et al., CVPR 2016",
)
