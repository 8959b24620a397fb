"""Which order of the triangle a classifier was trained on, found by its accuracy on labelled images.

A classifier that reads the other order than it was trained on scores at chance, so a few images decide.
"""

from dataclasses import dataclass
from itertools import starmap
from math import comb

import torch

from gcp.engine.device import BatchSource, ToDevice
from gcp.errors import DataError
from gcp.models import Classifier
from gcp.models.weights import lower_from_upper, triangle_side

LEVEL = 0.01  # of the two-sided sign test between the two orders


@dataclass(frozen=True)
class OrderScores:
    """Images scored with the classifier's columns taken in either order.

    `upper` and `lower`: how many were right; `only_upper` and `only_lower`: right in that order alone.
    """

    count: int
    upper: int
    lower: int
    only_upper: int
    only_lower: int

    @property
    def order(self) -> str | None:
        """The order that is right more often, None where chance would differ as much in one of 100 cases."""
        differ = self.only_upper + self.only_lower
        fewer = min(self.only_upper, self.only_lower)
        chance = 2 * sum(comb(differ, k) for k in range(fewer + 1)) / 2**differ
        if chance > LEVEL:
            return None
        return "upper" if self.only_upper > self.only_lower else "lower"


@torch.no_grad()
def score_orders(model: Classifier, loader: BatchSource, device: torch.device) -> OrderScores:
    """Score a model, in evaluation mode, with its classifier as it is and with its columns in the other order.

    Args:
        model: its head gives a triangle (B, d(d+1)/2) in the upper order.
        loader: labelled images, `gcp.engine.device.BatchSource` with train=False.
        device: where the model is.

    Raises:
        DataError: labels beyond the classes of the model, or no images.
    """
    side = triangle_side(model.head.out_features)
    assert side is not None, "asked for a head without a triangle"
    as_lower = lower_from_upper(side).to(device)
    counts = torch.zeros(4, dtype=torch.int64, device=device)
    count = 0
    for images, labels in starmap(ToDevice(device, loader.normalize), loader.epoch(0)):
        if int(labels.max()) >= model.num_classes:
            raise DataError(f"the images have class {int(labels.max())}, the file {model.num_classes} classes")
        pooled = model.head(model.features(images))
        # What a classifier of the lower order would read: the same numbers, each in its place there.
        right, other = (model.classifier(p).argmax(1) == labels for p in (pooled, pooled[:, as_lower]))
        counts += torch.stack([right.sum(), other.sum(), (right & ~other).sum(), (other & ~right).sum()])
        count += len(labels)
    if not count:
        raise DataError("there is no image to find the order with")
    return OrderScores(count, *map(int, counts))
