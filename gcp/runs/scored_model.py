"""A model to be scored, wherever it comes from."""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gcp.config import Config
from gcp.config.sections import Data
from gcp.data import DATASETS, BatchLoader, ImageSet, Splits, StreamSet, create_loader
from gcp.data.rank_slice import RankSlice
from gcp.data.transforms import TRANSFORMS, PerImage, Transform, create_transform
from gcp.engine.distributed import Group
from gcp.engine.evaluate import Samples, collect, with_crops, with_transform
from gcp.engine.timm_reference import TimmReference
from gcp.errors import CheckpointError
from gcp.models import Classifier
from gcp.runs import build
from gcp.runs.run import check_classes

log = logging.getLogger("gcp")


@dataclass(frozen=True)
class ScoredModel:
    """A model in evaluation mode on its device, with the configuration of its images and of its scoring.

    `classes` are the names in its file, None where it has none; `head` what pools in it; `images` what the file records
    of the splits that it was trained and scored on; `kept` the classes whose logits are scored, None for all.
    """

    given: str
    model: Classifier | TimmReference
    config: Config
    device: torch.device
    head: str
    classes: tuple[str, ...] | None = None
    averaged: bool = False
    images: dict[str, Any] | None = None
    kept: tuple[int, ...] | None = None

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return build.scored_size(self.config)

    @property
    def data(self) -> Data:
        """The settings of the images, at that size."""
        return build.scored_data(self.config)

    @property
    def backbone(self) -> str:
        """Name of the network."""
        return self.model.name if isinstance(self.model, TimmReference) else self.config.model.backbone

    def splits(self) -> Splits:
        """The data set, at the size of this model.

        Raises:
            CheckpointError: it has other classes than the model.
        """
        splits = build.splits_of(self.data, self.image_size)
        if self.classes is not None:
            check_classes({"classes": self.classes}, splits, self.given)
            self._mention_other_images(splits)
        elif self.model.num_classes != len(splits.classes):
            raise CheckpointError(
                f"{self.given} has {self.model.num_classes} classes, the data set has {len(splits.classes)}"
            )
        return splits

    def _mention_other_images(self, splits: Splits) -> None:
        """Say so where the test images are not those of the run; among them may be some that it was trained on."""
        theirs, own = (self.images or {}).get("test"), splits.test.fingerprint()
        if theirs is not None and theirs != own:
            log.warning(
                "%s is of a run on other images: test split %s there, %s here. Some of these may have been trained on",
                self.given, theirs, own,
            )  # fmt: skip

    def prepared(self, images: ImageSet | StreamSet) -> ImageSet | StreamSet:
        """The images as this model takes them, without crops."""
        if isinstance(self.model, TimmReference):
            reference, size, told = self.model, self.image_size, build.preprocessing(self.data)
            return with_transform(images, lambda own: reference.transform(own, size, told))
        return images

    def file_transform(self) -> Transform:
        """From image files to what this model takes; the data set need not be there."""
        data, source = self.data, DATASETS[self.config.data.name].obj
        transform = for_files(data, self.image_size)
        if isinstance(self.model, TimmReference):
            return self.model.transform(transform, self.image_size, build.preprocessing(data))
        if source.needs_root is False and isinstance(transform, PerImage):
            transform.normalize = self.splits().test.normalize  # in memory, with statistics of its own
        return transform

    @property
    def as_shown(self) -> bool:
        """Whether image files are taken as a viewer shows them; of a model that was trained on no files they are."""
        asked, source = self.config.data.exif, DATASETS[self.config.data.name].obj
        return asked if asked is not None else source.as_shown or source.listing is None

    def loader(self, images: ImageSet | StreamSet, group: Group) -> BatchLoader:
        """Every image once, in its order, with the crops of the configuration."""
        config = self.config
        return create_loader(
            with_crops(images, config.evaluate.crops, self.image_size),
            config.evaluate.batch_size,
            train=False,
            workers=config.data.workers,
            pin_memory=self.device.type == "cuda",
            rank_slice=RankSlice(group.rank, group.world),
        )

    def run(self, images: ImageSet | StreamSet, group: Group) -> Samples:
        """What the model makes of each image."""
        run, crops = self.config.run, self.config.evaluate.crops
        model = self.model if self.kept is None else Restricted(self.model, self.kept)
        return collect(
            model, self.loader(images, group), self.device, run.amp, run.channels_last, group, crops
        )  # fmt: skip


class Restricted(nn.Module):
    """A model with the logits of some of its classes."""

    def __init__(self, model: nn.Module, kept: tuple[int, ...]):
        super().__init__()
        self.model, self.kept, self.num_classes = model, list(kept), len(kept)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images)[:, self.kept]


def descriptors(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What is pooled of images (B, C, H, W), before the classifier, and the token where it reads one: (B, D)."""
    if isinstance(model, TimmReference):
        return model.body.forward_head(model.body.forward_features(images), pre_logits=True)
    assert isinstance(model, Classifier)
    x, token = model.extract(images)
    pooled = model.head(x)
    return pooled if token is None else torch.cat([pooled, token.to(pooled.dtype)], 1)


def for_files(data: Data, image_size: int) -> Transform:
    """From image files to what a model of this configuration takes, the normalisation of images in memory aside."""
    name = data.transform if data.transform in TRANSFORMS else DATASETS[data.name].obj.default
    return create_transform(name, name, image_size, data.in_chans, build.preprocessing(data))
