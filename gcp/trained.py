"""A trained classifier for use in Python: `gcp.load(RUN)` gives the model and takes images as they are on disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gcp.cli.evaluation.entrance import enter
from gcp.data.decode import decode, from_pillow
from gcp.data.transforms import Transform
from gcp.engine.distributed import ALONE
from gcp.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Trained:
    """A model in evaluation mode, and what its images need.

    Attributes:
        model: images (B, in_chans, S, S), float32 and normalised, to logits (B, classes).
        classes: their names, None where the file tells none.
        transform: decoded images to (B, in_chans, S, S), as in evaluation without crops.
        in_chans: 1 for grey, 3 for RGB.
    """

    model: nn.Module
    classes: tuple[str, ...] | None
    transform: Transform
    in_chans: int

    def prepare(self, images: "Sequence[str | Path | Image] | str | Path | Image") -> Tensor:
        """Paths or Pillow images, one or several, to what the model takes, on its device.

        Raises:
            DataError: an image that cannot be read, or none at all.
        """
        several = images if isinstance(images, Sequence) and not isinstance(images, str) else [images]
        if not several:
            raise DataError("no images: give paths or Pillow images, at least one.")
        decoded = [
            decode(image, self.in_chans) if isinstance(image, str | Path) else from_pillow(image, "", self.in_chans)
            for image in several
        ]
        device = next(self.model.parameters()).device
        return self.transform.normalize(self.transform(decoded, None).to(device))

    @torch.inference_mode()
    def probabilities(self, images: "Sequence[str | Path | Image] | str | Path | Image") -> Tensor:
        """Of every class for every image: (B, classes), float32 on the CPU. Arguments and errors as for `prepare`."""
        return self.model(self.prepare(images)).float().softmax(1).cpu()


def load(checkpoint: str | Path, device: str = "auto") -> Trained:
    """The classifier of a run, its best weights, else its last, and averaged ones where there are; or of a file.

    Args:
        checkpoint: run folder, its name under `runs`, a checkpoint of ours or of others, or weights of timm.
        device: cpu, cuda, cuda:1, or auto for the GPU where there is one.

    Raises:
        CheckpointError: missing, damaged, or not told enough.
        OptionError: a GPU that is not there.
    """
    settings = [f"run.device={device}", "run.threads=null", "run.deterministic=false"]
    found = enter(str(checkpoint), settings, ALONE, scored=False)
    return Trained(found.model, found.classes, found.file_transform(), found.config.data.in_chans)
