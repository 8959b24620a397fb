"""`gcp ablate --config FILE --heads NAME ... [--grid key=v1,v2 ...] [key=value ...]`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gcp.cli.arguments import Arguments, parse
from gcp.command import as_typed, typed
from gcp.errors import ConfigError, GCPError

if TYPE_CHECKING:
    from gcp.studies.grid import Study

FLAGS = {
    **dict.fromkeys(("--config", "--study", "--seeds", "--reference", "--name", "--out", "--jobs"), (1, 1)),
    "--tune-seeds": (1, 1),
    "--heads": (1, 1000),
    **dict.fromkeys(("--probe", "--skip-invalid", "--reduce-average", "--retry-failed", "--help"), (0, 0)),
}
AXES = ("--grid", "--tune")
OUT = "runs/studies"

USAGE = f"""\
Compare settings by a grid of runs: every combination of the values, with every seed, each an ordinary run.

  gcp ablate --config RECIPE --heads PATTERN ... [--grid key=v1,v2 ...] [--tune key=v1,v2 ...] [flags] [key=value ...]
      RECIPE is what `gcp train` takes: a file, or a name such as digits/resnet
  gcp ablate --study STUDY [flags] [key=value ...]
      the same from a file, or from a study of ours such as digits-heads-few; `gcp list studies` lists these
  gcp ablate resume=FOLDER [--retry-failed]
      continue a study that was stopped

  --heads PATTERN ...  heads by name or shell pattern, such as 'svd_*' newton_schulz average
  --grid key=v1,v2 ... values of any key of a configuration; commas inside [] belong to the value
  --tune key=v1,v2 ... each variant gets the value that is best for it on the validation images, found by extra runs,
                       the same number for each variant; tuning.csv lists them all
  --tune-seeds N       seeds for each of these values (1)
  --probe              heads on frozen features, which are computed once for all runs: train.cache_features=true,
                       model.freeze=[features], and scores and checkpoints at the end only
  --seeds N            seeds 0 to N-1 (5), or a list: --seeds 3,7,11. With the same seed, all variants start from the
                       same weights and see the same images in the same order
  --reference LABEL    variant to compare the others with (the first)
  --name NAME          of the study (from the recipe or the file); --out FOLDER  for it ({OUT})
  --jobs N             parallel runs (one per GPU, else as many as the cores allow, with one thread each, or with as
                       many as the study was started with)
  --skip-invalid       skip invalid combinations, such as head.form=published of average
  --reduce-average     reduce the features of average to head.dim too, as for the covariance heads
  --retry-failed       repeat failed runs

OUT/NAME holds study.yaml, cells/ID/ (the run folders), cells.csv, table.csv and table.md, written after every run, and
at the end report.html and report.md; gcp report writes these for a study that is not finished yet.
The same command continues a study that was stopped or killed: finished runs are kept, the others continue from their
checkpoints. More seeds, heads or values extend the study. Exit code: 0, or 1 where a run has failed.

Example:
  gcp ablate --config digits/resnet --heads 'svd_*' newton_schulz average --seeds 5
"""


def main(argv: list[str]) -> int:
    """The command. Returns the exit code; faults are raised as GCPError."""
    axes, words = _without_axes(argv)
    arguments = parse(words, FLAGS)
    if "--help" in arguments.flags:
        print(as_typed(USAGE))
        return 0
    from gcp.cli.arguments import numbers
    from gcp.studies.run import resume_study, run_study

    jobs = numbers(arguments.flags, "--jobs", [0], 1)[0] or None
    retry = "--retry-failed" in arguments.flags
    if folder := arguments.take("resume"):
        others = [
            *axes["--grid"],
            *axes["--tune"],
            *arguments.overrides,
            *(arguments.flags.keys() - {"--jobs", "--retry-failed"}),
        ]
        if others:
            raise GCPError(
                f"{others[0]}: a study that is resumed keeps its settings. To extend it type its first command with "
                f"more seeds, heads or values: see {folder}/study.yaml"
            )
        return resume_study(Path(folder), jobs, retry)
    study, faults = _study(arguments, axes)
    command = typed("ablate", *argv)
    out = Path(arguments.value("--out") or OUT)
    return run_study(replace(study, command=command), out / study.name, jobs, retry, faults)


def _without_axes(argv: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The words after --grid and after --tune, which look like settings as those of --reference do, and all others.

    Raises:
        GCPError: there is no word after one of them.
    """
    axes: dict[str, list[str]] = {name: [] for name in AXES}
    others: list[str] = []
    flag = ""
    for word in argv:
        if word.startswith("-"):
            if flag in axes and not axes[flag]:
                break
            flag, _, value = word.partition("=")
            if flag not in axes:
                others.append(word)
            elif value:
                axes[flag].append(value)
        elif flag in axes:
            axes[flag].append(word)
        elif others[-1:] == ["--reference"]:
            others[-1] += f"={word}"
        else:
            others.append(word)
    if flag in axes and not axes[flag]:
        example = "head.dim=64,128" if flag == "--grid" else "optim.lr=0.01,0.03,0.1"
        raise GCPError(f"{flag} needs a value, such as {example}")
    return axes, others


def _study(arguments: Arguments, axes: dict[str, list[str]]) -> "tuple[Study, list[str]]":
    """What was asked for, and what is wrong with it beside its configurations."""
    from gcp.cli.arguments import numbers
    from gcp.studies.grid import HEAD, Study, expand_heads, parse_axis, parse_seeds
    from gcp.studies.study_file import load_study, probing

    flags = arguments.flags
    if ("--config" in flags) == ("--study" in flags):
        raise GCPError(
            "one of --config and --study is needed. Type for example\n  gcp ablate "
            "--config digits/resnet --heads 'svd_*' average\nor --help for more."
        )
    faults: list[str] = []
    if "--study" in flags:
        study, faults = load_study(Path(flags["--study"][0]))
    else:
        study = Study(name="", config=flags["--config"][0])
    grid = dict(study.grid)
    if "--heads" in flags:
        heads, unknown = expand_heads(flags["--heads"])
        faults += unknown
        grid = {HEAD: heads} | {key: values for key, values in grid.items() if key != HEAD}
    single = []
    tune, more = _tuned(axes["--tune"], study.tune)
    faults += more
    for text in axes["--grid"]:
        try:
            key, values = parse_axis(text)
        except ValueError as error:
            faults.append(str(error))
            continue
        if key in grid and "--study" not in flags:
            faults.append(f"--grid {key}: its values are given already; allowed: once")
        elif len(values) > 1 or key in grid:
            grid[key] = values
        else:
            single.append(text)
    seeds = study.seeds
    if "--seeds" in flags:
        try:
            seeds = parse_seeds(flags["--seeds"][0])
        except ValueError as error:
            faults.append(str(error))
    if not grid and not faults:
        raise GCPError("nothing varies: give --heads PATTERN ... or --grid key=v1,v2 with two values or more.")
    study = replace(
        study,
        grid=grid,
        tune=tune,
        tune_seeds=numbers(flags, "--tune-seeds", [study.tune_seeds], 1)[0],
        seeds=seeds,
        overrides=[*study.overrides, *single, *arguments.overrides],
        reference=arguments.value("--reference") or study.reference,
        skip_invalid=study.skip_invalid or "--skip-invalid" in flags,
        reduce_average=study.reduce_average or "--reduce-average" in flags,
    )
    study = probing(study) if "--probe" in flags else study
    return replace(study, name=_name(study, arguments.value("--name"))), faults


def _tuned(texts: list[str], given: dict[str, list[Any]]) -> tuple[dict[str, list[Any]], list[str]]:
    """The values to be tuned, those of the study's file replaced, and what is wrong with them."""
    from gcp.studies.grid import parse_axis

    tune, faults = dict(given), []
    for text in texts:
        try:
            key, values = parse_axis(text)
        except ValueError as error:
            faults.append(str(error).replace("--grid", "--tune", 1))
            continue
        tune[key] = values
        if len(values) < 2:
            faults.append(f"--tune {text}: one value leaves nothing to choose; allowed: two or more, or {text} alone")
    return tune, faults


def _name(study: "Study", given: str | None) -> str:
    """As given, that of the study's file, or the recipe with the keys that vary."""
    import re

    if given is not None and not re.fullmatch(r"[\w+=-][\w+=,. -]*", given):
        raise ConfigError(
            [f"--name: got {given!r}; allowed: a folder's name of letters, digits and _ + - = , ."], "the study"
        )
    if given or study.name:
        return given or study.name
    recipe = Path(study.config)
    keys = ["heads" if key == "head.name" else key.rpartition(".")[2] for key in study.grid]
    return "-".join([*filter(None, [recipe.absolute().parent.name, recipe.stem]), *keys])
