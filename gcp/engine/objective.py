"""What a training minimises, and what its table says of it.

An objective turns the outputs of the model for a batch into two sums over its images: the loss, which is
differentiated, and a number that is counted beside it. Both are of the images alone, so that batches, windows and
processes add up.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from gcp.engine.metrics import CLASSES, Columns


class Objective(Protocol):
    """See above.

    Attributes:
        remedy: what to try where the numbers stop being finite, beside lower optim.lr.
        table: what of its columns is printed.
    """

    @property
    def remedy(self) -> str: ...

    @property
    def table(self) -> Columns: ...

    def __call__(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the losses, shape () with a graph, and what is counted, shape ()."""
        ...

    def columns(self, loss: float, counted: float, validation: dict) -> dict:
        """What the row of an epoch says: means over the images trained on, and the scores of the validation."""
        ...

    def text(self, loss: float, counted: float) -> str:
        """The same means in short, for the bar."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of logits (B, classes) with labels (B,), or mixed ones (B, classes); counted are right answers
    (with mixed labels: samples whose heavier label was found).
    """

    label_smoothing: float = 0.0
    remedy = "set optim.clip, or set head.precision=float64"
    table = CLASSES

    def __call__(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        loss = F.cross_entropy(outputs, labels, label_smoothing=self.label_smoothing, reduction="sum")
        with torch.no_grad():
            hard = labels.argmax(1) if labels.ndim == 2 else labels
            return loss, (outputs.argmax(1) == hard).sum()

    def columns(self, loss: float, counted: float, validation: dict) -> dict:
        """Accuracies in percent."""
        return {
            "train_loss": loss,
            "train_accuracy": 100 * counted,
            "val_loss": validation.get("loss"),
            "val_accuracy": validation.get("top1"),
        }

    def text(self, loss: float, counted: float) -> str:
        """Accuracy in percent."""
        return f"loss {loss:.4f}, accuracy {100 * counted:.2f} %"
