"""The data set of a run."""

from typing import Annotated, Literal

from pydantic import Field

from gcp.config.sections.base import Section
from gcp.config.values import Count, Text


class Data(Section):
    """The data set, its splits and how images are prepared."""

    name: Text = Field(default="digits", description="data set, see --list datasets")
    root: Text | None = Field(
        default=None, description="folder of the data set on disk, or the one above; null for digits, which has none"
    )
    image_size: Count | Literal["auto"] = Field(
        default="auto",
        description="side of the square image in pixels; auto: the data set's own, raised to what the backbone needs",
    )
    in_chans: Count = Field(default=3, description="channels of the image and of the first layer")
    per_class: Count | None = Field(
        default=None, description="few-shot: that many training images of each class; null: all of them"
    )
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1,
        description="part of the training images held out for validation, stratified by class; 0: none, and the final "
        "weights are the result",
    )
    split_seed: Annotated[int, Field(ge=0)] = Field(
        default=0, description="seed of the held-out part and of the few-shot choice, apart from run.seed"
    )
    transform: Text = Field(
        default="default",
        description="image transform, see --list transforms; default: the data set's own; none: that without "
        "augmentation",
    )
    partial: bool = Field(
        default=False,
        description="accept other counts than the published ones, a part of the data set; missing files are always "
        "a fault",
    )
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        default="auto",
        description="processes that read images; auto: none for data in memory, else one per core, at most 8",
    )
