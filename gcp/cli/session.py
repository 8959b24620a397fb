"""A training run from its configuration to its result."""

import json
import logging
import shlex
import sys

import torch

from gcp.cli import build
from gcp.cli.result import format_result, score_run
from gcp.cli.signals import StopSignal
from gcp.config import Config, dump, from_dict
from gcp.data import Loader, Splits
from gcp.engine import checkpoint
from gcp.engine.environment import describe_environment
from gcp.engine.evaluate import evaluate
from gcp.engine.files import write_json, write_text
from gcp.engine.folder import RunFolder, create_run_folder
from gcp.engine.log import RunLog
from gcp.engine.state import TrainingState
from gcp.engine.train import Events, fit
from gcp.errors import CheckpointError, ConfigError, DataError, GCPError

log = logging.getLogger("gcp")


def start(config: Config) -> int:
    """Make the run folder and train. A run whose data or model cannot be built leaves no folder."""
    folder = create_run_folder(config.run.dir, config.run.name, build.run_stem(config))
    config = from_dict(config.plain(), [f"run.name={json.dumps(folder.path.name)}"])
    write_text(folder.config, dump(config))  # first of all: from here on the run can be resumed
    folder.lock()
    try:
        try:
            session = Session(config, folder)
        except GCPError:
            folder.discard()
            raise
        return session.run()
    finally:
        folder.unlock()


def resume(config: Config, folder: RunFolder) -> int:
    """Continue a run from its newest whole checkpoint, or from the beginning where it has none."""
    folder.lock()
    try:
        session = Session(config, folder)
        found = checkpoint.load_latest(folder.path)
        if found is None:
            print(f"{folder.path} has no checkpoint yet: starting from the beginning")
        else:
            session.restore(*found)
            if result := session.result():
                print(f"{folder.path} is finished.\n{format_result(result)}")
                return 0
            progress = session.state.progress
            print(f"continuing {folder.path} at step {progress.step}, epoch {progress.epoch + 1}")
        write_text(folder.config, dump(config))
        return session.run()
    finally:
        folder.unlock()


class Session:
    """Everything of one run; `run` trains to the end and scores the test split."""

    def __init__(self, config: Config, folder: RunFolder):
        self.config, self.folder = config, folder
        self.device = build.build_device(config)
        self.splits: Splits = build.build_splits(config)
        self.loader: Loader = build.build_train_loader(config, self.splits, self.device)
        self.timing = build.build_timing(config, self.loader)
        pretrained = not checkpoint.candidates(folder.path)
        model = build.build_model(config, len(self.splits.classes), self.device, weights=pretrained)
        build.check_map(model, build.image_size(config))
        self.state: TrainingState = build.build_state(config, model, self.device)

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
        progress = self.state.progress
        if progress.step > self.timing.total:
            begun = progress.epoch + (progress.batch > 0)
            raise ConfigError(
                [f"train.epochs: got {self.config.train.epochs}; allowed: at least {begun}, which are begun"],
                f"the settings of {self.folder.path}",
            )

    def run(self) -> int:
        """Train, score, write. Returns the exit code."""
        try:
            return self._run()
        except DataError:
            if checkpoint.candidates(self.folder.path):
                print(f"Nothing is lost: when the data are mended, continue with\n  {self._command()}")
            raise

    def _command(self) -> str:
        return f"python train.py resume={shlex.quote(str(self.folder.path))}"

    def _run(self) -> int:
        write_json(self.folder.environment, describe_environment(self.device))
        self._introduce()
        loader = build.build_score_loader(self.config, self.splits, "val", self.device)
        journal = RunLog(self.folder.path, self.config.train.epochs, self.timing.total, self.state.progress)
        with StopSignal() as stop:
            try:
                complete = fit(
                    self.state,
                    self.loader,
                    build.build_recipe(self.config),
                    self.timing.factor,
                    self.config.train.epochs,
                    self.device,
                    self._events(loader, journal, stop),
                    compile=self.config.run.compile,
                )
            finally:
                journal.close()
                self._draw()
            if not complete:
                print(f"stopped at step {self.state.progress.step}. Continue with\n  {self._command()}")
                return stop.exit_code
        self._finish()
        return 0

    def _introduce(self) -> None:
        config, state = self.config, self.state
        parameters = sum(p.numel() for p in state.model.parameters())
        batch = config.train.batch_size * config.train.accumulate
        lr = build.base_learning_rate(config)
        print(
            f"run        {self.folder.path}\n"
            f"data       {config.data.name}: {len(self.splits.train)} training, {len(self.splits.val)} validation, "
            f"{len(self.splits.test)} test images, {len(self.splits.classes)} classes\n"
            f"           {self.splits.rule}\n"
            f"model      {config.model.backbone} + {config.head.name}, {parameters / 1e6:.2f} M parameters, "
            f"on {self.device}, {torch.get_num_threads()} threads\n"
            f"step       {batch} images, learning rate {lr:g} ({config.optim.lr:g}, scaling "
            f"{config.optim.lr_scaling}), {self.timing.total} steps"
        )
        sys.stdout.flush()

    def _events(self, loader: Loader, journal: RunLog, stop: StopSignal) -> Events:
        return Events(
            validate=lambda: self.score(loader),
            improved=self._save_best,
            epoch=journal.epoch,
            step=journal.step,
            save=self._save_last,
            stop=stop,
            evaluate_every=self.timing.evaluate_every,
            save_every=self.timing.save_every,
            save_seconds=self.timing.save_seconds,
        )

    def score(self, loader: Loader) -> dict:
        """Scores of the weights that count on a loader."""
        run = self.config.run
        return evaluate(self.state.evaluated, loader, self.device, run.amp, run.channels_last).as_dict()

    def _about(self) -> dict:
        return {
            "config": self.config.plain(),
            "classes": list(self.splits.classes),
            "images": self.splits.fingerprint(),
        }

    def _save_last(self) -> None:
        checkpoint.save(self.folder.last, self.state.state_dict() | self._about(), self.config.checkpoint.keep)

    def _save_best(self, scores: dict) -> None:
        weights = {"model": self.state.evaluated.state_dict(), "scores": self.state.progress.best}
        checkpoint.save(self.folder.best, weights | self._about())

    def _draw(self) -> None:
        """A picture that cannot be written must not hide what ended the run, nor cost its result."""
        if self.folder.metrics.is_file():
            from gcp.analysis.curves import draw_curves

            try:
                draw_curves(self.folder.metrics, self.folder.curves)
            except OSError as error:
                log.warning("cannot write %s: %s", self.folder.curves, error)

    def _finish(self) -> None:
        loader = build.build_score_loader(self.config, self.splits, "test", self.device)
        result = score_run(self.state, self.folder, self.splits.rule, lambda: self.score(loader))
        write_json(self.folder.result, result)
        print(f"{format_result(result)}\ncurves     {self.folder.curves}\nweights    {self.folder.best}")


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
