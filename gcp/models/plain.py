"""A trained model as plain tensor operations, for programs that run elsewhere.

What only training needs is left out: the autograd functions of the heads, and the flag of non-finite features. The
parts and their weights are those of the model, and so are the results.
"""

import torch
from torch import Tensor, nn

from gcp.heads import Head
from gcp.heads.covariance import Covariance
from gcp.heads.root import CovarianceRoot
from gcp.heads.scaling_branch import ScalingBranch
from gcp.models.classifier import Classifier
from gcp.ops.covariance import noise_floor
from gcp.ops.matrix import trace
from gcp.ops.precision import compute_dtype
from gcp.sqrtm import Root


class PlainHead(nn.Module):
    """(B, C, H, W) -> (B, out_features), as the head."""

    def __init__(self, head: Head):
        super().__init__()
        self.reduction, self.pooling = head.reduction, head

    def forward(self, x: Tensor) -> Tensor:
        return self.pooling.pool(self.reduction(x))


class PlainCovariance(nn.Module):
    """The triangle of the covariance, or of its root."""

    place: Tensor

    def __init__(self, head: Covariance | CovarianceRoot | ScalingBranch):
        super().__init__()
        self.reduction = head.reduction
        self.root: Root | None = getattr(head, "root", None)
        self.precision: str | None = getattr(head, "precision", None)
        rows, columns = torch.triu_indices(head.channels, head.channels)
        self.register_buffer("place", rows * head.channels + columns, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduction(x)
        Q = self._root(x, self.root) if self.root else self._covariance(x)
        return Q.flatten(1).index_select(1, self.place).to(x.dtype)

    def _covariance(self, x: Tensor) -> Tensor:
        dtype = compute_dtype(x, self.precision, "float32")
        P = _covariance(_centred(x, dtype))
        return P * (trace(P) > noise_floor(x, dtype))[:, None, None]

    def _root(self, x: Tensor, root: Root) -> Tensor:
        d, M = x.shape[1], x.shape[2] * x.shape[3]
        on_samples = d >= M if root.side == "auto" else root.side == "sample"
        dtype = compute_dtype(x, root.precision, root.default_precision)
        method, dtype = root.method.settle(dtype, smaller=on_samples == (d >= M))
        Xc, floor = _centred(x, dtype), noise_floor(x, dtype)
        Q, _ = method.sample_root(Xc, floor) if on_samples else method.matrix_root(_covariance(Xc), floor)
        return Q


class Plain(nn.Module):
    """Images (B, in_chans, H, W) float32 -> logits (B, num_classes)."""

    def __init__(self, model: Classifier):
        super().__init__()
        self.features, self.classifier = model.features, model.classifier
        self.head = plain_head(model.head)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.head(self.features(images)))


def plain_head(head: Head) -> nn.Module:
    """The head without its autograd functions."""
    return PlainCovariance(head) if isinstance(head, Covariance | CovarianceRoot | ScalingBranch) else PlainHead(head)


def _centred(x: Tensor, dtype: torch.dtype) -> Tensor:
    X = x.flatten(2).to(dtype)
    return X - X.mean(2, keepdim=True)


def _covariance(Xc: Tensor) -> Tensor:
    return Xc @ Xc.mT / Xc.shape[2]
