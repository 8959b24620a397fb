"""`gcp export MODEL OUT [flags] [key=value ...]`."""

import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcp.cli.arguments import parse
from gcp.command import as_typed
from gcp.errors import GCPError, OptionError, suggest

if TYPE_CHECKING:
    from torch import Tensor

    from gcp.models.program import Difference
    from gcp.runs.scored_model import ScoredModel

FLAGS = {
    **dict.fromkeys(("--bound", "--batch", "--images", "--order"), (1, 1)),
    **dict.fromkeys(("--keep-head", "--force", "--help"), (0, 0)),
}
FORMATS = (".onnx", ".pt2", ".ts")  # of `gcp.models.program`, which needs torch
BOUND = 0.01
COUNT = 32  # images on which program and model are compared
ALLOWED = ("data.", "run.")

USAGE = f"""\
A trained model as a program that runs without this library.

  gcp export MODEL OUT [flags] [key=value ...]

MODEL is what gcp evaluate takes. OUT ends in .onnx, .pt2 (torch.export) or .ts (TorchScript). The program
takes normalised images (B, channels, S, S) float32 and gives logits; class names, image size, mean and deviation are in
the file. It is compared with the model, ONNX by onnxruntime, before it is written: at most 1e-4 of the largest logit.

Heads made of matrix products (average, covariance, newton_schulz, polar_express, mtp_lyapunov, bilinear,
compact_bilinear) are written as they are. log_euclidean is written with a logarithm by products, any other as
polar_express; the difference is measured.

  --bound X        refuse where the logits then differ by more, relative to the largest one ({BOUND:g})
  --keep-head      write the eigendecomposition itself (.pt2 and .ts; ONNX has none)
  --images FOLDER  measure on these images (default: test images of the data set where it is there, else noise)
  --batch N        a program for N images at a time (default: any number)
  --order ORDER    upper or lower: which triangle a file of another project holds (upper)
  --force          replace OUT

Example:
  gcp export runs/digits-resnet20_cifar-svd_pade-1 digits.onnx
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    paths = []
    while argv and not argv[0].startswith("-") and "=" not in argv[0]:
        paths.append(argv[0])
        argv = argv[1:]
    model = shlex.quote(paths[0]) if paths else "runs/NAME"
    arguments = parse(
        argv, FLAGS, {"OUT": f"gcp export {model} {{}}", "--images": f"gcp export {model} model.onnx --images photos"}
    )
    flags = arguments.flags
    if "--help" in flags:
        print(as_typed(USAGE))
        return 0
    logging.basicConfig(format="%(message)s")  # warnings; the exporters of torch log every step at a lower level
    if len(paths) != 2:
        raise GCPError(
            f"needs MODEL and OUT before the flags, got {len(paths)} of them. Type for example\n"
            f"  gcp export {model} model.onnx\nor --help for more."
        )
    from gcp.cli.train import check_overrides

    given, out = paths[0], Path(paths[1])
    check_overrides(arguments.overrides, ALLOWED, "an export")
    if out.suffix not in FORMATS and Path(given).suffix in FORMATS:
        raise GCPError(f"the model comes first. Type for example\n  gcp export {shlex.join([paths[1], given])}")
    _check_target(out, "--force" in flags)
    bound, batch = _positive(flags, "--bound", BOUND), _positive(flags, "--batch", 0.0)
    if batch != int(batch):
        raise OptionError(f"--batch is {flags['--batch'][0]!r}; allowed: a whole number >= 1.")
    if "--keep-head" in flags and out.suffix == ".onnx":
        raise GCPError("--keep-head: ONNX has no eigendecomposition; write .pt2 or .ts, or leave the flag out.")
    order = flags.get("--order", [None])[0]
    if order not in (None, "upper", "lower"):
        raise OptionError(f"--order is {order!r}; allowed: upper, lower.")
    return _export(given, out, order, arguments.overrides, flags, bound, int(batch) or None)


def _export(
    given: str,
    out: Path,
    order: str | None,
    overrides: list[str],
    flags: dict[str, list[str]],
    bound: float,
    batch: int | None,
) -> int:
    from gcp.engine.distributed import ALONE
    from gcp.models import Classifier
    from gcp.models.program import substitute, write_program
    from gcp.runs.open_model import open_model

    scored_model = open_model(given, [*overrides, "run.device=cpu"], ALONE, order, scored=False)
    model = scored_model.model
    if not isinstance(model, Classifier):
        raise GCPError(f"{given} is a model of timm, which exports it itself; this is for models with a head of ours")
    images, told = _images(scored_model, flags.get("--images", [None])[0], max(COUNT, batch or 0))
    difference = None if "--keep-head" in flags else substitute(model, images)
    print(f"{'model':<12}{scored_model.backbone} + {scored_model.head}\n{'images':<12}{told}")
    if difference is not None:
        _report(difference, scored_model.head, model.arguments["head"], bound)
    worst = write_program(model, images, out, _about(scored_model, model.arguments["head"]), batch)
    print(f"{'agrees':<12}to {worst:.1e} of the largest logit")
    print(f"{'written':<12}{out}, {out.stat().st_size / 2**20:.1f} MiB")
    return 0


def _report(difference: "Difference", head: str, substitute: str, bound: float) -> None:
    told = f"{difference.logits:.1e} of the largest logit, {100 * difference.same:.0f} % of {difference.count} the same"
    if difference.logits > bound and substitute == head:
        raise GCPError(
            f"{head} by matrix products changes the logits by {told} class; the bound is {bound:g}. Eigenvalues are "
            "farther apart than 1e10: train with a larger head.ridge, or write .pt2 or .ts with --keep-head."
        )
    if difference.logits > bound:
        raise GCPError(
            f"{substitute} in the place of {head} changes the logits by {told} class; the bound is {bound:g}. Train "
            f"some epochs with head.name={substitute} and export that, write .pt2 or .ts with --keep-head, or raise "
            "--bound."
        )
    what = f"{head} by matrix products" if substitute == head else f"{substitute} in the place of {head}"
    print(f"{'head':<12}{what}: {told} class")


def _images(scored_model: "ScoredModel", folder: str | None, count: int) -> "tuple[Tensor, str]":
    """Normalised images on the CPU, and what they are."""
    import torch

    from gcp.data import StreamSet
    from gcp.evaluation.unlabelled import file_set, images_in

    if folder is not None:
        files = images_in(folder)
        chosen = file_set(scored_model, [files[place % len(files)] for place in range(count)])
        return chosen.normalize(chosen.read(range(count))[0]), f"{min(count, len(files))} of {folder}"
    try:
        images = scored_model.splits().test
        if not isinstance(images, StreamSet):
            count = min(count, len(images))
            places = [place * len(images) // count for place in range(count)]
            return images.normalize(images.read(places)[0]), f"{count} test images of {scored_model.config.data.name}"
    except GCPError:
        pass  # the program does not depend on them, and the line that is printed says what it was measured on
    size, chans = scored_model.image_size, scored_model.config.data.in_chans
    noise = torch.randn(count, chans, size, size, generator=torch.Generator().manual_seed(0))
    return noise, f"{count} of noise, for want of the data set; --images DIR measures on real ones"


def _about(scored_model: "ScoredModel", head: str) -> dict[str, Any]:
    normalize: Any = scored_model.file_transform().normalize
    return {
        "backbone": scored_model.backbone,
        "head": head,
        "trained_head": scored_model.head,
        "classes": list(scored_model.classes or ()),
        "image_size": scored_model.image_size,
        "mean": list(normalize.mean),
        "std": list(normalize.std),
    }


def _check_target(out: Path, force: bool) -> None:
    from gcp.evaluation.files import check_file

    if out.suffix not in FORMATS:
        raise GCPError(f"{out}: the name ends in {', '.join(FORMATS)}.{suggest(out.suffix, FORMATS)}")
    check_file("OUT", str(out))
    if out.exists() and not force:
        raise GCPError(f"{out} exists; replace it by --force")


def _positive(flags: dict[str, list[str]], flag: str, default: float) -> float:
    if flag not in flags:
        return default
    try:
        value = float(flags[flag][0])
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise OptionError(f"{flag} is {flags[flag][0]!r}; allowed: a number above 0.")
    return value
