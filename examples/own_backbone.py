"""A backbone of your own: any module that maps images to a feature map (B, C, h, w), or to tokens (B, N, C).

Head, classifier, frozen parts and parameter groups are those of every other model; run this file for a few steps of
training on random images:

    python examples/own_backbone.py
"""

import torch
from torch import Tensor, nn

import gcp
from gcp.models import freeze, parameter_groups


class Small(nn.Module):
    """Images (B, 3, H, W) -> map (B, 24, H/4, W/4)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(12, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        return self.body(self.stem(images))


def main(steps: int = 20) -> tuple[float, float]:
    """Train on random images of two kinds and return the loss of the first and of the last step."""
    torch.manual_seed(0)
    model = gcp.create_model(Small(), head="svd_pade", num_classes=2, dim=8, image_size=32)
    freeze(model, ["features.stem"])
    print(model)
    groups = parameter_groups(model, lr=0.02, weight_decay=1e-4, head_lr_factor=2)
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    labels = torch.arange(32) % 2
    noise = torch.randn(32, 3, 32, 32)
    blurred = nn.functional.avg_pool2d(noise, 3, 1, 1) * 3  # as bright and as varied, but smooth
    images = torch.where(labels[:, None, None, None] == 1, blurred, noise)
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model.train()(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


if __name__ == "__main__":
    print("loss {:.3f} -> {:.3f}".format(*main()))
