"""Where and how a run is executed."""

from typing import Annotated, Literal

from pydantic import Field

from gcp.config.sections.base import Section
from gcp.config.values import Count, Device, FolderName, Positive, Text


class Run(Section):
    """Where and how the run is executed."""

    dir: Text = Field(default="runs", description="folder that holds the run folders")
    name: FolderName | None = Field(
        default=None,
        description="name of the run folder; null: DATA-BACKBONE-HEAD-N, the first N that is free",
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        default=0, description="seed of initialisation, order, augmentation and dropout"
    )
    deterministic: bool = Field(default=False, description="deterministic kernels only: slower, the same on every run")
    device: Device = Field(
        default="auto", description="where to compute; auto: the first GPU if there is one, else the CPU"
    )
    amp: Literal["none", "bf16", "fp16"] = Field(
        default="none",
        description="autocast of features and classifier; heads always leave it; fp16 needs a GPU",
    )
    compile: bool = Field(default=False, description="torch.compile the model")
    channels_last: bool = Field(default=False, description="channels-last memory, faster for convolutions on a GPU")
    threads: Count | None = Field(default=None, description="CPU threads of torch; null: torch's own choice")
    sync_batch_norm: bool = Field(
        default=True,
        description="with several processes: batch-norm statistics of the whole batch, as in one process",
    )
    hang_minutes: Positive = Field(
        default=10.0, description="with several processes: stop all when no step is made for so long"
    )
    rank_logs: bool = Field(
        default=False, description="with several processes: a log of each, rank-N.log in the run folder"
    )
