"""A training run from its configuration to its result, for any kind of model; `gcp.runs.launch` makes its folder."""

import logging
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar

from gcp.command import typed
from gcp.config import Common, dump, from_dict, trained_by
from gcp.config.load import changes, flat
from gcp.data import BatchLoader, Splits
from gcp.engine import checkpoint
from gcp.engine.callback import Callback, state_dicts
from gcp.engine.checkpoint import Writer
from gcp.engine.distributed import ALONE, Group
from gcp.engine.environment import describe_environment
from gcp.engine.evaluate import Samples
from gcp.engine.folder import RunFolder, write_json, write_text
from gcp.engine.log import NullLog, RunLog
from gcp.engine.state import TrainingState
from gcp.engine.step import StepOptions
from gcp.engine.train import Events, fit
from gcp.errors import CheckpointError, ConfigError, DataError
from gcp.loggers import create_loggers
from gcp.runs import build
from gcp.runs.build import Timing
from gcp.runs.processes import StopSignal
from gcp.runs.result import cost, read_result

log = logging.getLogger("gcp")

C = TypeVar("C", bound=Common)


def check_images(saved: dict, splits: Splits, source: str) -> None:
    """Refuse to continue on other images: those held out from training could be in it now.

    Raises:
        CheckpointError: a split has other files or labels than when the run began.
    """
    theirs, ours = saved.get("images", {}), splits.fingerprint()
    changed = [f"{name} ({theirs.get(name)} then, {ours[name]} now)" for name in ours if ours[name] != theirs.get(name)]
    if changed:
        raise CheckpointError(
            f"{source} was trained on other images: {', '.join(changed)}. Going on could train on what was held out. "
            f"Put the files back, or begin a new run from its weights: model.pretrained={source}"
        )


def check_classes(saved: dict, splits: Splits, source: str) -> None:
    """Refuse a checkpoint whose classes are not those of the data.

    Raises:
        CheckpointError: another number of classes, or other names.
    """
    theirs, ours = list(saved.get("classes", [])), list(splits.classes)
    if len(theirs) != len(ours):
        raise CheckpointError(f"{source} was trained on {len(theirs)} classes, the data set has {len(ours)}")
    if theirs != ours:
        place = next(i for i, pair in enumerate(zip(theirs, ours, strict=True)) if pair[0] != pair[1])
        raise CheckpointError(
            f"{source} was trained on other classes: class {place} is {theirs[place]!r} there and "
            f"{ours[place]!r} in the data set"
        )


def resume_command(folder: RunFolder, command: str = "train") -> str:
    """What to type to go on with a run."""
    return typed(command, f"resume={folder.whole().path}")


class TrainingRun(Generic[C]):
    """Everything of one run; `run` trains to the end and scores the test split.

    A subclass builds `splits`, `loader`, `timing`, `state` and `callbacks`, and defines what is abstract here.

    Args:
        config: of the run, without stages.
        folder: of the run; need not be there yet.
        stage: its number where it is a stage of a longer run.
        group: the processes of the run; each has a TrainingRun, rank 0 writes.
    """

    splits: Splits
    loader: BatchLoader
    timing: Timing
    state: TrainingState
    callbacks: Sequence[Callback] = ()
    samples: Samples | None = None  # of the newest scoring of a classifier: at the end the test split

    def __init__(self, config: C, folder: RunFolder, stage: int | None = None, group: Group = ALONE):
        self.config, self.folder, self.stage, self.group, self.stop_code = config, folder, stage, group, 0
        self.writer = Writer()
        self.device = build.build_device(config, group)
        self.loggers = create_loggers(config.log.to, config.log.options)

    def introduction(self) -> str:
        """The lines that are printed before the first step."""
        raise NotImplementedError

    def prepare(self) -> None:
        """What is left to do before the first step of this process."""

    def step_options(self) -> StepOptions:
        """How a step is made."""
        raise NotImplementedError

    def validate(self, loader: BatchLoader) -> dict:
        """Scores of the evaluated weights on the validation images."""
        raise NotImplementedError

    def score_test(self) -> dict:
        """Contents of `result.json`, but for the cost."""
        raise NotImplementedError

    def format_result(self, result: dict) -> str:
        """The result as a printed table."""
        raise NotImplementedError

    def closing(self, result: dict, records: RunLog | NullLog) -> list[str]:
        """Further lines at the end of a run that is scored, and its last records."""
        return []

    def build_state(self) -> TrainingState:
        """Optimizer, loss scale and average around the model."""
        raise NotImplementedError

    def result(self) -> dict | None:
        """The result of a finished run; None where steps are left, or where `result.json` is of fewer epochs."""
        step = self.state.progress.step
        if step < self.timing.total or (result := read_result(self.folder, self.format_result)) is None:
            return None
        return result if result["test"]["final"]["step"] == step else None

    def restore(self, path: object, saved: dict) -> None:
        """Continue from a checkpoint that `checkpoint.load` returned.

        Raises:
            CheckpointError: it is of other classes, another model or other images.
            ConfigError: the run has fewer epochs than are done.
        """
        self._check_config(path, saved)
        check_classes(saved, self.splits, str(path))
        check_images(saved, self.splits, str(path))
        for callback in self.callbacks:
            callback.adapt(self.state.model, saved)
        if self.callbacks:  # the model may have other parameters now
            self.state = self.build_state()
        self.state.load_state_dict(saved, str(path))
        for callback in self.callbacks:
            callback.load_state_dict(callback.kept(saved))
        progress = self.state.progress
        if progress.step > self.timing.total:
            begun = progress.epoch + (progress.batch > 0)
            raise ConfigError(
                [f"train.epochs: got {self.config.train.epochs}; allowed: at least {begun}, which are begun"],
                f"the settings of {self.folder.path}",
            )

    def _check_config(self, path: object, saved: dict) -> None:
        """Refuse a configuration that was edited in the run folder after the checkpoint was written."""
        settings = [callback.settings(self.state.model) for callback in self.callbacks]
        own = {f"{name}.{key}" for sections in settings for name, keys in sections.items() for key in keys}
        schema: Any = type(self.config)
        before = from_dict(saved["config"], [], f"the configuration in {path}", schema, written=True)
        if faults := changes(before, self.config, {"run.dir", "run.name", "stages", *own}):
            raise ConfigError(faults, f"{self.folder.config}, with which the run cannot be continued; put it back")

    def resume(self) -> int:
        """`run` from the newest whole checkpoint, or from the beginning where there is none. Of a finished run only the
        result is printed. Returns the exit code.
        """
        found = checkpoint.load_latest(self.folder.path)
        if found is not None:
            self.restore(*found)
            if result := self.result():
                print(f"{self.folder.path} is finished.\n{self.format_result(result)}")
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
                print(f"Nothing is lost: when the data are mended, continue with\n  {self._resume_command()}")
            raise

    def _resume_command(self) -> str:
        return resume_command(self.folder, trained_by(self.config).removeprefix("gcp "))

    def _run(self) -> int:
        if self.group.main:
            write_json(self.folder.environment, describe_environment(self.device, self.group.world))
        print(self.introduction())
        self.prepare()
        sys.stdout.flush()
        records, outcome = self._open_log(), "failed"
        try:
            code = self._train(records)
            outcome = "stopped" if code else "finished"
            return code
        finally:
            records.close(outcome)

    def _train(self, records: RunLog | NullLog) -> int:
        with StopSignal() as stop:
            try:
                complete = fit(
                    self.state,
                    self.loader,
                    self.step_options(),
                    self.timing.factor,
                    self.config.train.epochs,
                    self.device,
                    self._events(records, stop),
                    compile=self.config.run.compile,
                    group=self.group,
                )
            finally:
                records.clear()
                self.writer.wait()
                self._draw()
                for callback in self.callbacks:
                    callback.close(self.folder.path)
            if not complete:
                print(f"stopped at step {self.state.progress.step}. Continue with\n  {self._resume_command()}")
                return stop.exit_code
            # Asked for during the last step, which ends the run.
            self.stop_code = stop.exit_code if self.group.any(stop()) else 0
        self.finish(records)
        return 0

    def finish(self, records: RunLog | NullLog) -> None:
        """Score the test split and write the result of a run that is complete."""
        if not len(self.splits.val):  # nothing was held out to choose by
            self._save_best({})
            self.writer.wait()
        self.group.barrier()  # until rank 0 has written best.pt, which all read
        spent = cost(self.state.progress.history, self.state.model, self.device)
        result = self.score_test() | {"cost": spent}
        if self.group.main:
            write_json(self.folder.result, result)
        self.group.barrier()  # the next stage begins with what is written now
        weights = self.folder.best if self.folder.best.is_file() else self.folder.last
        lines = [f"curves     {self.folder.curves}", f"weights    {weights}", *self.closing(result, records)]
        print("\n".join([self.format_result(result), *lines]))

    def _open_log(self) -> RunLog | NullLog:
        if not self.group.main:
            return NullLog()
        return RunLog(
            self.folder.path,
            self.config.train.epochs,
            self.timing.total,
            self.state.progress,
            self.timing.steps(self.config.log.every),
            self.loader.advice,
            further=tuple(column for callback in self.callbacks for column in callback.table),
            objective=self.step_options().minimised,
            loggers=self.loggers,
            name=self._name(),
            settings=flat(self.config),
        )

    def _name(self) -> str:
        """That of the folder; of a stage, with that of the whole run before it."""
        whole = self.folder.whole().path.resolve().name
        return whole if self.stage is None else f"{whole}-{self.folder.path.name}"

    def _events(self, log: RunLog | NullLog, stop: StopSignal) -> Events:
        held_out = self._score_loader("val") if len(self.splits.val) else None
        return Events(
            validate=lambda: None if held_out is None else self.validate(held_out),
            improved=self._save_best,
            save=self._save_last,
            stop=stop,
            evaluate_every=self.timing.evaluate_every,
            save_every=self.timing.save_every,
            save_seconds=self.timing.save_seconds,
            callbacks=self.callbacks,
            log=log,
        )

    def _score_loader(self, split: str) -> BatchLoader:
        return build.score_loader(self.config, getattr(self.splits, split), self.device, self.group)

    @cached_property
    def _images(self) -> dict:
        return self.splits.fingerprint()  # a second for a million files

    def _about(self) -> dict:
        """What a checkpoint holds beside weights and progress; its settings build the model as it has become."""
        config: dict[str, Any] = self.config.plain()
        for callback in self.callbacks:
            for section, values in callback.settings(self.state.model).items():
                config[section] = config[section] | values
        callbacks = state_dicts(self.callbacks)
        return {"config": config, "classes": list(self.splits.classes), "images": self._images, "callbacks": callbacks}

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
            from gcp.drawing.curves import draw_curves

            try:
                draw_curves(self.folder.metrics, self.folder.curves)
            except OSError as error:
                log.warning("cannot write %s: %s", self.folder.curves, error)
