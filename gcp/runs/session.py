"""The training run of a classifier."""

from dataclasses import replace
from pathlib import Path

from gcp.config import Config
from gcp.data import BatchLoader
from gcp.engine import checkpoint
from gcp.engine.batch_norm import synchronised
from gcp.engine.distributed import ALONE, Group
from gcp.engine.evaluate import evaluate
from gcp.engine.folder import RunFolder
from gcp.engine.log import RunLog, Silence
from gcp.engine.state import load_weights
from gcp.engine.step import Recipe
from gcp.engine.switch import describe_switch
from gcp.engine.train import Events
from gcp.evolve import resize, widths
from gcp.models import Classifier
from gcp.runs import build, evolution, spectrum
from gcp.runs.hybrid import Probe, build_pooling, build_switch
from gcp.runs.introduction import introduction
from gcp.runs.result import format_result, score_run
from gcp.runs.run import Run
from gcp.runs.same_data import check_classes, check_images
from gcp.runs.signals import StopSignal
from gcp.runs.timing import build_timing


class Session(Run[Config]):
    """The run of a classifier.

    Args:
        config: of the run, without stages.
        folder: of the run; need not be there yet.
        weights: what to begin with where there is no checkpoint: True for `model.pretrained`, the last.pt of another
            run for its final weights, False for neither.
        stage: its number where it is a stage of a longer run.
        group: the processes of the run, each of which has a Session; rank 0 writes.
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
            config = evolution.with_widths(config, evolution.widths_in(checkpoint.load(weights)))
        super().__init__(config, folder, stage, group)
        self.splits = build.build_splits(config)
        self.loader = build.build_train_loader(config, self.splits, self.device, group)
        self.timing = build_timing(config, self.loader)
        self.switch, self._pooling = build_switch(config, self.timing.switch_at), build_pooling(config)
        self.probe = Probe(config, self.splits, self.device) if config.hybrid.condition_below else None
        if checkpoint.candidates(folder.path):
            weights = False
        model = build.build_model(config, len(self.splits.classes), self.device, weights is True, group=group)
        build.check_map(model, build.image_size(config))
        if isinstance(weights, Path):
            self._take_over(model, weights)
        self.state = build.build_state(config, model, self.device, group)
        self.evolution = evolution.build_evolution(config, self.timing, self.splits, self.device, model, group)

    def _take_over(self, model: Classifier, last: Path) -> None:
        """Begin with the final weights of another run on the same images, the averaged ones where there are any."""
        saved = checkpoint.load(last)
        check_classes(saved, self.splits, str(last))
        check_images(saved, self.splits, str(last))
        load_weights(model, saved["ema"] or saved["model"], str(last))

    def restore(self, path: object, saved: dict) -> None:
        """As of any run, with the widths that the model had and the head that pooled then."""
        if self.evolution:
            config = evolution.with_widths(self.config, evolution.widths_in(saved))
            model = build.build_model(config, len(self.splits.classes), self.device, weights=False, group=self.group)
            self.state = build.build_state(config, model, self.device, self.group)
        super().restore(path, saved)
        if self.switch:
            self.switch.restore(self.state)
            self._pooling = build_pooling(self.config, self.state.progress.switched)

    def introduction(self) -> str:
        return introduction(self.config, self.folder.path, self.splits, self.state, self.timing, self.group)

    def recipe(self) -> Recipe:
        return build.build_recipe(self.config)

    def format_result(self, result: dict) -> str:
        return format_result(result, self.stage)

    def further_columns(self) -> list[str]:
        told = (("head", self.switch), ("condition", self.probe), ("parameters", self.evolution))
        return [name for name, used in told if used]

    def _events(self, journal: RunLog | Silence, stop: StopSignal) -> Events:
        events = super()._events(journal, stop)
        events = replace(events, begin=lambda: self._switch_head(journal), columns=self._columns)
        if self.evolution:
            evolution.attach(events, self.evolution, self.state, self.group, self.folder, journal)
        if self.config.monitor.spectrum and isinstance(journal, RunLog):
            spectrum.observe(events, self.config, self.state, self.timing, self.group, self.folder, journal)
        return events

    def _draw(self) -> None:
        super()._draw()
        if self.evolution and self.group.main:
            evolution.draw(self.folder)
        if self.config.monitor.spectrum and self.group.main:
            spectrum.draw(self.folder)

    def validate(self, loader: BatchLoader) -> dict:
        return self.score(loader)

    def _score_loader(self, split: str, crops: str = "one") -> BatchLoader:
        return build.build_score_loader(self.config, self.splits, split, self.device, self.group, crops)

    def score(self, loader: BatchLoader, crops: str = "one") -> dict:
        """Scores of the weights that count on a loader."""
        run, model = self.config.run, self.state.evaluated
        if not synchronised(model):  # each process has its own statistics; those of rank 0 are saved
            self.group.share(model.buffers())
        scores = evaluate(model, loader, self.device, run.amp, run.channels_last, self.group, crops)
        size = {"parameters": evolution.parameters(model)} if self.evolution else {}
        return scores.as_dict() | {"head": self._pooling.name} | size

    def _adapt(self, saved: dict) -> None:
        """Be as a checkpoint, which may be from before the switch, or before widths have changed."""
        if self.evolution:
            resize(self.state.evaluated, evolution.widths_in(saved))
        if self.switch:
            self._pooling = build_pooling(self.config, saved.get("switched"))
            self._pooling.put_into(self.state.evaluated)

    def _switch_head(self, journal: RunLog | Silence) -> None:
        if self.switch and (record := self.switch.make(self.state)):
            self._pooling = self.switch.after
            journal.switch(record, describe_switch(record))

    def _columns(self) -> dict:
        """What the table has to say of the switch: the condition number of the trained weights, and the head."""
        if self.switch is None:
            return {}
        row: dict = {"head": self._pooling.name}
        if self.probe:
            # Measured once, so that all processes decide on the same number.
            measured = self.probe(self.state.model) if self.group.main else None
            row = {"condition": self.group.broadcast(measured)} | row
        return row

    def _about(self) -> dict:
        about = super()._about() | {"switched": self.state.progress.switched}
        if self.evolution:  # the configuration in a checkpoint builds the model in it
            about["config"] = evolution.with_widths(self.config, widths(self.state.model)).plain()
        return about

    def score_test(self) -> dict:
        crops = self.config.evaluate.crops
        loader = self._score_loader("test", crops)
        shape = {"widths": widths(self.state.model)} if self.evolution else {}
        result = score_run(self.state, self.folder, self.splits.rule, lambda: self.score(loader, crops), self._adapt)
        return result | shape
