"""The training loop.

    for each window of batches:  gradients  ->  read the next images  ->  check  ->  reduce  ->  update  ->  events

Several processes run this same loop, each on its slice of every batch; they exchange gradients, and the
status of each once per step.
An event is what happens between two optimizer steps: an evaluation, the end of an epoch, a checkpoint. Checkpoints
are taken at these moments only, when no gradient is pending, so a run continued from one repeats the
uninterrupted run bit for bit: the loader's order and augmentation, the mixing of images, dropout and the learning rate
are functions of the place in the run, and everything else is in the `TrainingState`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from gcp.engine import rng
from gcp.engine.batch_norm import running_statistics
from gcp.engine.callback import Callback, state_dicts
from gcp.engine.device import BatchSource, DataTimer, ToDevice
from gcp.engine.diagnose import locate
from gcp.engine.distributed import ALONE, Group, reduce_step
from gcp.engine.log import NullLog, RunLog
from gcp.engine.metrics import Objective
from gcp.engine.optimizer import learning_rates, set_learning_rates
from gcp.engine.state import Progress, TrainingState
from gcp.engine.step import Forward, StepOptions, Window, backward, count, gradient_norm, is_finite, update, windows
from gcp.errors import NonFiniteError
from gcp.kernels import check_failures

SMALLEST_SCALE = 2.0**-14  # a loss scale below this no longer helps: the gradient itself overflows


def _nothing(*_: object) -> None:
    return None


@dataclass
class Events:
    """What is done between steps; the defaults do nothing.

    Attributes:
        validate: () -> scores (dict with `loss` and `top1`) of the evaluated weights.
        improved: (scores) called when they are the best so far.
        save: () writes a checkpoint.
        stop: () -> True to end the run after the present step, with a checkpoint.
        evaluate_every: steps between evaluations, 0 for the end only.
        save_every: steps between checkpoints, 0 for the end only.
        save_seconds: seconds between checkpoints, None for no clock.
        callbacks: features of the run, called in this order.
        log: where steps and epochs are recorded.
    """

    validate: Callable[[], dict | None] = _nothing
    improved: Callable[[dict], None] = _nothing
    save: Callable[[], None] = _nothing
    stop: Callable[[], bool] = lambda: False
    evaluate_every: int = 0
    save_every: int = 0
    save_seconds: float | None = None
    callbacks: Sequence[Callback] = ()
    log: RunLog | NullLog = field(default_factory=NullLog)
    saved_at: float = field(default_factory=time.monotonic)

    def due(self, step: int) -> bool:
        """Whether the number of steps asks for a checkpoint."""
        return bool(self.save_every and step % self.save_every == 0)

    def overdue(self) -> bool:
        """Whether the clock asks for a checkpoint."""
        return self.save_seconds is not None and time.monotonic() - self.saved_at >= self.save_seconds


def steps_per_epoch(loader: BatchSource, accumulate: int = 1) -> int:
    """Optimizer steps of an epoch; an incomplete last window is a step too."""
    return -(-len(loader) // accumulate)


def fit(
    state: TrainingState,
    loader: BatchSource,
    options: StepOptions,
    factor: Callable[[int], float],
    epochs: int,
    device: torch.device,
    events: Events,
    compile: bool = False,
    group: Group = ALONE,
) -> bool:
    """Train until `epochs` epochs are finished, from wherever `state` stands.

    Args:
        state: model on `device`, optimizer and progress; changed in place.
        loader: training batches.
        options: how a step is made.
        factor: learning-rate factor of an optimizer step.
        epochs: length of the whole run.
        device: where to compute.
        events: what to do between steps.
        compile: run the model through `torch.compile`.
        group: the processes of the run. All of them call this with the same arguments but `device`, and with the
            `loader` of their share; events are called in all of them, at the same steps.

    Returns:
        True when the run is complete, False when `events.stop` of a process ended it.

    Raises:
        NonFiniteError: an inf or NaN in features, loss or gradient; the weights are those before the step.
    """
    forward = Forward(state, device, compile, group)
    for callback in events.callbacks:
        callback.start(state)
    total = epochs * steps_per_epoch(loader, options.accumulate)
    while state.progress.epoch < epochs:
        if not train_epoch(state, loader, forward, options, factor, total, device, events, group):
            return False
    return True


def train_epoch(
    state: TrainingState,
    loader: BatchSource,
    forward: Forward,
    options: StepOptions,
    factor: Callable[[int], float],
    total: int,
    device: torch.device,
    events: Events,
    group: Group = ALONE,
) -> bool:
    """Train the rest of the present epoch. Returns False when it was stopped before the run's end."""
    progress = state.progress
    state.model.train()
    sums = torch.tensor([progress.loss_sum, progress.correct], dtype=torch.float64, device=device)
    stream = windows(loader, options, progress.epoch, progress.batch)
    to_device, timer = options.to_device(loader, state.num_classes, device), DataTimer(device)
    started = time.perf_counter() - progress.seconds
    window = timer.next(stream)
    while window:
        group.before_collective()  # the exchange of gradients
        for callback in events.callbacks:
            callback.before_step(state, window, events.log)
        set_learning_rates(state.optimizer, factor(progress.step))
        rng.seed_step(options.seed, progress.step, group.rank)
        new = _gradients(state, forward(), window, options, to_device, group)
        following = timer.next(stream)
        norm = gradient_norm(state)
        fault = _fault(state, window, new[0], norm)
        status = reduce_step(group, new, fault is not None, events.stop(), events.overdue())
        if status.broken:
            raise _non_finite(state, window, options, to_device, group, fault)
        update(state, norm, options.clip)
        sums += status.sums
        progress.step += 1
        progress.batch += len(window)
        progress.count += count(window)
        progress.waited += timer.take()
        progress.seconds = time.perf_counter() - started
        events.log.step(progress, learning_rates(state.optimizer), sums)
        for callback in events.callbacks:
            callback.after_step(state, sums, events.log)
        # Alone nothing has to be agreed on, and what was asked for during the update counts too.
        stop, save = (events.stop(), events.overdue()) if group.world == 1 else (status.stop, status.save)
        stopped = progress.step < total and stop
        save = save or stopped or events.due(progress.step)
        _between_steps(state, sums, options, events, following is None, progress.step >= total, save)
        if stopped:
            return False
        started = time.perf_counter() - progress.seconds
        window = following
    return True


def _between_steps(
    state: TrainingState,
    sums: torch.Tensor,
    options: StepOptions,
    events: Events,
    epoch_ends: bool,
    run_ends: bool,
    save: bool,
) -> None:
    """Evaluation, end of epoch and checkpoint, in this order: a checkpoint holds the result of both."""
    progress = state.progress
    progress.callbacks = state_dicts(events.callbacks)
    if run_ends or (events.evaluate_every and progress.step % events.evaluate_every == 0):
        progress.validation = events.validate()
        if progress.validation and progress.improve(progress.validation):
            events.improved(progress.validation)
        state.model.train()
    save = save or run_ends
    if epoch_ends or save:
        _check_decompositions(progress)
        progress.loss_sum, progress.correct = sums.tolist()
    if epoch_ends:
        row = epoch_row(progress, learning_rates(state.optimizer), options.minimised)
        for callback in events.callbacks:
            callback.end_epoch(state)
            row |= callback.columns(state)
        progress.history.append(row)
        progress.start_epoch()
        events.log.epoch(row)
    if save:
        events.save()
        events.saved_at = time.monotonic()


def _check_decompositions(progress: Progress) -> None:
    """No matrix that a GPU gave up on is lost, wherever it was: waits for all of them."""
    try:
        check_failures()
    except torch.linalg.LinAlgError as error:
        raise NonFiniteError(f"training stopped after step {progress.step}: {error}") from error


def epoch_row(progress: Progress, rates: dict[str, float], objective: Objective) -> dict:
    """Row of the table of metrics for the epoch that ends. Waiting in percent, time in seconds."""
    count = max(1, progress.count)
    return {
        "epoch": progress.epoch + 1,
        "step": progress.step,
        **{f"lr_{part}": rate for part, rate in rates.items()},
        **objective.columns(progress.loss_sum / count, progress.correct / count, progress.validation or {}),
        "images_per_second": progress.count / max(1e-9, progress.seconds),
        "seconds": progress.seconds,
        "data_wait": 100 * progress.waited / max(1e-9, progress.seconds),
    }


def _gradients(
    state: TrainingState, forward: Callable, window: Window, options: StepOptions, to_device: ToDevice, group: Group
) -> torch.Tensor:
    try:
        return backward(forward, window, options, to_device, state.scaler, group.world)
    except (NonFiniteError, torch.linalg.LinAlgError) as error:
        raise _non_finite(state, window, options, to_device, group, str(error)) from error


def _fault(state: TrainingState, window: Window, loss: torch.Tensor, norm: torch.Tensor) -> str | None:
    """What is not finite, None where all is. With a loss scale, an overflow of the gradient is part of its search for
    the right scale: the step is left out and the scale halved, down to `SMALLEST_SCALE`.
    """
    scaled = state.scaler.is_enabled() and state.scaler.get_scale() > SMALLEST_SCALE
    if is_finite(state.model, loss, None if scaled else norm):
        return None
    return f"loss {loss.item() / count(window):.4g}, gradient norm {norm.item():.4g}"


def _non_finite(
    state: TrainingState, window: Window, options: StepOptions, to_device: ToDevice, group: Group, fault: str | None
) -> NonFiniteError:
    """The error that names step, epoch, batch and layer. `state.progress` still counts the steps before."""
    progress, model = state.progress, state.model
    first, last = progress.batch + 1, progress.batch + len(window)
    batches = f"batch {first}" if first == last else f"batches {first}-{last}"
    place = f"training stopped at step {progress.step + 1}, epoch {progress.epoch + 1}, {batches}"
    if fault is None:
        group.wait_for_failure()
        return NonFiniteError(f"{place}: another process met numbers that are not finite")
    plain = torch.amp.GradScaler(to_device.device.type, enabled=False)
    images = [to_device(part.images, part.labels, part.seed)[0] for part in window]
    rng.seed_step(options.seed, progress.step, group.rank)
    with running_statistics(model):  # the other processes do not take part
        where = locate(model, images, lambda: backward(model, window, options, to_device, plain))
    state.optimizer.zero_grad(set_to_none=True)
    return NonFiniteError(
        f"{place}: {fault}. First non-finite: {where}. The weights are those before this step; lower optim.lr, "
        f"{options.minimised.remedy}."
    )
