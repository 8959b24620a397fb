"""The length of a run, and what happens at its marks: steps, scores, checkpoints."""

from typing import Annotated, Literal

from pydantic import Field

from gcp.config.duration import Duration
from gcp.config.sections.base import Section
from gcp.config.values import Below1, ClockInterval, Count, Factor, Interval


class Train(Section):
    """The length of the run and what a step sees."""

    epochs: Count = Field(default=10, description="passes over the training split")
    batch_size: Count = Field(default=64, description="images of one forward pass, of all processes together")
    accumulate: Count = Field(default=1, description="batches of one optimizer step")
    label_smoothing: Below1 = Field(default=0.0, description="weight of the uniform distribution in the target")
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="decay of the moving average of the weights, which is then what is evaluated; null: none",
    )
    mixup: Factor = Field(default=0.0, description="alpha of mixup; 0: none")
    cutmix: Factor = Field(default=0.0, description="alpha of CutMix; 0: none")
    drop_last: bool = Field(default=False, description="leave out the last, smaller batch of an epoch")


class Evaluate(Section):
    """Scoring on the validation split during training, and on the test split at its end."""

    batch_size: Count = Field(default=256, description="images of one forward pass")
    crops: Literal["one", "mirror", "ten"] = Field(
        default="one",
        description="views of a test image whose logits are averaged: one; mirror: it and its mirror image; ten: four "
        "corners, the centre, and their mirrors; on the validation split always one",
    )
    every: Interval = Field(default=Duration(1), description="how often the validation split is scored")


class Checkpoint(Section):
    """What is kept of the run on disk."""

    every: ClockInterval = Field(default=Duration(1), description="how often last.pt is written")
    keep: Count = Field(default=2, description="how many of the latest checkpoints to keep, best.pt apart")
