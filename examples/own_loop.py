"""A training loop of one's own, and `gcp.fit`, which is ours on any loader.

    python examples/own_loop.py

A model of `gcp.create_model` and a head of `gcp.create_head` are ordinary `nn.Module`s: they go into any loop,
optimizer and scheduler of PyTorch. `gcp.fit` adds what a run does around a step (accumulation, mixing, averaged
weights, a stop that names step, batch and layer) to batches that come from anywhere.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gcp


def textures(count: int, seed: int) -> TensorDataset:
    """Noise images of two classes: the channels of class 0 move together, those of class 1 against each other. Their
    means are alike, so that average pooling learns nothing here.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 2, 12, 12, generator=generator)
    labels = torch.arange(count) % 2
    images[:, 1] = (1 - 2 * labels.reshape(-1, 1, 1)) * images[:, 0] + 0.3 * images[:, 1]
    return TensorDataset(images, labels)


def plain_loop(model: nn.Module, loader: DataLoader, epochs: int) -> None:
    """What a loop in PyTorch looks like with a covariance head in the model: like any other."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.train()
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()


def main() -> None:
    """Train the same network in both ways; print the accuracy on images that were not trained on."""
    torch.manual_seed(0)
    train, held_out = DataLoader(textures(128, 0), batch_size=32, shuffle=True), DataLoader(textures(64, 1), 32)

    head = gcp.create_head("svd_pade", in_channels=4)
    model = nn.Sequential(nn.Conv2d(2, 4, 1), head, nn.Linear(head.out_features, 2))
    plain_loop(model, train, epochs=5)
    model.eval()
    with torch.no_grad():
        right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in held_out)
    print(f"a loop of one's own: {100 * right / len(held_out.dataset):.1f} %")

    for name in ("svd_pade", "average"):
        torch.manual_seed(0)
        model = gcp.create_model(nn.Conv2d(2, 4, 1), head=name, num_classes=2, dim=None, in_chans=2)
        fitted = gcp.fit(model, train, held_out, epochs=5, lr=0.1, device="cpu")
        print(f"gcp.fit, {name}: {fitted.best['top1']:.1f} %")


if __name__ == "__main__":
    main()
