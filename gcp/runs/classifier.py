"""The training run of a classifier."""

import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gcp.callbacks.base import RunContext, create_callbacks
from gcp.config import Config
from gcp.data import BatchLoader, Splits, StreamSet
from gcp.data.normalize import Normalize
from gcp.engine import checkpoint
from gcp.engine.batch_norm import synchronised
from gcp.engine.distributed import ALONE, Group
from gcp.engine.evaluate import Samples, collect, score
from gcp.engine.folder import RunFolder
from gcp.engine.log import NullLog, RunLog
from gcp.engine.state import TrainingState, load_weights
from gcp.engine.step import StepOptions
from gcp.errors import DataError, counted
from gcp.models import Classifier
from gcp.models.classifier import taking_maps
from gcp.runs import build
from gcp.runs.build import Timing, build_timing
from gcp.runs.result import format_result, most_confused, score_run
from gcp.runs.run import TrainingRun, check_classes, check_images

if TYPE_CHECKING:
    from gcp.runs.features import CachedFeatures

log = logging.getLogger("gcp")


def with_widths(config: Config, values: Mapping) -> Config:
    """The configuration with the widths of the model of another one, which is given as plain values."""
    widths = dict(values["model"].get("widths") or {})
    return config.model_copy(update={"model": config.model.model_copy(update={"widths": widths})})


SHOWN = 8  # test images for the loggers


class ClassifierRun(TrainingRun[Config]):
    """The run of a classifier.

    Args:
        config: of the run, without stages.
        folder: of the run; need not be there yet.
        weights: what to begin with where there is no checkpoint: True for `model.pretrained`, the last.pt of another
            run for its final weights, False for neither.
        stage: its number where it is a stage of a longer run.
        group: the processes of the run; each has a ClassifierRun, rank 0 writes.
    """

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        weights: bool | Path = True,
        stage: int | None = None,
        group: Group = ALONE,
    ):
        if isinstance(weights, Path):
            config = with_widths(config, checkpoint.load(weights)["config"])
        super().__init__(build.with_preprocessing(config), folder, stage, group)
        config = self.config
        self.splits = build.build_splits(config)
        if checkpoint.candidates(folder.path):
            weights = False
        self.model = build.build_model(config, len(self.splits.classes), self.device, weights is True, group=group)
        build.check_map(self.model, build.image_size(config))
        if config.evaluate.image_size is not None:
            build.check_map(self.model, build.scored_size(config), "evaluate.image_size")
        self.cached = self._cached_features() if config.train.cache_features else None
        self.inputs = self.cached.splits if self.cached else self.splits
        self.loader = build.build_train_loader(config, self.inputs, self.device, group)
        self.timing = build_timing(config, self.loader)
        if isinstance(weights, Path):
            self._take_over(self.model, weights)
        self.state = self.build_state()
        self.callbacks = create_callbacks(config)
        for callback in self.callbacks:
            callback.setup(self._context())

    def _cached_features(self) -> "CachedFeatures":
        from gcp.runs.features import CachedFeatures

        self.model.takes_maps = True
        return CachedFeatures(self.config, self.splits, self.model, self.device, self.group)

    def run(self) -> int:
        if self.cached:  # now the weights are those that the run begins or goes on with
            self.cached.fill()
        return super().run()

    def build_state(self) -> TrainingState:
        return build.build_state(self.config, self.model, self.device)

    def _context(self) -> RunContext:
        step_options = self.step_options()
        return RunContext(
            folder=self.folder.path,
            splits=self.inputs,
            state=self.state,
            step_options=step_options,
            to_device=step_options.to_device(self.loader, self.model.num_classes, self.device),
            steps=self.timing.steps,
            total=self.timing.total,
            device=self.device,
            group=self.group,
        )

    def _take_over(self, model: Classifier, last: Path) -> None:
        """Begin with the final weights of another run on the same images, the averaged ones where there are any."""
        saved = checkpoint.load(last)
        check_classes(saved, self.splits, str(last))
        check_images(saved, self.splits, str(last))
        load_weights(model, saved["ema"] or saved["model"], str(last))

    def introduction(self) -> str:
        described = [line for callback in self.callbacks for line in callback.describe()]
        return introduction(self.config, self.folder.path, self.splits, self.state, self.timing, described, self.group)

    def prepare(self) -> None:
        """Let the head see the first batches, where it asks for them and the run begins."""
        if self.model.head.measured_on is None or self.state.progress.step:
            return
        from gcp.heads.first_batches import FirstBatches, describe, measure

        to_device = self._context().to_device
        batches = FirstBatches(self.loader.epoch(0), self.config.train.batch_size, lambda batch: to_device(*batch)[0])
        for head in measure(self.model, batches, self.group.sum, self.group.main):
            print(f"first      {describe(head)}")
        if self.state.ema:  # it was copied from the model before
            self.state.ema.module.load_state_dict(self.model.state_dict())

    def _about(self) -> dict:
        """Of the images also what they are normalised by, which a run from these weights takes over."""
        normalize = self.splits.train.normalize
        told = {"mean": list(normalize.mean), "std": list(normalize.std)} if isinstance(normalize, Normalize) else {}
        return super()._about() | {"preprocessing": told}

    def step_options(self) -> StepOptions:
        return build.build_step_options(self.config, self.splits)

    def format_result(self, result: dict) -> str:
        return format_result(result, self.stage)

    def validate(self, loader: BatchLoader) -> dict:
        return self.score(loader)

    def _score_loader(self, split: str, crops: str = "one") -> BatchLoader:
        inputs = self.inputs if self._as_trained(split, crops) else self.splits
        return build.build_score_loader(self.config, inputs, split, self.device, self.group, crops)

    def _as_trained(self, split: str, crops: str) -> bool:
        """Whether a split is scored on the images, or the features, that the run has already."""
        return crops == "one" and not (split == "test" and self.config.evaluate.image_size is not None)

    def score(self, loader: BatchLoader, split: str = "val", crops: str = "one") -> dict:
        """Scores of the evaluated weights on a loader of `_score_loader`."""
        run, model = self.config.run, self.state.evaluated
        if not synchronised(model):  # each process has its own statistics; those of rank 0 are saved
            self.group.broadcast_tensors(model.buffers())
        with taking_maps(model, self.cached is not None and self._as_trained(split, crops)):
            self.samples = collect(model, loader, self.device, run.amp, run.channels_last, self.group, crops)
        further = {"head": self.config.head.name}
        for callback in self.callbacks:
            further |= callback.scores(model)
        return score(self.samples).as_dict() | further

    def _adapt(self, saved: dict) -> None:
        """Give the evaluated model the shapes of a checkpoint, which may be from an earlier step."""
        for callback in self.callbacks:
            callback.adapt(self.state.evaluated, saved)

    def score_test(self) -> dict:
        crops = self.config.evaluate.crops
        loader = self._score_loader("test", crops)
        settings = [callback.settings(self.state.model) for callback in self.callbacks]
        result = score_run(
            self.state, self.folder, self.splits.rule, lambda: self.score(loader, "test", crops), self._adapt
        )
        for sections in settings:  # what the run has changed of its model
            for values in sections.values():
                result |= values
        return result

    def closing(self, result: dict, records: RunLog | NullLog) -> list[str]:
        """The pair of classes that is confused most, and what to type to use the model."""
        if self.samples is None:
            return []
        names, pair = self.splits.classes, most_confused(self.samples)
        lines = []
        if pair:
            true, other, wrong, count = pair
            lines = [f"confused   {names[true]} taken for {names[other]}: {wrong} of {counted(count, 'image')}"]
        self._record_result(result, self.samples, records)
        return [*lines, f"predict    gcp predict {shlex.quote(str(self.folder.whole().path))} IMAGES"]

    def _record_result(self, result: dict, samples: Samples, records: RunLog | NullLog) -> None:
        """The last records of the loggers; images that cannot be read for them cost no result."""
        if isinstance(records, NullLog):
            return
        test = result["test"]
        scores = {key: value for key, value in (test.get("best") or test["final"]).items() if isinstance(value, float)}
        try:
            images, titles = self._examples(samples)
            records.result(scores, self.state.progress.step, images, titles)
        except (OSError, DataError) as error:
            log.warning("cannot record the test scores in %s: %s", self.folder.path, error)

    def _examples(self, samples: Samples) -> tuple[torch.Tensor | None, list[str]]:
        """A few test images, evenly spread, and what the model says of each; none of a stream."""
        test, names = self.splits.test, self.splits.classes
        if isinstance(test, StreamSet):
            return None, []
        places = [number * len(test) // SHOWN for number in range(SHOWN)] if len(test) > SHOWN else range(len(test))
        images = test.read(list(places))[0]
        titles = [
            f"{place} {names[int(samples.labels[place])]}, predicted {names[int(samples.predicted[place])]}"
            for place in places
        ]
        return images if images.shape[1] in (1, 3) else images[:, :1], titles


def introduction(
    config: Config,
    folder: Path,
    splits: Splits,
    state: TrainingState,
    timing: Timing,
    described: Sequence[str] = (),
    group: Group = ALONE,
) -> str:
    """Folder, data, model, trained parts, the lines of the callbacks, batch and learning rates; a line or two each."""
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
            *_classifier(config, state.model),
            *_norm(config),
            *_trained(config, state),
            *described,
            f"step       {timing.total} steps, {build.learning_rate_text(config)}",
            *_parts(state),
        ]
    )


def _processes(config: Config, group: Group) -> list[str]:
    """Empty for one process."""
    if group.world == 1:
        return []
    norm = "of all processes" if config.run.sync_batch_norm else "of each process alone"
    return [
        f"processes  {group.world}, with {config.train.batch_size / group.world:g} images of a batch each; batch-norm "
        f"statistics {norm}"
    ]


def _reduction(config: Config) -> list[str]:
    """Empty for the plain reduction."""
    head = config.head
    parts = ["orthonormal rows"] if head.reduction == "orthogonal" and head.dim is not None else []
    parts += [f"spectral norm 1 ({head.spectral_norm})"] if head.spectral_norm else []
    return [f"reduction  {', '.join(parts)}"] if parts else []


def _classifier(config: Config, model: Any) -> list[str]:
    norm = config.model.classifier_norm
    parts = {"none": [], "sum": ["beside one of the token"], "concat": ["of the token too"]}[model.token]
    parts = parts + ([f"spectral norm 1 ({norm})"] if norm else [])
    return [f"classifier {', '.join(parts)}"] if parts else []


def _norm(config: Config) -> list[str]:
    """Empty for the batch norms of the backbone."""
    norm = config.model.norm
    if norm is None:
        return []
    layers = norm.get("layers", "first")
    places = {"first": "the first batch norm", "all": "all batch norms"}
    which = places[layers] if isinstance(layers, str) else ", ".join(layers)
    options = "".join(f", {key}={value}" for key, value in norm.items() if key not in ("name", "layers"))
    return [f"norm       {norm['name']} in the place of {which}{options}"]


def _trained(config: Config, state: TrainingState) -> list[str]:
    """Empty where everything is trained."""
    if not config.model.freeze:
        return []
    trained = sum(p.numel() for p in state.model.parameters() if p.requires_grad)
    return [f"trained    {trained:,} parameters; frozen: {', '.join(config.model.freeze)}"]


def _parts(state: TrainingState) -> list[str]:
    """Rate and weight decay of each part, where they are not the same for all."""
    parts: dict[str, str] = {}
    for part in ("features", "head", "classifier"):
        groups = [group for group in state.optimizer.param_groups if group["name"].split(".")[0] == part]
        rates = [group["base_lr"] for group in groups]
        decays = [group["weight_decay"] for group in groups if not group["name"].endswith("no_decay")]
        if groups:
            lowest = f"{min(rates):.4g} to " if min(rates) < max(rates) else ""
            parts[part] = f"{lowest}{max(rates):.4g}, decay {max(decays, default=0):g}"
    if len(set(parts.values())) <= 1:
        return []
    return [f"           {'; '.join(f'{part} {rates}' for part, rates in parts.items())}"]
