"""Residual networks for small images: He, Zhang, Ren, Sun, "Deep residual learning", CVPR 2016, section 4.2.

A 3x3 convolution, then three stages of n basic blocks with 16, 32, 64 channels at strides 1, 2, 2: depth
6n + 2 with the classifier, an 8 x 8 map of 64 channels at 32 pixels. One thing differs from the paper: where
the width changes, the shortcut is a 1x1 convolution with batch norm (their option B), as in torchvision's
block, not the zero padding of option A.
"""

from collections import OrderedDict

from torch import nn

DEPTHS = (8, 14, 20, 32, 44, 56, 110)


def _stage(inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
    from torchvision.models.resnet import BasicBlock

    def shortcut() -> nn.Module | None:
        if stride == 1 and inputs == outputs:
            return None
        return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    first = BasicBlock(inputs, outputs, stride, shortcut())
    return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(blocks - 1)))


def cifar_resnet(depth: int, in_chans: int = 3) -> nn.Sequential:
    """Images (B, in_chans, H, W) -> map (B, 64, H/4, W/4). Kaiming normal initialisation, fan out."""
    blocks, rest = divmod(depth - 2, 6)
    assert rest == 0 and blocks > 0, f"depth {depth} is not 6 n + 2"
    body = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_chans, 16, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(16),
            relu=nn.ReLU(inplace=True),
            layer1=_stage(16, 16, 1, blocks),
            layer2=_stage(16, 32, 2, blocks),
            layer3=_stage(32, 64, 2, blocks),
        )
    )
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return body
