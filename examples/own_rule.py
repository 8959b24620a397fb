"""A backward rule of your own, with a head name, in one file: checked against the exact gradient, and trained.

    python examples/own_rule.py
    gcp train --config digits/resnet head.name=svd_bounded 'plugins=[own_rule]'     # from the folder of this file

The covariance is decomposed once; a rule decides what the gradient between a pair of eigenvalues is worth, as a ratio
to the exact weight 1 / (sqrt l_i + sqrt l_j). This one bounds that weight by t, so that the smallest eigenvalues, which
are mostly noise, cannot dominate: rho = min(1, t (sqrt l_i + sqrt l_j)).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import gcp
from gcp.gradients import RULES, Rule
from gcp.heads.root import register_head_of_rule
from gcp.options import option


@RULES.register("bounded", summary="the exact weight, but at most t")
@dataclass(frozen=True)
class Bounded(Rule):
    """W = min(1 / (sqrt a + sqrt b), t)."""

    head = "svd_bounded"
    threshold: float = option(100.0, "largest weight t", minimum=0)

    def ratio(self, left: Tensor, right: Tensor) -> Tensor:
        return (self.threshold * (left.sqrt() + right.sqrt())).clamp(max=1)


register_head_of_rule("bounded")


def main() -> tuple[float, float, float]:
    """The largest weight on a badly conditioned spectrum, and the loss before and after a step of training."""
    spectrum = torch.logspace(0, -12, 8, dtype=torch.float64).unsqueeze(0)
    largest = gcp.spectral_weight(spectrum, rule="bounded", threshold=100.0).triu(1).max().item()

    torch.manual_seed(0)
    model = gcp.create_model("resnet8_cifar", head="svd_bounded", num_classes=3, dim=16, threshold=50.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    images, labels = torch.randn(12, 3, 32, 32), torch.arange(12) % 3
    losses = []
    for _ in range(2):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return largest, losses[0], losses[1]


if __name__ == "__main__":
    print("largest weight {:.0f}, loss {:.3f} -> {:.3f}".format(*main()))
