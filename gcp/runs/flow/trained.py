"""A trained flow, and its scores for images: a split of its data set, or any folder."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gcp.config import FlowConfig, from_dict
from gcp.data import ImageSet, Splits
from gcp.data.dequantise import Dequantised
from gcp.data.images import FileSet
from gcp.engine.distributed import Group
from gcp.engine.likelihood import image_bits
from gcp.engine.trained_flow import TrainedFlow, load_flow
from gcp.runs import build
from gcp.runs.flow.build import build_splits
from gcp.runs.scored_model import for_files


@dataclass(frozen=True)
class Trained:
    """A flow on its device, with its configuration under the settings of the command line."""

    loaded: TrainedFlow
    config: FlowConfig
    device: torch.device

    def splits(self) -> Splits:
        """Of its data set, with the noise of the run."""
        return build_splits(self.config)

    def files(self, paths: Sequence[str]) -> Dequantised:
        """Image files as the flow takes them; the noise of each is that of its place among them."""
        channels, side, _ = self.loaded.model.shape
        images = FileSet(paths, [0] * len(paths), for_files(self.config.data, side), channels)
        return Dequantised(images, self.loaded.bits.levels, channels)

    def bits(self, images: ImageSet, group: Group) -> Tensor:
        """Bits per dimension of each image (N,), float64."""
        loader = build.score_loader(self.config, images, self.device, group)
        return image_bits(self.loaded.model.log_prob, loader, self.device, self.loaded.bits, group)


def open_model(given: str, overrides: list[str], group: Group) -> Trained:
    """The flow of a file, of a run folder (the best weights) or of its name, under settings that do not change it.

    Raises:
        CheckpointError: missing, damaged, or of another model.
        ConfigError: overrides that do not fit.
    """
    loaded = load_flow(given)
    config = from_dict(loaded.config, overrides, f"the configuration in {loaded.path}", FlowConfig)
    device = build.build_device(config, group)
    loaded.model.to(device)
    return Trained(loaded, config, device)
