"""A training run from its configuration to its result: `Session` is all of it but the making of its folder."""

import json
import logging
import shlex
import sys
from functools import cached_property
from pathlib import Path

from gcp.cli.training import build
from gcp.cli.training.hybrid import Probe, build_pooling, build_switch
from gcp.cli.training.introduction import introduction
from gcp.cli.training.result import format_result, score_run
from gcp.cli.training.same_data import check_classes, check_images
from gcp.cli.training.signals import StopSignal
from gcp.config import Config, dump
from gcp.data import AnyLoader, Splits
from gcp.engine import checkpoint
from gcp.engine.batch_norm import synchronised
from gcp.engine.distributed import ALONE, Group
from gcp.engine.environment import describe_environment
from gcp.engine.evaluate import evaluate
from gcp.engine.files import write_json, write_text
from gcp.engine.folder import RunFolder
from gcp.engine.log import RunLog, Silence
from gcp.engine.state import TrainingState, load_weights
from gcp.engine.switch import describe_switch
from gcp.engine.train import Events, fit
from gcp.engine.writer import Writer
from gcp.errors import ConfigError, DataError
from gcp.models import Classifier

log = logging.getLogger("gcp")


def resume_command(folder: RunFolder) -> str:
    """What to type to go on with a run."""
    return f"python train.py resume={shlex.quote(str(folder.whole().path))}"


class Session:
    """Everything of one run; `run` trains to the end and scores the test split.

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
        self.config, self.folder, self.stage, self.group, self.stop_code = config, folder, stage, group, 0
        self.writer = Writer()
        self.device = build.build_device(config, group)
        self.splits: Splits = build.build_splits(config)
        self.loader: AnyLoader = build.build_train_loader(config, self.splits, self.device, group)
        self.timing = build.build_timing(config, self.loader)
        self.switch, self._pooling = build_switch(config, self.timing.switch_at), build_pooling(config)
        self.probe = Probe(config, self.splits, self.device) if config.hybrid.condition_below else None
        if checkpoint.candidates(folder.path):
            weights = False
        model = build.build_model(config, len(self.splits.classes), self.device, weights is True, group=group)
        build.check_map(model, build.image_size(config))
        if isinstance(weights, Path):
            self._take_over(model, weights)
        self.state: TrainingState = build.build_state(config, model, self.device)

    def _take_over(self, model: Classifier, last: Path) -> None:
        """Begin with the final weights of another run on the same images, the averaged ones where there are any."""
        saved = checkpoint.load(last)
        check_classes(saved, self.splits, str(last))
        check_images(saved, self.splits, str(last))
        load_weights(model, saved["ema"] or saved["model"], str(last))

    def result(self) -> dict | None:
        """The result of the finished run; None where steps are left, or where it is that of fewer epochs."""
        step = self.state.progress.step
        if step < self.timing.total or not self.folder.result.is_file():
            return None
        result = json.loads(self.folder.result.read_text())
        return result if result["test"]["final"]["step"] == step else None

    def restore(self, path: object, saved: dict) -> None:
        """Continue from a checkpoint that `checkpoint.load` returned.

        Raises:
            CheckpointError: it is of other classes, another model or other images.
            ConfigError: the run has fewer epochs than are done.
        """
        check_classes(saved, self.splits, str(path))
        check_images(saved, self.splits, str(path))
        self.state.load_state_dict(saved, str(path))
        if self.switch:
            self.switch.restore(self.state)
            self._pooling = build_pooling(self.config, self.state.progress.switched)
        progress = self.state.progress
        if progress.step > self.timing.total:
            begun = progress.epoch + (progress.batch > 0)
            raise ConfigError(
                [f"train.epochs: got {self.config.train.epochs}; allowed: at least {begun}, which are begun"],
                f"the settings of {self.folder.path}",
            )

    def go_on(self) -> int:
        """`run` from the newest whole checkpoint, or from the beginning where there is none; a run that is finished
        says so and stays as it is. Returns the exit code.
        """
        found = checkpoint.load_latest(self.folder.path)
        if found is not None:
            self.restore(*found)
            if result := self.result():
                print(f"{self.folder.path} is finished.\n{format_result(result, self.stage)}")
                return 0
            progress = self.state.progress
            print(f"continuing {self.folder.path} at step {progress.step}, epoch {progress.epoch + 1}")
        elif self.folder.config.is_file():
            print(f"{self.folder.path} has no checkpoint yet: starting from the beginning")
        if self.group.main:
            write_text(self.folder.config, dump(self.config))
        return self.run()

    def run(self) -> int:
        """Train, score, write. Returns the exit code."""
        try:
            return self._run()
        except DataError:
            if checkpoint.candidates(self.folder.path):
                print(f"Nothing is lost: when the data are mended, continue with\n  {resume_command(self.folder)}")
            raise

    def _run(self) -> int:
        if self.group.main:
            write_json(self.folder.environment, describe_environment(self.device, self.group.world))
        print(introduction(self.config, self.folder.path, self.splits, self.state, self.timing, self.group))
        sys.stdout.flush()
        journal = self._journal()
        with StopSignal() as stop:
            try:
                complete = fit(
                    self.state,
                    self.loader,
                    build.build_recipe(self.config),
                    self.timing.factor,
                    self.config.train.epochs,
                    self.device,
                    self._events(journal, stop),
                    compile=self.config.run.compile,
                    group=self.group,
                )
            finally:
                journal.close()
                self.writer.wait()
                self._draw()
            if not complete:
                print(f"stopped at step {self.state.progress.step}. Continue with\n  {resume_command(self.folder)}")
                return stop.exit_code
            # Asked for during the last step, which ends the run.
            self.stop_code = stop.exit_code if self.group.any(stop()) else 0
        self._finish()
        return 0

    def _journal(self) -> RunLog | Silence:
        if not self.group.main:
            return Silence()
        return RunLog(
            self.folder.path,
            self.config.train.epochs,
            self.timing.total,
            self.state.progress,
            advice=self.loader.advice,
            further=[name for name, used in (("head", self.switch), ("condition", self.probe)) if used],
        )

    def _events(self, journal: RunLog | Silence, stop: StopSignal) -> Events:
        held_out = self._score_loader("val") if len(self.splits.val) else None
        return Events(
            begin=lambda: self._switch_head(journal),
            validate=lambda: None if held_out is None else self.score(held_out),
            improved=self._save_best,
            columns=self._columns,
            epoch=journal.epoch,
            step=journal.step,
            save=self._save_last,
            stop=stop,
            evaluate_every=self.timing.evaluate_every,
            save_every=self.timing.save_every,
            save_seconds=self.timing.save_seconds,
        )

    def _score_loader(self, split: str, crops: str = "one") -> AnyLoader:
        return build.build_score_loader(self.config, self.splits, split, self.device, self.group, crops)

    def score(self, loader: AnyLoader, crops: str = "one") -> dict:
        """Scores of the weights that count on a loader."""
        run, model = self.config.run, self.state.evaluated
        if not synchronised(model):  # each process has its own statistics; those of rank 0 are saved
            self.group.share(model.buffers())
        scores = evaluate(model, loader, self.device, run.amp, run.channels_last, self.group, crops)
        return scores.as_dict() | {"head": self._pooling.name}

    def _adapt(self, saved: dict) -> None:
        """Pool as in a checkpoint, which may be from before the switch."""
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

    @cached_property
    def _images(self) -> dict:
        return self.splits.fingerprint()  # a second for a million files

    def _about(self) -> dict:
        return {
            "config": self.config.plain(),
            "classes": list(self.splits.classes),
            "images": self._images,
            "switched": self.state.progress.switched,
        }

    def _save_last(self) -> None:
        if self.group.main:
            state = self.state.state_dict() | self._about()
            self.writer.submit(self.folder.last, state, self.config.checkpoint.keep)

    def _save_best(self, scores: dict) -> None:
        if self.group.main:
            weights = {"model": self.state.evaluated.state_dict(), "scores": self.state.progress.best}
            self.writer.submit(self.folder.best, weights | self._about())

    def _draw(self) -> None:
        """A picture that cannot be written must not hide what ended the run, nor cost its result."""
        if self.group.main and self.folder.metrics.is_file():
            from gcp.analysis.curves import draw_curves

            try:
                draw_curves(self.folder.metrics, self.folder.curves)
            except OSError as error:
                log.warning("cannot write %s: %s", self.folder.curves, error)

    def _finish(self) -> None:
        if not len(self.splits.val):  # nothing was held out to choose by
            self._save_best({})
            self.writer.wait()
        self.group.wait()  # until rank 0 has written best.pt, which all read
        crops = self.config.evaluate.crops
        loader = self._score_loader("test", crops)
        result = score_run(self.state, self.folder, self.splits.rule, lambda: self.score(loader, crops), self._adapt)
        if self.group.main:
            write_json(self.folder.result, result)
        self.group.wait()  # the next stage begins with what is written now
        print(f"{format_result(result, self.stage)}\ncurves     {self.folder.curves}\nweights    {self.folder.best}")
