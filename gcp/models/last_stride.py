"""The last stage at the stride of the one before: twice the map, four times the samples of the covariance.

The published mpncovresnet does this (14 x 14 instead of 7 x 7 at 224 pixels): every convolution of the last
stage that halves the map gets stride 1, without dilation, and an average pool of its shortcut that halves
the map is taken out. The weights keep their shapes, so pretrained ones still load.
"""

from torch import nn

from gcp.errors import OptionError, ShapeError
from gcp.models.backbone import Backbone
from gcp.models.dry_run import Call, dry_run

WORKS_FOR = "resnet*, resnext*, wide_resnet*, regnet*, efficientnet*, densenet* and resnet*_cifar"


def _halving(backbone: Backbone, boundary: str, size: tuple[int, int]) -> list[Call]:
    """The calls after `boundary` that bring the map to its final sides."""
    run = dry_run(backbone, backbone.in_chans, size)
    final = tuple(run.output.shape[-2:])
    inside = [i for i, call in enumerate(run.calls) if f"{call.name}.".startswith(f"body.{boundary}.")]
    after = run.calls[inside[-1] + 1 :] if inside else ()
    return [call for call in after if call.wrote == final and tuple(-(-s // 2) for s in call.read) == final]


def _keep_size(backbone: Backbone, name: str) -> None:
    module = backbone.get_submodule(name)
    if isinstance(module, nn.Conv2d):
        module.stride = (1, 1)
    elif isinstance(module, nn.AvgPool2d):
        kernel = module.kernel_size if isinstance(module.kernel_size, tuple) else (module.kernel_size,) * 2
        if kernel == (2, 2):
            parent, _, leaf = name.rpartition(".")
            setattr(backbone.get_submodule(parent), leaf, nn.Identity())
        else:
            module.stride = 1
    elif type(module).__name__ == "BlurPool2d":  # timm's anti-aliasing: its 3x3 filter keeps the size
        setattr(module, "stride", 1)  # noqa: B010


def double_last_map(backbone: Backbone, boundary: str | None, size: tuple[int, int]) -> None:
    """Set the last stage of `backbone` to stride 1, in place, and check in a dry run that the map is as large
    as that of the stage before.

    `boundary` names the module of `backbone.body` after which the last stage begins; `size` is (H, W) of the
    images of the dry run. Raises OptionError where the stage cannot be edited like this.
    """
    refusal = OptionError(
        f"last_stride=1 does not work for backbone {backbone.name!r}: its last stage does not halve the "
        f"map by strided convolutions alone. It works for {WORKS_FOR}; leave last_stride out for the others."
    )
    calls = _halving(backbone, boundary, size) if boundary else []
    if not calls:
        raise refusal
    for call in calls:
        _keep_size(backbone, call.name)
    try:
        kept = backbone.map_size(size) == calls[0].read
    except ShapeError as error:  # a later layer was built for the smaller map
        raise refusal from error
    if not kept:
        raise refusal
