"""A compressed model on its way from a checkpoint to a checkpoint: before and after, files, fine-tuning."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from gcp.compress import CompressionReport, factors_of
from gcp.config import from_dict
from gcp.config.plugins import without_changes
from gcp.data import Splits
from gcp.engine import checkpoint
from gcp.engine.distributed import ALONE
from gcp.engine.environment import describe_environment
from gcp.engine.evaluate import score
from gcp.engine.folder import write_json
from gcp.engine.sample_images import SampleImages
from gcp.errors import GCPError
from gcp.models import Classifier
from gcp.runs.compression.sweep import costs, draw_layers
from gcp.runs.open_model import find_checkpoint, open_model
from gcp.runs.scored_model import ScoredModel
from gcp.runs.weights import configuration

SLOWER = 0.1  # of the run's learning rate, for fine-tuning
DENSE, COMPRESSED, TUNED = "dense", "compressed", "fine-tuned"


@dataclass(frozen=True)
class Subject:
    """The model to be compressed, its data set, and the images that it is looked at with."""

    path: Path
    scored_model: ScoredModel
    model: Classifier
    splits: Splits
    split: str
    images: SampleImages

    def scores(self, model: nn.Module) -> dict[str, Any]:
        """Scores of a model like this one on the split."""
        other: Any = model
        scored_model = replace(self.scored_model, model=other)
        return score(scored_model.run(getattr(self.splits, self.split), ALONE)).as_dict()

    def top1(self, model: nn.Module) -> float:
        """Accuracy in percent."""
        return self.scores(model)["top1"]


def open_subject(given: str, overrides: list[str], split: str, images: int, batch: int) -> Subject:
    """Everything about a model that `gcp evaluate` can score. Raises GCPError for models of timm's own."""
    scored_model = open_model(given, overrides, ALONE)
    model = scored_model.model
    if not isinstance(model, Classifier):
        raise GCPError(f"{given} is a model of timm's own, which a checkpoint of this library cannot hold")
    if factors_of(model):
        raise GCPError(f"{given} is compressed already; compress the checkpoint that it was made from")
    splits = scored_model.splits()
    sample = SampleImages(splits.train, images, batch, scored_model.device, scored_model.config.run.channels_last)
    path = Path(scored_model.given)
    return Subject(path if path.is_file() else find_checkpoint(given), scored_model, model, splits, split, sample)


def make_folder(source: Path, target: str, value: float, given: str | None, force: bool) -> Path:
    """The folder for the results, empty unless `force`. Raises GCPError."""
    source = source.resolve()
    base = source.parent if source.stem in ("best", "last") else source.with_suffix("")
    out = Path(given) if given is not None else Path(f"{base}-{target}-{value:g}")
    if out.resolve() == source.parent:
        raise GCPError(f"{out} holds the model itself; give another --out")
    if (out / "last.pt").is_file() or (out / "config.yaml").is_file():
        raise GCPError(f"{out} is a run folder; give another --out")
    try:
        if out.is_dir() and any(out.iterdir()) and not force:
            raise GCPError(f"{out} is not empty; replace what is in it by --force, or give another --out")
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GCPError(f"cannot make the folder {out}: {error.strerror or error}") from error
    return out


def compare(subject: Subject, model: nn.Module, repeats: int, name: str = COMPRESSED) -> dict[str, dict[str, Any]]:
    """Scores and costs of the dense model and of another."""
    models = {DENSE: subject.model, name: model}
    measured = costs(models, next(iter(subject.images)), repeats)
    return {key: {**subject.scores(models[key]), **asdict(measured[key])} for key in models}


def format_compression(comparison: dict[str, dict[str, Any]]) -> str:
    """The comparison as a table."""
    columns = {
        "top1": ("top-1 %", ".2f"),
        "loss": ("loss", ".4f"),
        "parameters": ("parameters", ","),
        "weights_mib": ("MiB", ".2f"),
        "peak_mib": ("peak MiB", ".1f"),
        "latency_ms": ("ms", ".2f"),
    }
    lines = [f"{'':<11}" + "".join(f"{title:>12}" for title, _ in columns.values())]
    for name, row in comparison.items():
        lines.append(f"{name:<11}" + "".join(f"{row[key]:>12{form}}" for key, (_, form) in columns.items()))
    return "\n".join(lines)


def write(
    out: Path,
    subject: Subject,
    model: Classifier,
    report: CompressionReport,
    comparison: dict[str, dict[str, Any]],
    settings: dict[str, Any],
) -> None:
    """Weights, table, picture and figures into a folder."""
    content: dict[str, Any] = {
        "model": model.state_dict(),
        "config": config_of(subject, model),
        "classes": list(subject.splits.classes),
        "images": subject.splits.fingerprint(),
        "scores": {key: comparison[COMPRESSED][key] for key in ("loss", "top1", "top5", "macro", "count")},
        "compressed": {"from": str(subject.path), **settings},
    }
    if model.temperature != 1.0:
        content["temperature"] = model.temperature
    checkpoint.save(out / "best.pt", content)
    report.write_csv(out / "layers.csv")
    draw_layers(report, out / "layers.png")
    about = {
        **settings,
        "from": str(subject.path),
        "split": subject.split,
        "images": subject.images.count,
        "batch": len(next(iter(subject.images))),
        "output_error": report.error,
        "models": comparison,
        "environment": describe_environment(subject.scored_model.device),
    }
    write_json(out / "compress.json", about)


def config_of(subject: Subject, model: nn.Module) -> dict[str, Any]:
    """The configuration that builds the compressed model, as plain values, without what changed it on the way."""
    values = subject.scored_model.config.plain()
    values = {key: value for key, value in without_changes(values).items() if key != "stages"}
    plain = configuration(subject.model, values)
    return {**plain, "model": {**plain["model"], "factors": factors_of(model)}}


def tuned_folder(out: Path) -> Path:
    """The run folder of the fine-tuning."""
    return out.resolve().with_name(f"{out.resolve().name}-finetuned")


def finetune(
    out: Path,
    subject: Subject,
    model: Classifier,
    epochs: int,
    overrides: list[str],
    repeats: int,
    calibrate: Callable[[ScoredModel], None] | None = None,
) -> int:
    """Train the compressed model as a run of its own, then score it. Returns the exit code.

    calibrate: what gives the trained model, and its file, a temperature.
    """
    from gcp.runs.launch import start

    plain = config_of(subject, model)
    folder = tuned_folder(out)
    values = {
        **plain,
        "run": {**plain["run"], "dir": str(folder.parent), "name": folder.name},
        "model": {**plain["model"], "pretrained": str((out / "best.pt").resolve())},
        "optim": {**plain["optim"], "lr": SLOWER * plain["optim"]["lr"]},
        "schedule": {"name": "cosine"},
        "train": {**plain["train"], "epochs": epochs},
    }
    config = from_dict(values, overrides, source="the settings of the fine-tuning")
    print()
    if code := start(config):
        return code
    tuned = open_model(str(Path(config.run.dir, str(config.run.name), "best.pt")), [], ALONE)
    if calibrate is not None:
        calibrate(tuned)
    comparison = compare(subject, tuned.model, repeats, TUNED)
    write_json(out / "finetuned.json", {"run": str(folder), "models": comparison})
    print(f"\n{format_compression(comparison)}")
    return 0
