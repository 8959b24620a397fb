"""Scores of a model on a split, in words and as plain values, and of two models side by side."""

from dataclasses import asdict, dataclass
from typing import Any

from gcp.data import ImageSet, Splits, StreamSet
from gcp.engine.distributed import Group
from gcp.engine.evaluate import Samples, Scores
from gcp.engine.evaluate import score as summarise
from gcp.errors import GCPError
from gcp.evaluation.calibration import BINS, Calibration, calibration
from gcp.evaluation.comparison import Comparison, compare
from gcp.evaluation.labelled_folder import folder_to_score
from gcp.runs.open_model import open_model
from gcp.runs.scored_model import ScoredModel


@dataclass(frozen=True)
class Evaluation:
    """What a scored_model reached on a split."""

    scored_model: ScoredModel
    splits: Splits
    split: str
    samples: Samples
    scores: Scores
    calibration: Calibration

    @property
    def images(self) -> ImageSet | StreamSet:
        """The images that were scored, as the model takes them."""
        return self.scored_model.prepared(getattr(self.splits, self.split))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a file. Accuracies and the calibration error in percent."""
        scored_model = self.scored_model
        return {
            "checkpoint": scored_model.given,
            "averaged_weights": scored_model.averaged,
            "data": scored_model.config.data.name,
            "split": self.split,
            "rule": self.splits.rule,
            "backbone": scored_model.backbone,
            "head": scored_model.head,
            "image_size": scored_model.image_size,
            "crops": scored_model.config.evaluate.crops,
            **self.scores.as_dict(),
            "ece": 100 * self.calibration.error,
        }


def score(scored_model: ScoredModel, split: str, group: Group) -> Evaluation:
    """Score a scored_model on a split.

    Raises:
        CheckpointError: it has other classes than the data set.
        DataError: the data set is not there or not whole.
    """
    found = folder_to_score(scored_model, split)
    scored_model, splits = found or (scored_model, scored_model.splits())
    samples = scored_model.run(scored_model.prepared(getattr(splits, split)), group)
    honest = calibration(samples.confidence.numpy(), samples.right.numpy())
    return Evaluation(scored_model, splits, split, samples, summarise(samples), honest)


def versus(first: Evaluation, other: str, overrides: list[str], group: Group) -> tuple[Evaluation, Comparison]:
    """Score another model on the images of the first, and compare them.

    Raises:
        GCPError: the images are not the same.
    """
    second = score(open_model(other, overrides, group, data=first.scored_model.config), first.split, group)
    theirs, ours = (each.splits.fingerprint()[first.split] for each in (second, first))
    if theirs != ours or first.splits.classes != second.splits.classes:
        raise GCPError(f"{other} was scored on other images: {theirs}, not {ours}")
    return second, compare(first.samples.right.numpy(), second.samples.right.numpy())


def format_scores(result: Evaluation) -> str:
    """A line for each fact."""
    values, crops = result.as_dict(), result.scored_model.config.evaluate.crops
    averaged = " (averaged weights)" if values["averaged_weights"] else ""
    views = {"one": "", "mirror": ", mean of the logits with the mirror image", "ten": ", mean of ten crops"}[crops]
    lines = [
        f"{'checkpoint':<12}{values['checkpoint']}{averaged}",
        f"{'model':<12}{values['backbone']} + {values['head']}",
        f"{'split':<12}{values['split']} of {values['data']}, {values['count']} images of {values['image_size']} "
        f"pixels{views}",
    ]
    for key, title in (("top1", "top-1"), ("top5", "top-5"), ("macro", "macro"), ("ece", "ece")):
        if values[key] is not None:
            lines.append(f"{title:<12}{values[key]:.2f} %" + (f" ({BINS} bins)" if key == "ece" else ""))
    return "\n".join([*lines, f"{'loss':<12}{values['loss']:.4f}"])


def format_comparison(found: Comparison) -> str:
    """The counts and the sentence."""
    return (
        f"{'right':<12}both {found.both}, the first alone {found.only_first}, the second alone {found.only_second}, "
        f"none {found.neither}\n{found.sentence}"
    )


def comparison_dict(found: Comparison) -> dict[str, Any]:
    """Plain values for a file."""
    return {**asdict(found), "sentence": found.sentence}
