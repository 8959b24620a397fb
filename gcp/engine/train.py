"""The training loop.

    for each window of batches:  gradients  ->  read the next images  ->  check  ->  update  ->  events

An event is what happens between two optimizer steps: an evaluation, the end of an epoch, a checkpoint. Checkpoints
are taken at these moments only, when no gradient is pending, so a run continued from one repeats the
uninterrupted run bit for bit: the loader's order and augmentation, the mixing of images and the learning rate are
functions of the place in the run, and everything else is in the `TrainingState`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from gcp.engine.diagnose import locate
from gcp.engine.loader import Batch, Loader
from gcp.engine.optimizer import learning_rates, set_learning_rates
from gcp.engine.state import Progress, TrainingState
from gcp.engine.step import Recipe, backward, gradient_norm, is_finite, to_device, update, windows
from gcp.errors import NonFiniteError

SMALLEST_SCALE = 2.0**-14  # a loss scale below this no longer helps: the gradient itself overflows


def _nothing(*_: object) -> None:
    return None


@dataclass
class Events:
    """What is done between steps. Each is a plain function; the defaults do nothing.

    Attributes:
        validate: () -> scores (dict with `loss` and `top1`) of the weights that count.
        improved: (scores) called when they are the best so far.
        epoch: (row) called at the end of every epoch.
        step: (progress, rates, loss_sum, correct) called after every step.
        save: () writes a checkpoint.
        stop: () -> True to end the run after the present step, with a checkpoint.
        evaluate_every: steps between evaluations, 0 for the end only.
        save_every: steps between checkpoints, 0 for the end only.
        save_seconds: seconds between checkpoints, None for no clock.
    """

    validate: Callable[[], dict | None] = _nothing
    improved: Callable[[dict], None] = _nothing
    epoch: Callable[[dict], None] = _nothing
    step: Callable[[Progress, dict[str, float], torch.Tensor], None] = _nothing
    save: Callable[[], None] = _nothing
    stop: Callable[[], bool] = lambda: False
    evaluate_every: int = 0
    save_every: int = 0
    save_seconds: float | None = None
    saved_at: float = field(default_factory=time.monotonic)

    def due(self, step: int) -> bool:
        """Whether a checkpoint is due after `step`."""
        by_clock = self.save_seconds is not None and time.monotonic() - self.saved_at >= self.save_seconds
        return by_clock or bool(self.save_every and step % self.save_every == 0)


def steps_per_epoch(loader: Loader, accumulate: int = 1) -> int:
    """Optimizer steps of an epoch; an incomplete last window is a step too."""
    return -(-len(loader) // accumulate)


def fit(
    state: TrainingState,
    loader: Loader,
    recipe: Recipe,
    factor: Callable[[int], float],
    epochs: int,
    device: torch.device,
    events: Events,
    compile: bool = False,
) -> bool:
    """Train until `epochs` epochs are finished, from wherever `state` stands.

    Args:
        state: model on `device`, optimizer and progress; changed in place.
        loader: training batches.
        recipe: how a step is made.
        factor: learning-rate factor of an optimizer step.
        epochs: length of the whole run.
        device: where to compute.
        events: what to do between steps.
        compile: run the model through `torch.compile`.

    Returns:
        True when the run is complete, False when `events.stop` ended it.

    Raises:
        NonFiniteError: an inf or NaN in features, loss or gradient; the weights are those before the step.
    """
    forward = torch.compile(state.model) if compile else state.model
    total = epochs * steps_per_epoch(loader, recipe.accumulate)
    while state.progress.epoch < epochs:
        if not train_epoch(state, loader, forward, recipe, factor, total, device, events):
            return False
    return True


def train_epoch(
    state: TrainingState,
    loader: Loader,
    forward: Callable[[torch.Tensor], torch.Tensor],
    recipe: Recipe,
    factor: Callable[[int], float],
    total: int,
    device: torch.device,
    events: Events,
) -> bool:
    """Train the rest of the present epoch. Returns False when it was stopped before the run's end."""
    progress = state.progress
    state.model.train()
    sums = torch.tensor([progress.loss_sum, progress.correct], dtype=torch.float64, device=device)
    batches = loader.epoch(progress.epoch, start=progress.batch)
    stream = windows(batches, recipe, state.num_classes, progress.epoch, progress.batch)
    started = time.perf_counter() - progress.seconds
    window = next(stream, None)
    while window:
        set_learning_rates(state.optimizer, factor(progress.step))
        new = _gradients(state, forward, window, recipe, device)
        following = next(stream, None)
        _apply(state, window, new[0], recipe, device)
        sums += new
        progress.step += 1
        progress.batch += len(window)
        progress.count += sum(len(labels) for _, labels in window)
        progress.seconds = time.perf_counter() - started
        events.step(progress, learning_rates(state.optimizer), sums)
        stopped = progress.step < total and events.stop()
        _between_steps(state, sums, events, following is None, progress.step >= total, stopped)
        if stopped:
            return False
        started = time.perf_counter() - progress.seconds
        window = following
    return True


def _between_steps(
    state: TrainingState, sums: torch.Tensor, events: Events, epoch_ends: bool, run_ends: bool, stopped: bool
) -> None:
    """Evaluation, end of epoch and checkpoint, in this order: a checkpoint holds the result of both."""
    progress = state.progress
    if run_ends or (events.evaluate_every and progress.step % events.evaluate_every == 0):
        progress.validation = events.validate()
        if progress.validation and progress.improve(progress.validation):
            events.improved(progress.validation)
        state.model.train()
    due = run_ends or stopped or events.due(progress.step)
    if epoch_ends or due:
        progress.loss_sum, progress.correct = sums.tolist()
    if epoch_ends:
        row = epoch_row(progress, learning_rates(state.optimizer))
        progress.history.append(row)
        progress.start_epoch()
        events.epoch(row)
    if due:
        events.save()
        events.saved_at = time.monotonic()


def epoch_row(progress: Progress, rates: dict[str, float]) -> dict:
    """Row of the table of metrics for the epoch that ends. Accuracies in percent, time in seconds."""
    validation = progress.validation or {}
    return {
        "epoch": progress.epoch + 1,
        "step": progress.step,
        **{f"lr_{part}": rate for part, rate in rates.items()},
        "train_loss": progress.loss_sum / max(1, progress.count),
        "train_accuracy": 100 * progress.correct / max(1, progress.count),
        "val_loss": validation.get("loss"),
        "val_accuracy": validation.get("top1"),
        "images_per_second": progress.count / max(1e-9, progress.seconds),
        "seconds": progress.seconds,
    }


def _gradients(
    state: TrainingState, forward: Callable, window: list[Batch], recipe: Recipe, device: torch.device
) -> torch.Tensor:
    try:
        return backward(forward, window, recipe, device, state.scaler)
    except (NonFiniteError, torch.linalg.LinAlgError) as error:
        raise _non_finite(state, window, recipe, device, str(error)) from error


def _apply(state: TrainingState, window: list[Batch], loss: torch.Tensor, recipe: Recipe, device: torch.device) -> None:
    """Check loss and gradient, then update. With a loss scale, an overflow of the gradient is part of its
    search for the right scale: the step is left out and the scale halved, down to `SMALLEST_SCALE`.
    """
    norm = gradient_norm(state)
    scaled = state.scaler.is_enabled() and state.scaler.get_scale() > SMALLEST_SCALE
    if not is_finite(state.model, loss, None if scaled else norm):
        what = f"loss {loss.item() / sum(len(y) for _, y in window):.4g}, gradient norm {norm.item():.4g}"
        raise _non_finite(state, window, recipe, device, what)
    update(state, norm, recipe.clip)


def _non_finite(
    state: TrainingState, window: list[Batch], recipe: Recipe, device: torch.device, what: str
) -> NonFiniteError:
    """The error that names step, epoch, batch and layer. `state.progress` still counts the steps before."""
    progress, model = state.progress, state.model
    plain = torch.amp.GradScaler(device.type, enabled=False)
    images = [to_device(batch, device, recipe.channels_last) for batch, _ in window]
    where = locate(model, images, lambda: backward(model, window, recipe, device, plain))
    state.optimizer.zero_grad(set_to_none=True)
    first, last = progress.batch + 1, progress.batch + len(window)
    batches = f"batch {first}" if first == last else f"batches {first}-{last}"
    return NonFiniteError(
        f"training stopped at step {progress.step + 1}, epoch {progress.epoch + 1}, {batches}: {what}. "
        f"First non-finite: {where}. The weights are those before this step; lower optim.lr, set optim.clip, "
        "or set head.precision=float64."
    )
