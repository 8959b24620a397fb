"""Files of weights for the commands: what one is in lines to read, which triangle order it has, and writing one."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gcp.config import from_dict
from gcp.data import DATASETS, ImageSet, Loader, create_dataset
from gcp.data.annotations.layout import scan
from gcp.data.images import FileSet
from gcp.data.stream import StreamSet
from gcp.data.transforms import create_transform
from gcp.engine.checkpoint import FORMAT
from gcp.engine.order import score_orders
from gcp.errors import CheckpointError, DataError, GCPError, suggest
from gcp.models import Classifier
from gcp.models.archive import save_safetensors
from gcp.models.checkpoints import Checkpoint
from gcp.models.convert import origin
from gcp.models.preprocessing import IMAGES, of_checkpoint
from gcp.models.summary import CONVERTED, Summary
from gcp.models.weights import layout_text

if TYPE_CHECKING:
    from gcp.models import Classifier


def format_summary(checkpoint: Checkpoint, summary: Summary) -> str:
    """What a file is, one line for each fact."""
    assumed = "" if summary.head_told or summary.head is None else " (assumed from the width; the file does not tell)"
    order = {
        "": "none: the classifier reads no triangle",
        "upper": "upper",
        "unknown": "not told by the file: upper (2019 and later) or lower (2018); --data tells by the accuracy",
    }[summary.order]
    averaged = " (averaged weights)" if checkpoint.averaged else ""
    stride = {None: "as the backbone has it", 1: "1", 2: "2"}[summary.last_stride]
    lines = {
        "file": f"{checkpoint.path}{averaged}",
        "layout": layout_text(checkpoint),
        "backbone": summary.backbone or "none of the usual ones; name it by --backbone",
        "last stride": stride,
        "head": f"{summary.head or 'none of this library'}{assumed}",
        "d": summary.dim if summary.dim is not None else "no reduction",
        "classifier": _layers(summary),
        "classes": summary.num_classes if summary.num_classes is not None else "not told",
        "order": order,
        "epoch": summary.epoch if summary.epoch is not None else "not told",
        "size": f"{summary.tensors} tensors, {summary.parameters / 1e6:.2f} million numbers",
    }
    return "\n".join(f"{key:<12}{value}" for key, value in lines.items())


def _layers(summary: Summary) -> str:
    widths = [summary.width, *summary.hidden, summary.num_classes]
    return " -> ".join(map(str, widths)) if summary.width else "none that a head of this library can stand before"


def labelled(words: list[str], image_size: int, in_chans: int) -> tuple[ImageSet, tuple[str, ...]]:
    """Images and class names: of NAME ROOT the test split of a data set, of FOLDER the images of FOLDER/CLASS."""
    if len(words) == 1 and words[0] not in DATASETS:
        folder = Path(words[0]).expanduser()
        if not folder.is_dir():
            raise DataError(f"no folder {folder} of labelled images.{suggest(words[0], DATASETS)}")
        by_class, empty = scan(folder)
        if empty:
            raise DataError(empty[0])
        paths = [path for files in by_class.values() for path in files]
        labels = [label for label, files in enumerate(by_class.values()) for _ in files]
        transform = create_transform("none", "random_resized_crop", image_size, in_chans)
        return FileSet(paths, labels, transform, in_chans), tuple(by_class)
    name, root = (*words, None)[:2]
    splits = create_dataset(
        str(name), root, image_size=image_size, in_chans=in_chans, transform="none", partial=True
    )  # a part of the images shows as much
    if isinstance(splits.test, StreamSet):
        raise DataError(f"{name} is a stream, of which no images can be picked; give FOLDER with one folder per class")
    return splits.images("test"), splits.classes


def check_classes(classes: tuple[str, ...], model: "Classifier") -> None:
    """Raise DataError where the images have another number of classes than the file."""
    if len(classes) != model.num_classes:
        raise DataError(f"the images have {len(classes)} classes, the file {model.num_classes}: another data set")


def choose_order(model: "Classifier", images: ImageSet, most: int, batch_size: int) -> str:
    """Score a model, read as upper, in both orders, on at most `most` images; print the scores and choose.

    Raises:
        GCPError: the images do not decide it.
    """
    if len(images) > most:  # spread over all classes, which lie one after the other
        images = images.subset(np.linspace(0, len(images) - 1, most).astype(np.int64))
    scores = score_orders(model, Loader(images, batch_size, train=False), torch.device("cpu"))
    told = f"{scores.upper} of {scores.count} images right as upper, {scores.lower} as lower"
    if scores.order is None:
        raise GCPError(
            f"the images do not tell the order: {told}. Give more (--images), the size that the file was trained with "
            "(--image-size), its own classes, or choose by --order upper or lower."
        )
    print(f"order       {scores.order}: {told}")
    return scores.order


CARRIED = ("config", "classes", "images", IMAGES, "scores", "temperature", CONVERTED)  # from a file of ours to another


def write_own(
    out: Path,
    checkpoint: Checkpoint,
    summary: Summary,
    model: Classifier,
    order: str,
    classes: Sequence[str] | None,
    changed: bool,
) -> None:
    """A checkpoint like a run's best.pt: weights, configuration, class names where known, and where it comes from.

    `changed`: the command line says more of the model than the file.
    """
    carried = CARRIED if summary.layout == "own" else ()
    about: dict[str, Any] = {key: checkpoint.about[key] for key in carried if key in checkpoint.about}
    if changed or "config" not in about:
        about["config"] = configuration(model, about.get("config", {}))
    if not carried and (found := of_checkpoint(checkpoint, summary.backbone)):
        about["config"]["data"] |= {**found[0], "preprocessing": "dataset"}
    about.setdefault(CONVERTED, origin(checkpoint, summary, order))
    if classes is not None:
        about["classes"] = list(classes)
    if out.suffix == ".safetensors":
        _replace(out, lambda path: save_safetensors(path, model.state_dict(), about))
    else:
        replace_file(out, {"format": FORMAT, "model": model.state_dict(), **about})


def configuration(model: Classifier, base: dict[str, Any]) -> dict[str, Any]:
    """The resolved configuration `base` ({}: the defaults) with the keys that make it build `model`."""
    arguments = dict(model.arguments)
    in_chans = arguments.pop("in_chans")
    built = ("backbone", "last_stride", "stage", "token", "hidden", "dropout", "drop_path")
    keys = (*built, "factors", "widths", "classifier_norm", "norm")
    named = {key: arguments.pop(key) for key in keys}
    head = {"name": arguments.pop("head"), "dim": arguments.pop("dim")}
    arguments.pop("num_classes")
    arguments.pop("image_size")  # that of the images, which the section of the data has
    values = {
        **base,
        "model": {**base.get("model", {}), **named},
        "head": {**head, **arguments},
        "data": {**base.get("data", {}), "in_chans": in_chans},
    }
    return from_dict(values, source="the converted model").plain()


def replace_file(out: Path, content: dict[str, Any]) -> None:
    """Write a file of torch."""
    _replace(out, lambda path: torch.save(content, path))


def _replace(out: Path, write: Callable[[Path], object]) -> None:
    """Write beside the file and rename, so that a kill leaves the old file or the new one.

    Raises CheckpointError where the system refuses.
    """
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        temporary.touch()  # torch answers a refusal of the system by an error of its own
        write(temporary)
        os.replace(temporary, out)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"cannot write {out}: {error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
