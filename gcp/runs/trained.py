"""A trained classifier in Python: `gcp.load(RUN)` gives the model, its class names and the transform of its images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from gcp.data.decode import decode, decode_pillow
from gcp.data.seeds import preserved
from gcp.data.transforms import Transform
from gcp.engine.distributed import ALONE
from gcp.errors import DataError
from gcp.runs.open_model import open_model
from gcp.runs.scored_model import ScoredModel, descriptors

if TYPE_CHECKING:
    from PIL.Image import Image


class Prediction(NamedTuple):
    """The most probable class of an image, its probability from 0 to 1, and the next ones: (name, probability)."""

    name: str
    probability: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True, repr=False)
class TrainedClassifier:
    """A model in evaluation mode, and what its images need.

    Attributes:
        model: images (B, in_chans, S, S), float32 and normalised, to logits (B, classes).
        classes: their names, None where the file has none.
        transform: decoded images to (B, in_chans, S, S), as in evaluation without crops.
        in_chans: 1 for grey, 3 for RGB.
        as_shown: images are turned as their EXIF orientation says, transparent parts are white.
    """

    model: nn.Module
    classes: tuple[str, ...] | None
    transform: Transform
    in_chans: int
    as_shown: bool = True

    def prepare(self, images: "Sequence[str | Path | Image] | str | Path | Image") -> Tensor:
        """Paths or Pillow images, one or a list of them, to what the model takes, on its device: a batch of them all.

        Raises:
            DataError: an image that cannot be read, something else than an image, or none at all.
        """
        device = next(self.model.parameters()).device
        return self.transform.normalize(self.pixels(images).to(device))

    def pixels(self, images: "Sequence[str | Path | Image] | str | Path | Image") -> Tensor:
        """The part of each image that the model is given, (B, in_chans, S, S), uint8 or in [0, 1], on the CPU.

        Arguments and errors as for `prepare`.
        """
        several = images if isinstance(images, Sequence) and not isinstance(images, str) else [images]
        if not several:
            raise DataError("no images: give paths or Pillow images, at least one.")
        decoded = [_decode(image, number, self.in_chans, self.as_shown) for number, image in enumerate(several, 1)]
        return self.transform(decoded, None)

    def predict(
        self, images: "Sequence[str | Path | Image] | str | Path | Image", top: int = 5, batch: int = 64
    ) -> "list[Prediction]":
        """The class of every image, its probability, and the `top` most probable classes; `batch` images at a time.

        A file without class names has them as "class 0", "class 1", ... Arguments and errors as for `prepare`.
        """
        several = images if isinstance(images, Sequence) and not isinstance(images, str) else [images]
        names, found = self.names, []
        for start in range(0, max(len(several), 1), batch):
            best = self.probabilities(several[start : start + batch]).topk(min(top, self.num_classes))
            for values, places in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                ranked = tuple((names[place], value) for place, value in zip(places, values, strict=True))
                found.append(Prediction(*ranked[0], ranked))
        return found

    @torch.inference_mode()
    def embed(self, images: "Sequence[str | Path | Image] | str | Path | Image", batch: int = 64) -> Tensor:
        """The descriptor of every image, what the head gives before the classifier: (N, D), float32 on the CPU.

        They are not normalised; images are compared by the cosine. Arguments and errors as for `prepare`.
        """
        several = images if isinstance(images, Sequence) and not isinstance(images, str) else [images]
        starts = range(0, max(len(several), 1), batch)
        return torch.cat(
            [descriptors(self.model, self.prepare(several[start : start + batch])).float().cpu() for start in starts]
        )

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return int(self.model.num_classes)  # type: ignore[arg-type]

    @property
    def names(self) -> tuple[str, ...]:
        """`classes`, or "class 0", "class 1", ... where the file has none."""
        return self.classes or tuple(f"class {place}" for place in range(self.num_classes))

    def __repr__(self) -> str:
        names = "" if self.classes is None else f": {', '.join(self.classes[:3])}" + ", ..." * (len(self.classes) > 3)
        return f"{type(self).__name__}({self.model!r}, {self.num_classes} classes{names})"

    @torch.inference_mode()
    def probabilities(self, images: "Sequence[str | Path | Image] | str | Path | Image") -> Tensor:
        """Of every class for every image: (B, classes), float32 on the CPU. Arguments and errors as for `prepare`."""
        return self.model(self.prepare(images)).float().softmax(1).cpu()


def load(checkpoint: str | Path, device: str = "auto") -> TrainedClassifier:
    """The classifier of a run, its best weights, else its last, and averaged ones where there are; or of a file.

    Args:
        checkpoint: run folder, its name under `runs`, a checkpoint of ours or of others, or weights of timm.
        device: cpu, cuda, cuda:1, or auto for the GPU where there is one.

    Raises:
        CheckpointError: missing, damaged, or without enough to build the model.
        OptionError: a GPU that is not there.

    Examples:
        >>> import gcp
        >>> trained = gcp.load("runs/mine")
        >>> trained.classes[:3]
        ('0', '1', '2')
        >>> trained.model.training
        False
    """
    settings = [f"run.device={device}", "run.threads=null", "run.deterministic=false"]
    with _undisturbed():
        return classifier_of(open_model(str(Path(checkpoint).expanduser()), settings, ALONE, scored=False))


def classifier_of(found: ScoredModel) -> TrainedClassifier:
    """The classifier of a model that was opened."""
    return TrainedClassifier(
        found.model, found.classes, found.file_transform(), found.config.data.in_chans, found.as_shown
    )


def _decode(image: Any, number: int, in_chans: int, as_shown: bool) -> Tensor:
    """The pixels of a path or a Pillow image, the `number`-th of those given."""
    from PIL.Image import Image

    if isinstance(image, str | Path):
        return decode(image, in_chans, as_shown)
    if isinstance(image, Image):
        return decode_pillow(image, getattr(image, "filename", "") or f"number {number}", in_chans, as_shown)
    raise DataError(
        f"image number {number} is of type {type(image).__name__}; allowed: paths and Pillow images, one or a list of "
        "them. An array becomes one by PIL.Image.fromarray; a tensor that is prepared goes to the model itself."
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Leave random numbers (of the CPU) and deterministic kernels as the caller has set them."""
    mode = torch.get_deterministic_debug_mode()
    try:
        with preserved():
            yield
    finally:
        torch.set_deterministic_debug_mode(mode)
