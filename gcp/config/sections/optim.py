"""Optimizer and learning rate of a run."""

from typing import Annotated, Literal

from pydantic import Field

from gcp.config.duration import Duration
from gcp.config.sections.base import Section
from gcp.config.values import Below1, Count, Factor, Interval, Positive, Span, Spans, Text


class Optim(Section):
    """The optimizer, with learning rate and weight decay of each part."""

    name: Text = Field(default="sgd", description="optimizer, any name of timm's factory: sgd, adamw, lamb, ...")
    lr: Positive = Field(default=0.1, description="learning rate at the top of the schedule")
    momentum: Below1 = Field(default=0.9, description="momentum, for the optimizers that have one")
    weight_decay: Factor = Field(default=1e-4, description="weight decay of every part without its own")
    nesterov: bool = Field(default=False, description="Nesterov momentum")
    features_lr_factor: Factor = Field(default=1.0, description="learning rate of the backbone over lr")
    head_lr_factor: Factor = Field(default=1.0, description="learning rate of the head over lr")
    head_weight_decay: Factor | None = Field(default=None, description="weight decay of the head; null: weight_decay")
    classifier_lr_factor: Factor | None = Field(
        default=None, description="learning rate of the classifier over lr; null: head_lr_factor"
    )
    classifier_weight_decay: Factor | None = Field(
        default=None, description="weight decay of the classifier; null: as the head"
    )
    lr_scaling: Literal["none", "linear", "sqrt"] = Field(
        default="none",
        description="scale lr by the batch of one optimizer step over lr_batch, or its square root",
    )
    lr_batch: Count = Field(default=256, description="batch size that lr is stated for, used by lr_scaling")
    clip: Positive | None = Field(
        default=None, description="largest norm of the gradient over all parts; null: no limit"
    )


class Schedule(Section):
    """The learning rate over the run."""

    name: Literal["constant", "step", "multistep", "cosine", "onecycle"] = Field(
        default="cosine", description="course of the learning rate after the warm-up"
    )
    warmup: Span = Field(default=Duration(0), description="linear rise of the learning rate at the start")
    milestones: Spans = Field(default=(), description="where multistep multiplies the learning rate by gamma")
    every: Interval = Field(default=Duration(30, "percent"), description="how often step multiplies it by gamma")
    gamma: Annotated[float, Field(gt=0, le=1)] = Field(default=0.1, description="factor of step and multistep")
    min_lr: Factor = Field(
        default=0.0, description="the schedule never goes below this learning rate after the warm-up"
    )

    def unread(self) -> dict[str, str]:
        """What another course reads."""
        courses = {"milestones": "multistep", "every": "step"}
        return {key: f"name={course}" for key, course in courses.items() if course != self.name}
