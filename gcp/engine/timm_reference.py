"""A model of timm as its authors evaluate it: its own classifier, image size, statistics and resizing.

Many of them are tested at a larger size than they were trained at (timm's `test_input_size`); so are they here.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gcp.data.transforms import PerImage, Preprocessing, Renormalized, Transform
from gcp.data.transforms.base import statistics
from gcp.data.transforms.crops import AsTimm
from gcp.errors import CheckpointError, GCPError, UnknownNameError
from gcp.models.backbone import prefix_tokens, to_map
from gcp.models.checkpoints import open_checkpoint
from gcp.models.downloads import from_hub


class TimmReference(nn.Module):
    """Images (B, in_chans, H, W) -> logits (B, num_classes) of a timm model."""

    def __init__(self, body: Any, name: str):
        super().__init__()
        self.body = body
        self.name = name
        self.num_classes: int = body.num_classes
        import timm

        self.preprocessing: dict[str, Any] = timm.data.resolve_model_data_config(body, use_test_size=True)

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)

    def to_map(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """What `body.forward_features` gives of images of `size` as a map (B, C, h, w).

        Raises:
            GCPError: features that lie on no grid.
        """
        layout, prefix = self._layout(features, size)
        return to_map(features, layout, prefix, size)

    def from_map(self, x: Tensor, features: Tensor, size: tuple[int, int]) -> Tensor:
        """A map in the place of `features`, whose tokens beside the grid stay."""
        layout, prefix = self._layout(features, size)
        if layout == "NLC":
            return torch.cat([features[:, :prefix], x.flatten(2).mT], 1)
        return x.permute(0, 2, 3, 1) if layout == "NHWC" else x

    def _layout(self, features: Tensor, size: tuple[int, int]) -> tuple[str, int]:
        if features.ndim == 4:
            return str(getattr(self.body, "output_fmt", "NCHW")), 0
        declared = getattr(self.body, "num_prefix_tokens", None)
        prefix = prefix_tokens(features.shape[1], size, declared) if features.ndim == 3 else None
        if prefix is None:
            raise GCPError(f"{self.name!r} has no feature map: what it pools lies on no grid")
        return "NLC", prefix

    @property
    def image_size(self) -> int:
        """Side of the images that it was made for."""
        return int(self.preprocessing["input_size"][-1])

    @property
    def in_chans(self) -> int:
        """Channels of the images."""
        return int(self.preprocessing["input_size"][0])

    @property
    def told(self) -> Preprocessing:
        """How timm prepares its images."""
        return Preprocessing.of(self.preprocessing)

    def transform(self, own: Transform, image_size: int, told: Preprocessing) -> Transform:
        """Its own resizing of photographs; images prepared in memory keep theirs (`own`), with its statistics."""
        normalize = statistics(self.in_chans, told)
        if not isinstance(getattr(own, "transform", own), PerImage):
            return Renormalized(own, normalize)
        steps = AsTimm(image_size, self.in_chans, told)
        return PerImage(steps, steps, normalize, told)


def create_timm_reference(name: str, file: str | None = None) -> TimmReference:
    """The timm model `name` with timm's weights (a download), or with those in a file of its own layout.

    Raises:
        UnknownNameError: timm has no such model.
        CheckpointError: the file is not of this model.
        GCPError: the download failed.
    """
    import timm

    if not timm.is_model(name):
        raise UnknownNameError("model of timm", name, timm.list_models())
    if file is None:
        try:
            with from_hub():
                return TimmReference(timm.create_model(name, pretrained=True).eval(), name)
        except Exception as error:  # the libraries that download have errors that share no class
            raise GCPError(
                f"the weights of {name!r} could not be loaded by timm ({type(error).__name__}: {error}). Without a "
                f"network, fetch the file elsewhere and add --checkpoint FILE"
            ) from error
    state = open_checkpoint(file).state
    cfg = timm.get_pretrained_cfg(name) or timm.models.PretrainedCfg()
    key = cfg.classifier[0] if isinstance(cfg.classifier, (list, tuple)) else cfg.classifier
    weight = state.get(f"{key}.weight")
    if weight is None:
        raise CheckpointError(f"{file} is not of {name!r} of timm: it has no classifier {key!r}")
    body = timm.create_model(name, num_classes=weight.shape[0])
    own = body.state_dict()
    faults = [key for key, value in own.items() if key not in state or state[key].shape != value.shape]
    faults += [key for key in state if key not in own]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise CheckpointError(f"{file} is not of {name!r} of timm, these tensors differ: {', '.join(faults[:5])}{more}")
    body.load_state_dict(state)
    return TimmReference(body.eval(), name)
