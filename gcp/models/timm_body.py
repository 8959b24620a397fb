"""Any timm model as the body of a backbone."""

from typing import Any

from torch import nn

from gcp.errors import GCPError, OptionError


def timm_body(name: str, pretrained: bool, in_chans: int) -> nn.Module:
    """The timm model `name` without its classifier; `pretrained` downloads timm's weights.

    Its own pooling is kept as it is, because the weights of some transformers depend on it; the backbone
    calls `forward_features`, which stops before it. VGG loses its last max pool, as torchvision's does here.
    """
    import timm

    try:
        body: Any = timm.create_model(name, pretrained=pretrained, in_chans=in_chans, num_classes=0)
    except (TypeError, AssertionError, ValueError, NotImplementedError) as error:
        if in_chans == 3 or isinstance(error, GCPError):
            raise
        raise OptionError(f"backbone {name!r} does not take in_chans={in_chans}, only 3: {error}") from error
    if type(body).__name__ == "VGG" and isinstance(body.features[-1], nn.MaxPool2d):
        body.features = body.features[:-1]
    return body


def input_size(body: nn.Module) -> tuple[tuple[int, int], bool]:
    """The image size (H, W) that a timm model was made for, and whether it takes no other."""
    cfg = getattr(body, "pretrained_cfg", None) or {}
    height, width = (cfg.get("input_size") or (3, 224, 224))[-2:]
    return (height, width), bool(cfg.get("fixed_input_size"))


def boundary(body: nn.Module) -> str | None:
    """The last module before the stage that halves the map for the last time, from `feature_info`."""
    info = getattr(body, "feature_info", None)
    if not isinstance(info, list) or not all({"module", "reduction"} <= entry.keys() for entry in info):
        return None
    earlier = [entry["module"] for entry in info if entry["reduction"] < info[-1]["reduction"]]
    return earlier[-1] if earlier else None
