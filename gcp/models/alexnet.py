"""AlexNet with batch normalisation, the variant of the published covariance-pooling comparisons.

The five convolutions are torchvision's (Krizhevsky, "One weird trick for parallelizing convolutional neural
networks", 2014), each followed by batch norm and ReLU, without the last max pool: a 13 x 13 map of 256
channels at 224 pixels. In the Sequential the convolutions stand at 0, 4, 8, 11, 14 and the norms at 1, 5, 9,
12, 15. The convolutions keep torchvision's biases, which batch norm makes redundant, so that files with
biases fit.
"""

from torch import nn


def alexnet_bn(in_chans: int = 3) -> nn.Sequential:
    """Body: images (B, in_chans, H, W) -> map (B, 256, h, w), h = 13 at H = 224."""

    def block(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2)

    return nn.Sequential(
        *block(in_chans, 64, 11, 4, 2),
        pool(),
        *block(64, 192, 5, 1, 2),
        pool(),
        *block(192, 384, 3, 1, 1),
        *block(384, 256, 3, 1, 1),
        *block(256, 256, 3, 1, 1),
    )
