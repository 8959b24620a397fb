"""The maps of a frozen backbone, computed once for every run with the same weights, preprocessing and images.

A split is a file in `train.cache_dir`, named by a hash of what its maps depend on: the weights of the backbone, how the
configuration builds it, the labels and files (names, sizes, times) or tensors of the split, and a few of its images as
they enter the backbone, in which any change of the preprocessing shows. Runs that find the file complete read it;
runs that find it incomplete compute what is missing, several of them at once each a part (`gcp.data.feature_file`).
"""

import hashlib
import logging
import shlex
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gcp.config import Config
from gcp.data import ImageSet, Splits, StreamSet
from gcp.data.annotations.listing import SPLITS
from gcp.data.feature_file import FeatureFile, kept_in
from gcp.data.features import FeatureSet
from gcp.data.images import TensorSet
from gcp.data.loader import Fetch, begin, count_workers, open_workers
from gcp.data.seeds import AUGMENT, hashed
from gcp.engine.device import ToDevice, autocast
from gcp.engine.distributed import ALONE, Group
from gcp.engine.evaluate import Samples, collect
from gcp.errors import ConfigError, DataError, counted
from gcp.models import Classifier
from gcp.models.classifier import taking_maps
from gcp.runs import build
from gcp.runs.scored_model import ScoredModel

log = logging.getLogger("gcp")

BATCH = 32  # images of a forward pass at most
PROBED = 4  # images of which the preprocessing is told
DRAWS = 6  # augmentations of each of them
NOT_BUILT = ("pretrained", "freeze", "hidden", "dropout", "classifier_norm")  # keys of the model beside its backbone
SECONDS = 20.0  # between two lines of progress
SHOWN = 4  # files of other runs that are named, those that were used longest ago
WAIT = 0.2  # seconds between two looks at what another process computes


class CachedFeatures:
    """The splits of a run as feature maps; `fill` computes what is not there yet, after which they can be read.

    Args:
        config: with `train.cache_features`.
        splits: the images.
        model: whose backbone is frozen; its weights count when `fill` is called.
        device: where to compute.
        group: processes of the run, which share the work.
        names: the splits that are needed.

    Raises:
        ConfigError: an augmentation that cannot be kept.
        DataError: images that can only be read in order.
    """

    def __init__(
        self,
        config: Config,
        splits: Splits,
        model: Classifier,
        device: torch.device,
        group: Group = ALONE,
        names: Iterable[str] = SPLITS,
    ):
        self.config, self.images, self.model, self.device, self.group = config, splits, model, device, group
        self.folder, self.names = Path(config.train.cache_dir), tuple(names)
        for name in self.names:
            if isinstance(getattr(splits, name), StreamSet):
                raise DataError(
                    f"the {name} split of data.name: {config.data.name} is a stream, of which no features are kept. "
                    "Set train.cache_features=false"
                )
        self.views = {name: count_views(config, splits.images(name)) if name == "train" else 1 for name in self.names}
        size = build.image_size(config)
        height, width = model.features.map_size(size)
        beside = model.token != "none"  # a token lies before the positions, see `Classifier.maps`
        self.shape = (model.features.channels, *((1 + height * width, 1) if beside else (height, width)))
        self.sets = {name: self._set(name) for name in self.names}

    @cached_property
    def splits(self) -> Splits:
        """The maps in place of the images; a split that is not needed is empty."""
        every = {name: self.sets.get(name) or self._set(name).subset([]) for name in SPLITS}
        return Splits(**every, classes=self.images.classes, rule=self.images.rule)

    def _set(self, name: str) -> FeatureSet:
        images, views = self.images.images(name), self.views.get(name, 1)
        return FeatureSet(images.labels, self._file(name, len(images), views), views)

    def _file(self, name: str, images: int, views: int) -> FeatureFile:
        return FeatureFile(self.folder / name, images * views, self.shape, self.config.train.cache_dtype, views)

    def fill(self) -> None:
        """Compute what is missing, or wait for who is at it, and compare the checksums.

        Raises:
            DataError: the disk has no room; an image cannot be read; features that do not fit into float16.
        """
        backbone = self._backbone()
        for name, split in self.sets.items():
            split.file = self._file(f"{name}-{self._key(name, backbone)}", len(split), split.views)
        incomplete = [name for name, split in self.sets.items() if split.file.missing()]
        for name in incomplete:
            self.sets[name].file.reserve()
        if incomplete:
            self._announce(incomplete)
        for name, split in self.sets.items():
            while True:
                self._complete(name, split)
                damaged = split.file.verify() if split.file.rows else []
                if not damaged:
                    break
                log.warning("%s: %d damaged pieces are computed again", split.file.path, len(damaged))
            split.file.touch()
            split.file.close()
        if self.group.main:
            print(kept_text(self.folder, [split.file.path for split in self.sets.values()]), flush=True)

    def _announce(self, names: list[str]) -> None:
        """Size and time beforehand; the time is that of a first batch."""
        files = [self.sets[name].file for name in names]
        left = [sum(len(file.rows_of(piece)) for piece in file.missing()) for file in files]
        some = getattr(self.images, names[0])
        places = np.arange(min(8, len(some)))
        batch, labels = some.read(places)
        self._maps(some, batch, labels)  # the first pass prepares the kernels
        started = time.perf_counter()
        some.read(places)
        self._maps(some, batch, labels)
        seconds = (time.perf_counter() - started) / len(places) * sum(left)
        counts = ", ".join(f"{count:,} {name}" for count, name in zip(left, names, strict=True))
        size = sum(file.bytes for file in files)
        shape = "x".join(map(str, self.shape))
        views = f" ({self.views['train']} of each training image)" if self.views.get("train", 1) > 1 else ""
        if self.group.main:
            print(
                f"features   {counts} maps{views} of {shape} in {files[0].dtype} are to be computed: "
                f"{size_text(size)} in {self.folder}, about {duration(seconds)} with one process",
                flush=True,
            )

    def _complete(self, name: str, split: FeatureSet) -> None:
        """Until every piece of a split is there: by this process, or by others that are at it."""
        file = split.file
        told = False
        while file.rows and file.missing():
            if self._compute(name, split):
                continue
            if not told:
                told = True
                print(f"features   waiting for another process that computes {file.path}", flush=True)
            self.group.heartbeat()
            time.sleep(WAIT)

    def _compute(self, name: str, split: FeatureSet) -> int:
        """Compute the missing pieces that nobody is at. Returns how many."""
        images, file = self.images.images(name), split.file
        pieces = file.claims()
        if (first := next(pieces, None)) is None:
            return 0
        keys = _Requests(file, chain([first], pieces), split.views, self.config.train.cache_views)
        on_cpu = self.device.type == "cpu"  # it computes on the cores that would read ahead
        workers = 0 if on_cpu else count_workers(self.config.data.workers, images.in_memory)
        batches = begin(open_workers(Fetch(images), keys, workers, not on_cpu))
        count, parts, told = 0, [], time.monotonic()
        for batch in batches:
            if isinstance(batch, Exception):
                raise batch
            piece, ends = keys.issued.popleft()
            parts.append(self._rows(images, batch[0], batch[1], split.views if keys.mirrors else 1))
            self.group.heartbeat()
            if ends:
                file.write(piece, np.concatenate(parts))
                parts.clear()
                count += 1
                if time.monotonic() - told > SECONDS and self.group.main:
                    told = time.monotonic()
                    share = 100 * (1 - len(file.missing()) / file.pieces)
                    print(f"features   {name} {share:.0f} %", flush=True)
        return count

    def _rows(self, images: ImageSet, batch: Tensor, labels: Tensor, views: int) -> np.ndarray:
        """Maps of a batch in the type of the file, each followed by that of its mirror image where `views` is 2."""
        maps = self._maps(images, batch, labels)
        if views == 2:
            maps = torch.stack([maps, self._maps(images, batch.flip(3), labels)], 1).flatten(0, 1)
        stored = maps.to(getattr(torch, self.config.train.cache_dtype))
        if not torch.isfinite(stored).all():
            largest = maps.abs().max().item()
            raise DataError(
                f"features of up to {largest:.3g} do not fit into {self.config.train.cache_dtype}. "
                "Set train.cache_dtype=float32, or look at the weights where they are not finite in that either"
            )
        return stored.cpu().numpy()

    @torch.no_grad()
    def _maps(self, images: ImageSet, batch: Tensor, labels: Tensor) -> Tensor:
        to_device = ToDevice(self.device, images.normalize, self.config.run.channels_last)
        inputs = to_device(batch, labels)[0]
        with autocast(self.device, self.config.run.amp):
            return self.model.maps(inputs).float().contiguous()

    def _backbone(self) -> str:
        """Hash of the weights, and of how the backbone is built from them."""
        digest = hashlib.blake2b(digest_size=12)
        settings = {k: v for k, v in sorted(self.config.model.model_dump(mode="json").items()) if k not in NOT_BUILT}
        precision = self.config.run.amp, self.config.train.cache_dtype
        digest.update(repr((settings, precision, self.shape)).encode())
        for name, value in self.model.features.state_dict().items():
            digest.update(name.encode())
            digest.update(_bytes(value))
        return digest.hexdigest()

    def _key(self, name: str, backbone: str) -> str:
        """Hash of the maps of a split."""
        images = self.images.images(name)
        digest = hashlib.blake2b(digest_size=8)
        views = self.config.train.cache_views if self.views[name] > 2 else ""
        shown = getattr(images, "as_shown", None)  # few of the images probed below may have an orientation
        digest.update(f"{backbone} {images.fingerprint()} {self.views[name]} {views} {shown}".encode())
        if len(images):
            places = _probed(images)
            digest.update(_bytes(images.normalize(images.read(places)[0])))
            if isinstance(views, int):
                digest.update(_bytes(images.read(places, _seeds(places, 0))[0]))
        if isinstance(images, TensorSet):
            digest.update(_bytes(images.images))
        for path in images.paths or ():
            status = Path(path).stat()
            digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
        return digest.hexdigest()


class _Requests:
    """What to read for pieces of a file, which are claimed as they come: (images, seeds) of a batch.

    `issued`: of every batch that was asked for its piece, and whether it is the last of it.
    """

    def __init__(self, file: FeatureFile, pieces: Iterable[int], views: int, asked: object):
        self.file, self.pieces, self.views = file, pieces, views
        self.augments = views > 1 and isinstance(asked, int)
        self.mirrors = views == 2 and not self.augments
        self.issued: deque[tuple[int, bool]] = deque()

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        for piece in self.pieces:
            rows = np.array(self.file.rows_of(piece))
            rows = rows[:: self.views] if self.mirrors else rows
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                self.issued.append((piece, start + BATCH >= len(rows)))
                images = part // self.views
                yield images, _seeds(images, part % self.views) if self.augments else None


def _seeds(images: np.ndarray, view: int | np.ndarray) -> np.ndarray:
    """Of the augmentations that are kept: the same for every run."""
    return hashed(AUGMENT, 0, view, images)


def _probed(images: ImageSet) -> np.ndarray:
    return np.linspace(0, len(images) - 1, min(PROBED, len(images))).astype(np.int64)


def count_views(config: Config, images: ImageSet) -> int:
    """Versions of a training image that are kept.

    Raises:
        ConfigError: the transform draws more than a mirror, and it is not said how many of its images to keep.
    """
    asked = config.train.cache_views
    if isinstance(asked, int):
        return asked
    if asked != "auto":
        return {"plain": 1, "mirror": 2}[asked]
    places = _probed(images)
    plain = images.read(places)[0]
    mirrors = False
    for draw in range(DRAWS):
        for image, augmented in zip(plain, images.read(places, _seeds(places, draw))[0], strict=True):
            if torch.equal(image, augmented):
                continue
            if not torch.equal(image.flip(-1), augmented):
                raise ConfigError(
                    [
                        f"train.cache_views: auto with data.transform: {config.data.transform}, which draws other "
                        "images in every epoch than a cache can hold; allowed: a number, such as 4, of augmentations "
                        "of each image that are kept; mirror; plain; or data.transform=none"
                    ]
                )
            mirrors = True
    return 2 if mirrors else 1


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def duration(seconds: float) -> str:
    """`40 s`, `3 min`, `1.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def kept_text(folder: Path, read: Collection[Path]) -> str:
    """What the folder of the features holds, and how to remove what no run needs: `read` are the files of this run."""
    files = kept_in(folder)
    others = [kept for kept in files if kept.path not in read]
    total = f"features   {size_text(sum(kept.bytes for kept in files))} in {folder}"
    if not others:
        return f"{total}, all read by this run; to remove them: rm -r {shlex.quote(str(folder))}"
    oldest = others[:SHOWN]
    days = int((time.time() - oldest[-1].used) / 86400)
    which = f"the {len(oldest)} oldest of these {len(others)}" if len(others) > SHOWN else "these"
    unused = f", not read for {counted(days, 'day')}" if days else ""
    names = " ".join(f"{shlex.quote(str(kept.path))}.*" for kept in oldest)
    size = size_text(sum(kept.bytes for kept in others))
    return f"{total}, {size} of them not read by this run; to remove {which}{unused}:\n           rm {names}"


def score_cached(scored: ScoredModel, split: str) -> Samples:
    """What the model of a run that trained on cached features makes of each image of a split, from these features."""
    config, device, model = scored.config, scored.device, scored.model
    assert isinstance(model, Classifier), "a run's own model"
    cached = CachedFeatures(config, scored.splits(), model, device, names=[split])
    cached.fill()
    loader = build.score_loader(config, cached.sets[split], device)
    with taking_maps(model, True):
        return collect(model, loader, device, config.run.amp, config.run.channels_last)


def size_text(count: int) -> str:
    """`3.1 MB`, `12.40 GB`."""
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.2f} GB"
