"""What the run of a flow says of itself before its first step."""

from pathlib import Path
from typing import cast

import torch

from gcp.config import FlowConfig
from gcp.data import Splits
from gcp.engine.distributed import ALONE, Group
from gcp.engine.likelihood import Bits
from gcp.engine.state import TrainingState
from gcp.errors import counted
from gcp.flow import Glow
from gcp.runs.introduction import learning_rate
from gcp.runs.timing import Timing


def architecture(config: FlowConfig, model: Glow) -> str:
    """What the flow is made of, in a line."""
    flow, parameters = config.flow, sum(p.numel() for p in model.parameters())
    return (
        f"Glow, {counted(flow.levels, 'level')} of {counted(flow.steps, 'step')}, {flow.form} 1x1 convolutions, "
        f"{flow.coupling} couplings of width {flow.width}, {parameters / 1e6:.2f} M parameters"
    )


def introduction(
    config: FlowConfig,
    folder: Path,
    splits: Splits,
    state: TrainingState,
    timing: Timing,
    bits: Bits,
    group: Group = ALONE,
) -> str:
    """Folder, data, model, batch and learning rate; a line or two each."""
    model = cast(Glow, state.model)
    shape = " x ".join(map(str, model.shape))
    several = [f"processes  {group.world}, with {config.train.batch_size / group.world:g} images of a batch each"]
    return "\n".join(
        [
            f"run        {folder}",
            f"data       {config.data.name}: {len(splits.train)} training, {len(splits.val)} validation, "
            f"{len(splits.test)} test images of {shape}, {bits.levels} grey levels and uniform noise",
            f"           {splits.rule}",
            f"model      {architecture(config, model)}, "
            f"on {model.prior.mean.device}, {counted(torch.get_num_threads(), 'thread')}",
            *(several if group.world > 1 else []),
            f"step       {timing.total} steps, {learning_rate(config)}",
        ]
    )
