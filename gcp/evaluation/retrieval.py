r"""How well descriptors find images of their own class: nearest neighbours, recall and mean average precision.

Images are compared by the cosine s of their descriptors. For a query with R others of its class among N images, ranked
by s,

    recall@k   whether one of its class is among the first k (Jegou et al. 2011, as used in metric learning)
    AP         1/R sum over the ranks r of its class of (images of its class among the first r) / r;  mAP: their mean
    kNN        the class with the greatest sum of exp(s / 0.07) among the first k (Wu et al., CVPR 2018)

A query itself is left out of what it is compared with. Queries go in chunks: no N x N matrix is held.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gcp.errors import DataError

RANKS = (1, 5, 10)
NEIGHBOURS = 5
TEMPERATURE = 0.07
CELLS = 2**24  # products that are held at a time


@dataclass(frozen=True)
class Retrieval:
    """Scores in percent, over `queries` images; `alone` have no other image of their class and count for kNN only."""

    queries: int
    alone: int
    recall: dict[int, float]
    mean_average_precision: float | None
    neighbours: int
    knn: float

    def lines(self) -> str:
        """A line for each score."""
        told = f", {self.alone} of them alone in their class" if self.alone else ""
        rows = [("queries", f"{self.queries}{told}"), (f"{self.neighbours}-NN", f"{self.knn:.2f} %")]
        rows += [(f"recall@{k}", f"{value:.2f} %") for k, value in self.recall.items()]
        if self.mean_average_precision is not None:
            rows.append(("mAP", f"{self.mean_average_precision:.2f} %"))
        return "\n".join(f"{key:<12}{value}" for key, value in rows)


@torch.no_grad()
def retrieve(
    queries: Tensor,
    labels: Tensor,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    neighbours: int = NEIGHBOURS,
) -> Retrieval:
    """Score descriptors.

    Args:
        queries: (N, D) floating point.
        labels: (N,) int64.
        gallery: (M, D), what they are compared with; None: each with the other queries.
        gallery_labels: (M,).
        neighbours: k of the kNN.

    Raises:
        DataError: fewer than two images, or a class that no query shares with another image.
    """
    own = gallery is None or gallery_labels is None
    others, classes = (queries, labels) if own else (gallery, gallery_labels)
    assert others is not None and classes is not None
    count, known = len(queries), len(others)
    if not count or known < 1 + own:
        raise DataError("descriptors are compared with those of other images; give two images or more")
    norms, theirs = queries.norm(dim=1).clamp_min(1e-12), others.norm(dim=1).clamp_min(1e-12)
    ranks = np.arange(1, known + 1)
    hits, precisions, right = [], [], 0
    step = max(1, CELLS // known)
    for start in range(0, count, step):
        chunk = slice(start, min(start + step, count))
        cosine = (queries[chunk] @ others.T) / norms[chunk, None] / theirs
        same = labels[chunk, None] == classes
        if own:
            places = torch.arange(chunk.start, chunk.stop)
            cosine[places - start, places] = -torch.inf
            same[places - start, places] = False
        order = cosine.argsort(dim=1, descending=True, stable=True)
        right += _vote(cosine, order, classes, labels[chunk], min(neighbours, known - own))
        relevant = same.gather(1, order).numpy()
        some = relevant[relevant.any(1)]
        hits.append(some[:, : max(RANKS)].cumsum(1) > 0)
        found = some.cumsum(1)
        precisions.append((some * found / ranks).sum(1) / found[:, -1])
    hit, precision = np.concatenate(hits), np.concatenate(precisions)
    recall = {k: 100 * float(hit[:, k - 1].mean()) for k in RANKS if len(hit) and k <= known - own}
    mean = 100 * float(precision.mean()) if len(precision) else None
    return Retrieval(count, count - len(precision), recall, mean, neighbours, 100 * right / count)


def _vote(cosine: Tensor, order: Tensor, classes: Tensor, labels: Tensor, k: int) -> int:
    """How many queries the vote of their k nearest gets right."""
    nearest = order[:, :k]
    weight = (cosine.gather(1, nearest) / TEMPERATURE).exp()
    voted = classes[nearest]
    sums = (weight[:, :, None] * (voted[:, :, None] == voted[:, None, :])).sum(1)  # of the class of each neighbour
    return int((voted.gather(1, sums.argmax(1, keepdim=True))[:, 0] == labels).sum())
