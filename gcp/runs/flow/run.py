"""The training run of a flow."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from gcp.config import FlowConfig
from gcp.data import BatchLoader
from gcp.engine import checkpoint
from gcp.engine.callback import Callback
from gcp.engine.distributed import ALONE, Group
from gcp.engine.folder import RunFolder
from gcp.engine.likelihood import evaluate_bits
from gcp.engine.log import NullLog, RunLog
from gcp.engine.state import TrainingState
from gcp.engine.step import StepOptions
from gcp.errors import counted
from gcp.flow import Glow
from gcp.runs import build
from gcp.runs.build import build_timing
from gcp.runs.flow import build as flows
from gcp.runs.flow.baseline import baseline, margins
from gcp.runs.flow.build import introduction
from gcp.runs.result import format_result, score_run
from gcp.runs.run import TrainingRun

SHOWN = (("loss", "bits/dim"),)


class GlowRun(TrainingRun[FlowConfig]):
    """The run of a flow; arguments as of `TrainingRun`."""

    def __init__(self, config: FlowConfig, folder: RunFolder, group: Group = ALONE):
        super().__init__(config, folder, group=group)
        self.splits = flows.build_splits(config)
        self.loader = build.build_train_loader(config, self.splits, self.device, group)
        self.timing = build_timing(config, self.loader)
        begins = not checkpoint.candidates(folder.path)
        self.model = flows.build_model(config, self.splits, self.device, begins)
        self.bits = flows.build_bits(config, self.model)
        self.state = self.build_state()
        self.callbacks = [DrawSamples(self)] if group.main else []

    def build_state(self) -> TrainingState:
        return flows.build_state(self.config, self.model, self.device)

    def introduction(self) -> str:
        return introduction(self.config, self.folder.path, self.splits, self.state, self.timing, self.bits, self.group)

    def step_options(self) -> StepOptions:
        return flows.build_step_options(self.config, self.bits)

    def validate(self, loader: BatchLoader) -> dict:
        with self._evaluated() as flow:
            return evaluate_bits(flow.log_prob, loader, self.device, self.bits, self.group)

    @contextmanager
    def _evaluated(self) -> Iterator[Glow]:
        """The flow whose scores count, in eval mode and without gradients."""
        flow: Any = self.state.evaluated
        training = flow.training
        flow.eval()
        try:
            with torch.no_grad():
                yield flow
        finally:
            flow.train(training)

    def draw_samples(self) -> None:
        """Images that the flow makes now."""
        from gcp.runs.flow.pictures import draw_samples, going_on

        with self._evaluated() as flow, going_on(self.folder.path / "samples.png"):
            draw_samples(flow, self.bits.levels, self.config.flow.temperatures, self.config.run.seed, self.folder.path)

    def format_result(self, result: dict) -> str:
        inversion, compared = result["inversion"], ""
        if result["baseline"] is not None:
            told = ", ".join(f"{margin:.4f} ({name})" for name, margin in result["margin"].items())
            compared = (
                f"{'Gaussian':<20}{result['baseline']['test']:>10.4f}\n"
                f"margin     Gaussian minus flow, bits per dimension: {told}\n"
            )
        return (
            f"{format_result(result, metrics=SHOWN)}\n{compared}"
            f"inverse    largest error {inversion['largest']:.1e} on {counted(inversion['images'], 'test image')}\n"
            f"log-det    largest error of a 1x1 convolution {result['determinant']['largest']:.1e}\n"
            f"pictures   {self.folder.path}"
        )

    def score_test(self) -> dict:
        test = self._score_loader("test")
        result = score_run(
            self.state, self.folder, self.splits.rule, lambda: self.validate(test), columns={"loss": "val_bits"}
        )
        return result | self.group.broadcast(self._compared(result) if self.group.main else {})

    def _compared(self, result: dict) -> dict:
        """What is beside the scores: unit, baseline, margin, errors of inverse and determinant; pictures are drawn."""
        from gcp.runs.flow.pictures import draw_pictures

        found = baseline(self.config, self.splits, self.device, self.bits)
        with self._evaluated() as flow:
            inversion = draw_pictures(flow, self.splits, self.config, self.bits.levels, self.folder.path)
            determinant = {"largest": flow.determinant_error()}
        return {
            "unit": f"loss: bits per dimension of {self.bits.levels} grey levels, uniform noise",
            "baseline": found,
            "margin": margins(result["test"], found),
            "inversion": inversion,
            "determinant": determinant,
        }


class DrawSamples(Callback):
    """Draws images from the flow at intervals, beside its training."""

    def __init__(self, run: GlowRun):
        self.run, self.every = run, run.timing.steps(run.config.flow.draw)

    def after_step(self, state: TrainingState, sums: torch.Tensor, log: RunLog | NullLog) -> None:
        if state.progress.step % self.every == 0:
            self.run.draw_samples()
