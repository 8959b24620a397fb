"""What a run says of itself before its first step."""

from collections.abc import Sequence
from pathlib import Path

import torch

from gcp.config import Common, Config
from gcp.data import Splits
from gcp.engine.distributed import ALONE, Group
from gcp.engine.state import TrainingState
from gcp.errors import counted
from gcp.runs import build
from gcp.runs.timing import Timing


def introduction(
    config: Config,
    folder: Path,
    splits: Splits,
    state: TrainingState,
    timing: Timing,
    told: Sequence[str] = (),
    group: Group = ALONE,
) -> str:
    """Folder, data, model, what is trained, what the callbacks tell, batch and learning rates; a line or two each."""
    parameters = sum(p.numel() for p in state.model.parameters())
    return "\n".join(
        [
            f"run        {folder}",
            f"data       {config.data.name}: {len(splits.train)} training, {len(splits.val)} validation, "
            f"{len(splits.test)} test images, {len(splits.classes)} classes",
            f"           {splits.rule}",
            f"model      {config.model.backbone} + {config.head.name}, {parameters / 1e6:.2f} M parameters, "
            f"on {next(state.model.parameters()).device}, {counted(torch.get_num_threads(), 'thread')}",
            *_processes(config, group),
            *_reduction(config),
            *_classifier(config),
            *_trained(config, state),
            *told,
            f"step       {timing.total} steps, {learning_rate(config)}",
            *_parts(state),
        ]
    )


def learning_rate(config: Common) -> str:
    """How the learning rate was scaled for the images of a step: `0.0794 x 64/256 (linear) = 0.01985 for ...`."""
    optim, images = config.optim, build.images_per_step(config)
    ratio = f"{images}/{optim.lr_batch}"
    scaled = {"none": "", "linear": f" x {ratio} (linear)", "sqrt": f" x sqrt({ratio})"}[optim.lr_scaling]
    result = f" = {build.base_learning_rate(config):.4g}" if scaled else ", not scaled,"
    parts = f" ({config.train.batch_size} x {config.train.accumulate} accumulated)"
    how = parts if images != config.train.batch_size else ""
    return f"learning rate {optim.lr:g}{scaled}{result} for {images} images a step{how}"


def _processes(config: Config, group: Group) -> list[str]:
    """Nothing for one."""
    if group.world == 1:
        return []
    norm = "of all processes" if config.run.sync_batch_norm else "of each process alone"
    return [
        f"processes  {group.world}, with {config.train.batch_size / group.world:g} images of a batch each; batch-norm "
        f"statistics {norm}"
    ]


def _reduction(config: Config) -> list[str]:
    """Nothing for the plain one."""
    head = config.head
    told = ["orthonormal rows"] if head.reduction == "orthogonal" and head.dim is not None else []
    told += [f"spectral norm 1 ({head.spectral_norm})"] if head.spectral_norm else []
    return [f"reduction  {', '.join(told)}"] if told else []


def _classifier(config: Config) -> list[str]:
    norm = config.model.classifier_norm
    return [f"classifier spectral norm 1 ({norm})"] if norm else []


def _trained(config: Config, state: TrainingState) -> list[str]:
    """Nothing where everything is trained."""
    if not config.model.freeze:
        return []
    trained = sum(p.numel() for p in state.model.parameters() if p.requires_grad)
    return [f"trained    {trained:,} parameters; frozen: {', '.join(config.model.freeze)}"]


def _parts(state: TrainingState) -> list[str]:
    """Rate and weight decay of each part, where they are not the same for all."""
    groups = [group for group in state.optimizer.param_groups if not group["name"].endswith("no_decay")]
    parts = {
        group["name"].split("/")[0]: f"{group['base_lr']:.4g}, decay {group['weight_decay']:g}" for group in groups
    }
    if len(set(parts.values())) <= 1:
        return []
    return [f"           {'; '.join(f'{part} {rates}' for part, rates in parts.items())}"]
