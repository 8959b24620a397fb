"""`gcp compress --checkpoint FILE|RUN --params 0.25 [flags] [key=value ...]`."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcp.cli.arguments import Arguments, Flags, numbers, parse, with_checkpoint
from gcp.cli.evaluate import SPLITS
from gcp.cli.train import check_overrides
from gcp.command import as_typed
from gcp.errors import GCPError, OptionError, UnknownNameError

if TYPE_CHECKING:
    from gcp.runs.compression.subject import Subject

METHODS = ("output_pca", "asvd", "svd")
TARGETS = ("rank", "ratio", "energy", "params", "error")
MANY = 1000
FLAGS = {
    **dict.fromkeys((f"--{target}" for target in TARGETS), (1, 1)),
    **dict.fromkeys(("--checkpoint", "--method", "--out", "--images", "--batch", "--repeats", "--finetune"), (1, 1)),
    **dict.fromkeys(("--include", "--exclude", "--sweep"), (1, MANY)),
    **dict.fromkeys(("--force", "--help"), (0, 0)),
}
ALLOWED = ("data.", "evaluate.", "run.")
TUNED = (*ALLOWED, "train.", "optim.", "schedule.", "checkpoint.", "monitor.")

USAGE = """\
Compress a trained model: its layers become products of thinner ones.

  gcp compress MODEL --params 0.25 [flags] [key=value ...]      (or --checkpoint MODEL)

MODEL is anything that gcp evaluate accepts, except timm's own models. Give one target:

  --params SHARE    of the model's parameters to keep, shared out among the layers where they matter most
  --error E         root of the sum of the layers' squared relative errors, with the fewest parameters
  --rank R          of every layer      --ratio SHARE  of every layer's full rank
  --energy SHARE    of every layer's squared spectrum

  --method          output_pca (default), asvd or svd
  --include NAME .. only these layers (shell patterns), such as classifier      --exclude NAME ...
  --images N        training images that the method looks at (512)              --batch N  at a time (32)
  --finetune N      epochs of training afterwards: an ordinary run, a tenth of the learning rate, cosine
  --sweep V ...     further values of the target, by all three methods: sweep.csv, sweep.png
  --repeats N       timed forwards of a batch, of which the median is shown (7)
  --out FOLDER      default: beside the run, RUN-params-0.25      --force  replace what is in it

Written: best.pt, which loads wherever a checkpoint does, layers.csv, layers.png, compress.json. A model with a
temperature (gcp evaluate --calibrate) gets a new one, fitted on the validation images.
split=test|val|train chooses what is scored before and after (test). Settings of data.*, evaluate.* and run.* can be
changed, and with --finetune those of train.*, optim.* and schedule.*, such as optim.lr=0.01.

Example:
  gcp compress --checkpoint runs/digits-resnet20_cifar-svd_pade-1 --params 0.25 --finetune 5
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    arguments = parse(with_checkpoint(argv), FLAGS, {"--params": "gcp compress runs/NAME --params 0.25"})
    if "--help" in arguments.flags:
        print(as_typed(USAGE))
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    split = arguments.take("split") or "test"
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    flags = arguments.flags
    if "--checkpoint" not in flags:
        raise GCPError("no checkpoint. Type for example\n  gcp compress --checkpoint RUN --params 0.25")
    target, value = read_target(flags)
    method = flags.get("--method", METHODS[:1])[0]
    if method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    tuned = "--finetune" in flags
    allowed, what = (TUNED, "a compression") if tuned else (ALLOWED, "a compression without --finetune")
    check_overrides(arguments.overrides, allowed, what)
    numbers(flags, "--finetune", [], 1)
    values = read_values(target, flags.get("--sweep", []), "--sweep")
    return _compress(arguments, split, target, value, method, values)


def read_target(flags: Flags) -> tuple[str, float]:
    """The one target and its value. Raises GCPError for none, several, or a word that is no number."""
    given = [target for target in TARGETS if f"--{target}" in flags]
    if len(given) != 1:
        raise GCPError(
            f"one of {', '.join(f'--{target}' for target in TARGETS)} is needed, got "
            f"{' and '.join(f'--{target}' for target in given) or 'none'}. Type for example --params 0.25"
        )
    (target,) = given
    return target, read_values(target, flags[f"--{target}"], f"--{target}")[0]


def read_values(target: str, words: list[str], flag: str) -> list[float]:
    """Values of a target: whole numbers for rank, else numbers."""
    what = "a whole number >= 1" if target == "rank" else "a number >= 0" if target == "error" else "above 0, at most 1"
    found: list[float] = []
    for word in words:
        try:
            value = int(word) if target == "rank" else float(word)
        except ValueError:
            value = -1.0
        if not (value >= 1 if target == "rank" else 0 <= value < float("inf") if target == "error" else 0 < value <= 1):
            percent = (
                f" Type for example {flag} {value / 100:g}" if what.startswith("above") and 1 < value <= 100 else ""
            )
            raise OptionError(f"{flag} is {word!r}; allowed: {what}.{percent}")
        found.append(value)
    return found


def _compress(arguments: Arguments, split: str, target: str, value: float, method: str, values: list[float]) -> int:
    from gcp.runs.compression import subject as compressed

    flags = arguments.flags
    (images,), (batch,) = numbers(flags, "--images", [512], 1), numbers(flags, "--batch", [32], 1)
    (repeats,) = numbers(flags, "--repeats", [7], 1)
    options: dict[str, Any] = {target: value, "include": flags.get("--include"), "exclude": flags.get("--exclude", [])}
    scoring = [word for word in arguments.overrides if word.startswith(ALLOWED)]
    subject = compressed.open_subject(flags["--checkpoint"][0], scoring, split, images, batch)
    out = compressed.make_folder(subject.path, target, value, arguments.value("--out"), "--force" in flags)
    tuned = compressed.tuned_folder(out)
    if "--finetune" in flags and tuned.exists():
        raise GCPError(f"{tuned} is there already; continue it by gcp train resume={tuned}, or give another --out")

    from gcp.compress import decompose
    from gcp.models import Classifier

    model, report = decompose(subject.model, method=method, data=subject.images, **options)
    if not report.factored:
        print(report.table())
        raise GCPError("no layer was factored, so there is nothing to write; the table says why")
    assert isinstance(model, Classifier), "a copy of one"
    calibrated = subject.model.temperature != 1.0
    if calibrated:
        from gcp.evaluation.calibration import calibrate, recalibrate

        recalibrate(subject.scored_model, model, subject.splits)
    comparison = compressed.compare(subject, model, repeats)
    compressed.write(out, subject, model, report, comparison, {"target": target, "value": value, "method": method})
    print(f"{report.table()}\n\n{compressed.format_compression(comparison)}\nweights    {out / 'best.pt'}")
    if values:
        _sweep(subject, out, target, [*values, value], options)
    if "--finetune" in flags:
        epochs, again = int(flags["--finetune"][0]), calibrate if calibrated and len(subject.splits.val) else None
        return compressed.finetune(out, subject, model, epochs, arguments.overrides, repeats, again)
    return 0


def _sweep(subject: "Subject", out: Path, target: str, values: list[float], options: dict[str, Any]) -> None:
    from gcp.evaluation.files import write_csv
    from gcp.runs.compression.sweep import draw_sweep, plain, sweep

    batch = next(iter(subject.images))
    points = sweep(subject.model, target, sorted(set(values)), subject.images, subject.top1, batch, METHODS, options)
    write_csv(out / "sweep.csv", plain(points))
    draw_sweep(points, out / "sweep.png")
    print(f"\n{'method':<12}{target:>8}{'parameters':>14}{'ms':>9}{'top-1 %':>9}{'error':>9}")
    for point in points:
        value = "" if point.value is None else f"{point.value:g}"
        error = "" if point.error is None else f"{point.error:.3g}"
        start = f"{point.method:<12}{value:>8}{point.parameters:>14,}{point.latency_ms:>9.2f}"
        print(f"{start}{point.top1:>9.2f}{error:>9}")
    print(f"sweep      {out / 'sweep.png'}")
