"""What `gcp evaluate-glow` finds of a trained flow, in words, as plain values, and as files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gcp.engine.distributed import Group
from gcp.engine.likelihood import summary
from gcp.errors import GCPError, counted
from gcp.evaluation.files import write_csv
from gcp.evaluation.unlabelled import images_in
from gcp.runs.flow import pictures
from gcp.runs.flow.build import architecture
from gcp.runs.flow.trained import Trained

SHOWN = 10  # least likely images that are printed


def format_flow(trained: Trained) -> str:
    """File, model and unit; a line each."""
    loaded = trained.loaded
    shape = " x ".join(map(str, loaded.model.shape))
    return (
        f"checkpoint  {loaded.path}{' (averaged weights)' if loaded.averaged else ''}\n"
        f"model       {architecture(trained.config, loaded.model)}\n"
        f"images      {shape}, {loaded.bits.levels} grey levels and uniform noise"
    )


def about(trained: Trained) -> dict[str, Any]:
    """The same as plain values."""
    loaded = trained.loaded
    return {
        "checkpoint": str(loaded.path),
        "averaged_weights": loaded.averaged,
        "data": trained.config.data.name,
        "unit": f"loss: bits per dimension of {loaded.bits.levels} grey levels, uniform noise",
    }


def score_split(trained: Trained, split: str, out: Path | None, group: Group) -> dict[str, Any]:
    """Bits per dimension of a split. Into `out`, if any: bits.csv, interpolations.png, reconstructions.png.

    Raises:
        DataError: the data set is not there, the split is empty or a stream.
    """
    splits = trained.splits()
    images = splits.images(split)
    found = trained.bits(images, group)
    result = {"split": split, "rule": splits.rule, **summary(found)}
    print(f"split       {split} of {trained.config.data.name}, {counted(len(found), 'image')}\n{_bits(result)}")
    if out is not None and group.main:
        key, names = ("file", images.paths) if images.paths is not None else ("index", range(len(found)))
        rows = [{key: name, "bits_per_dimension": each} for name, each in zip(names, found.tolist(), strict=True)]
        write_csv(out / "bits.csv", rows)
        flow, levels = trained.loaded.model, trained.loaded.bits.levels
        some = pictures.spread(splits, split, flow)
        with torch.no_grad(), _writing(out):
            pictures.draw_interpolations(flow, levels, some, out)
            again = flow.inverse(flow.encode(some)[0])
            pictures.draw_reconstructions(levels, some, again, out)
        result["inversion"] = pictures.inversion(some, again)
        print(f"inverse     largest error {result['inversion']['largest']:.1e}\nfiles       {out}")
    return result


def score_folder(trained: Trained, folder: str, out: Path | None, group: Group) -> dict[str, Any]:
    """Bits per dimension of every image in a folder, the least likely first. Into `out`, if any: images.csv.

    Raises:
        DataError: no images, or one that cannot be read.
    """
    paths = images_in(folder)
    found = trained.bits(trained.files(paths), group)
    order = found.argsort(descending=True, stable=True).tolist()
    side = trained.loaded.model.shape[1]
    resized = _of_another_size(paths, side)
    result = {"folder": folder, "resized": resized, **summary(found)}
    print(f"folder      {folder}, {counted(len(paths), 'image')}\n{_bits(result)}")
    if resized:
        print(f"resized     {counted(resized, 'image')} of other sides than {side} x {side}, by data.transform")
    if group.main:
        rows = [{"file": paths[place], "bits_per_dimension": found[place].item()} for place in order]
        for row in rows[:SHOWN]:
            print(f"{row['bits_per_dimension']:>10.4f}  {row['file']}")
        if out is not None:
            write_csv(out / "images.csv", rows)
            print(f"table       {out / 'images.csv'}")
        elif len(rows) > SHOWN:
            print(f"{'...':>10}  and {len(rows) - SHOWN:,} more: --out FOLDER writes all")
    return result


def draw(trained: Trained, count: int, temperatures: Sequence[float], out: Path) -> None:
    """Samples into samples.png, of the numbers that run.seed gives."""
    config, loaded = trained.config, trained.loaded
    chosen = tuple(dict.fromkeys(temperatures)) or config.flow.temperatures
    with _writing(out):
        pictures.draw_samples(loaded.model, loaded.bits.levels, chosen, config.run.seed, out, count)
    told = ", ".join(f"{temperature:g}" for temperature in chosen)
    print(f"samples     {out / 'samples.png'}: {count} at each temperature of {told}")


def _bits(result: dict[str, Any]) -> str:
    error = "" if result["error"] is None else f", standard error over the images {result['error']:.4f}"
    return f"bits/dim    {result['loss']:.4f}{error}"


def _of_another_size(paths: Sequence[str], side: int) -> int:
    """How many files hold an image of other sides; their headers alone are read."""
    from PIL import Image

    other = 0
    for path in paths:
        with Image.open(path) as picture:
            other += picture.size != (side, side)
    return other


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GCPError(f"cannot write into {out}: {error}") from error
