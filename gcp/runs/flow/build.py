"""From the configuration of a flow to objects; what all kinds of runs have comes from `gcp.runs.build`."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from gcp.config import FlowConfig
from gcp.data import DATASETS, Splits, create_loader
from gcp.data.dequantise import Dequantised
from gcp.engine import rng
from gcp.engine.device import ToDevice
from gcp.engine.distributed import ALONE, Group
from gcp.engine.likelihood import Bits
from gcp.engine.state import TrainingState
from gcp.engine.step import StepOptions
from gcp.errors import counted
from gcp.flow import Glow, create_flow
from gcp.models.parts import part_groups
from gcp.runs import build
from gcp.runs.build import Timing


def build_splits(config: FlowConfig) -> Splits:
    """The three splits of the data set with noise on their grey levels.

    Raises:
        DataError: a stream, whose images have no index to take their noise from.
    """
    data = config.data
    source = DATASETS[data.name].obj
    size = source.image_size if data.image_size == "auto" else data.image_size
    splits = build.splits_of(data, size)
    noisy: dict[str, Any] = {
        name: Dequantised(splits.images(name), source.levels, data.in_chans) for name in ("train", "val", "test")
    }
    return replace(splits, **noisy)


def build_model(config: FlowConfig, splits: Splits, device: torch.device, begins: bool) -> Glow:
    """The seeded flow on its device, the same in every process; where a run `begins`, its actnorms are set by the
    first batch of the run, the whole of it in every process.
    """
    images = splits.train
    shape = tuple(images[0][0].shape)  # type: ignore[index]
    rng.seed_all(config.run.seed)
    model = create_flow(shape, config.flow.model_dump()).to(device)  # type: ignore[arg-type]
    if begins:
        loader = create_loader(images, config.train.batch_size, train=True, seed=config.run.seed, workers=0)
        model.initialise(ToDevice(device, loader.normalize)(*next(iter(loader.epoch(0))))[0])
    return model


def build_state(config: FlowConfig, model: Glow, device: torch.device) -> TrainingState:
    """Optimizer and average around a flow. Weight decay is for the networks of the couplings and priors alone."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = part_groups("flow", parameters, build.base_learning_rate(config), config.optim.weight_decay)
    return build.training_state(config, model, groups, device)


def build_bits(config: FlowConfig, model: Glow) -> Bits:
    """The unit of the run."""
    return Bits(model.dimensions, DATASETS[config.data.name].obj.levels)


def build_step_options(config: FlowConfig, bits: Bits) -> StepOptions:
    """How an optimizer step is made."""
    train, optim = config.train, config.optim
    return StepOptions(
        accumulate=train.accumulate, clip=optim.clip, amp=config.run.amp, seed=config.run.seed, objective=bits
    )


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
            f"step       {timing.total} steps, {build.learning_rate_text(config)}",
        ]
    )
