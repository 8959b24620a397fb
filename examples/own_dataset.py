"""A data set of your own: any PyTorch data set whose items are (image, label).

In a run, by the module and the function (the folder of this file must be the one at hand, or be installed):

    python train.py --config configs/digits/resnet.yaml data.name=examples.own_dataset:shapes data.image_size=32

In Python, `gcp.data.from_torch` makes the three splits of it; run this file for half a minute of training:

    python examples/own_dataset.py
"""

import torch
from torch.utils.data import Dataset

import gcp
from gcp.data import create_loader, from_torch

CLASSES = ["circle", "square", "cross"]


class Shapes(Dataset):
    """Drawings of three shapes, (3, 32, 32) uint8. The same image for an index every time: what is random in
    training is the transform, which the run seeds.
    """

    def __init__(self, count: int, first: int = 0):
        self.count, self.first = count, first
        self.targets = [index % len(CLASSES) for index in range(count)]  # saves reading every image for its label

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        generator = torch.Generator().manual_seed(self.first + index)
        x, y, radius = (torch.rand(3, generator=generator) * torch.tensor([10.0, 10.0, 5.0])).tolist()
        line = torch.arange(32.0)
        across, down = (line - 11 - x).abs()[None], (line - 11 - y).abs()[:, None]
        reach = 5 + radius
        shape = [
            across**2 + down**2 <= reach**2,
            torch.maximum(across, down) <= reach * 0.9,
            (torch.minimum(across, down) <= 2) & (torch.maximum(across, down) <= reach),
        ][self.targets[index]]
        image = torch.rand(3, 1, 1, generator=generator) * 100 + 155 * shape
        return image.clamp(0, 255).to(torch.uint8), self.targets[index]


def shapes() -> dict:
    """Circles, squares and crosses; the last word of data.name. It returns what only it knows, see
    gcp.data.from_torch; image size, transform and what is held out for validation are the configuration's.
    """
    return {"train": Shapes(240), "test": Shapes(60, first=1000), "classes": CLASSES}


def main(epochs: int = 8) -> float:
    """Train in Python and return the accuracy on the test split."""
    torch.manual_seed(0)
    splits = from_torch(**shapes(), transform="pad_crop", image_size=32)
    model = gcp.create_model("resnet20_cifar", head="svd_pade", num_classes=len(splits.classes), dim=16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    loader = create_loader(splits.train, 32, train=True, workers=0)
    for epoch in range(epochs):
        for images, labels in loader.epoch(epoch):
            loss = torch.nn.functional.cross_entropy(model(loader.normalize(images)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    right = 0
    with torch.no_grad():
        for images, labels in create_loader(splits.test, 32, train=False, workers=0).epoch(0):
            right += int((model(loader.normalize(images)).argmax(1) == labels).sum())
    return right / len(splits.test)


if __name__ == "__main__":
    print(f"test accuracy {main():.1%}")
