"""`gcp.fit`: train any model on any iterable of batches, with the loop, checks and callbacks of a run.

What a run promises because it owns its data, this cannot: the order and the augmentation of the images are the
loader's, so a training that was stopped does not continue to the same bits. The loop itself is that of a run:
accumulated batches, mixed images, averaged weights, clipping, learning-rate schedules, and a stop with step, batch and
layer named where a number is not finite.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcp.data.rank_slice import WHOLE, RankSlice
from gcp.data.seeds import preserved
from gcp.engine import train
from gcp.engine.callback import Callback
from gcp.engine.device import autocast, create_scaler
from gcp.engine.log import KEPT, NullLog, RunLog
from gcp.engine.optimizer import create_optimizer, learning_rate_factor
from gcp.engine.state import EMA, TrainingState
from gcp.engine.step import StepOptions
from gcp.errors import DataError, NonFiniteError, OptionError
from gcp.loggers import DEFAULT, Logger, create_loggers
from gcp.models.parts import parameter_groups, part_groups, undecayed

Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass
class Fitted:
    """What `fit` returns.

    Attributes:
        history: one row for each epoch: losses, accuracies in percent, learning rates, images per second.
        best: the scores of the best validation, with `step` and `epoch`; None without validation.
        state: model, optimizer, averaged weights (`state.ema.module`) and progress.
    """

    history: list[dict] = field(repr=False)
    best: dict | None
    state: TrainingState = field(repr=False)


class IterableLoader:
    """The batches of any iterable, as the engine reads them. `role` names it in messages; `num_classes` bounds the
    labels, 0 for no bound.
    """

    rank_slice: RankSlice = WHOLE
    advice = "give your loader more workers."

    def __init__(
        self, batches: Batches, batches_per_epoch: int | None = None, role: str = "loader", num_classes: int = 0
    ):
        self.batches, self.role, self.num_classes = batches, role, num_classes
        if batches_per_epoch is None:
            try:
                batches_per_epoch = len(batches)  # type: ignore[arg-type]
            except TypeError:
                raise OptionError(
                    f"the {role} has no len(), which the schedule needs. Give batches_per_epoch=N."
                ) from None
        if batches_per_epoch < 1:
            raise DataError(f"the {role} has no batches.")
        self._length, self._sizes = batches_per_epoch, dict[int, int]()

    def __len__(self) -> int:
        return self._length

    def size(self, batch: int) -> int:
        """Images of a batch that has been read."""
        return self._sizes[batch]

    def normalize(self, images: Tensor) -> Tensor:
        """Nothing: the images are those that the model takes."""
        return images

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch; a sampler with `set_epoch` gets its number."""
        set_epoch = getattr(getattr(self.batches, "sampler", None), "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch)
        place = -1
        for place, batch in enumerate(self.batches):
            if place == self._length:
                return
            images, labels = self._checked(batch, place)
            self._sizes[place] = len(images)
            if place >= start:
                yield images, labels
        if place + 1 < self._length:
            raise DataError(
                f"the {self.role} gave {place + 1} of {self._length} batches in epoch {epoch + 1}. A generator can be "
                "read once: give a list or a DataLoader."
            )

    def _checked(self, batch: Any, place: int) -> tuple[Tensor, Tensor]:
        place_text = f"batch {place + 1} of the {self.role}"
        if not isinstance(batch, list | tuple) or len(batch) != 2:
            raise DataError(f"{place_text} is of type {type(batch).__name__}; allowed: (images, labels).")
        images, labels = batch
        if not isinstance(images, Tensor) or not images.is_floating_point() or images.ndim < 2:
            what = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
            raise DataError(
                f"{place_text} has images of {what}; allowed: a floating-point tensor (B, ...) as the model takes it."
            )
        if not isinstance(labels, Tensor) or labels.dtype != torch.long or labels.shape != images.shape[:1]:
            what = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
            raise DataError(f"{place_text} has labels of {what}; allowed: an int64 tensor ({len(images)},).")
        if self.num_classes and labels.device.type == "cpu":  # on a GPU the test would wait for the device
            outside = labels[(labels < 0) | (labels >= self.num_classes)]
            if len(outside):
                raise DataError(f"{place_text} has the label {outside[0]}; allowed: 0 to {self.num_classes - 1}.")
        return images, labels


def fit(
    model: nn.Module,
    loader: Batches,
    validation: Batches | None = None,
    *,
    epochs: int = 10,
    optimizer: str | torch.optim.Optimizer = "sgd",
    lr: float = 0.01,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    schedule: str = "cosine",
    warmup: float = 0.0,
    milestones: Sequence[float] = (),
    accumulate: int = 1,
    label_smoothing: float = 0.0,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    clip: float | None = None,
    ema: float | None = None,
    amp: str = "none",
    compile: bool = False,
    device: str | torch.device = "auto",
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
    folder: str | Path | None = None,
    batches_per_epoch: int | None = None,
    decay_all: bool = False,
    layer_decay: float | None = None,
    loggers: Sequence[str | Logger] | None = None,
) -> Fitted:
    """Train a classifier on any iterable of batches.

    Args:
        model: images to logits (B, classes); moved to `device` and changed in place. A Classifier of
            `gcp.create_model` has parameter groups for features, head and classifier; others have one.
        loader: anything that gives (images, labels) each time it is iterated over: a DataLoader, a list, an object with
            `__iter__`. Images are floating-point and normalised, labels int64 (B,).
        validation: the same, scored after every epoch; None for no validation.
        epochs: times that `loader` is read.
        optimizer: a name of timm, or an optimizer over the parameters of `model`, whose own rates then count.
        lr: its learning rate, where it is made by name.
        momentum: its momentum, where it has one.
        weight_decay: its weight decay.
        schedule: constant, step (every epoch), multistep, cosine or onecycle (`gcp.engine.optimizer`).
        warmup: epochs of linear warm-up.
        milestones: epochs after which multistep multiplies the rate by 0.1.
        accumulate: batches of one optimizer step.
        label_smoothing: share of the target spread over all classes.
        mixup: alpha of mixup, 0 for none.
        cutmix: alpha of CutMix, 0 for none.
        clip: largest global norm of the gradient, None for no clipping.
        ema: decay of the averaged weights, which are then those that are scored; None for none.
        amp: none, bf16 or fp16.
        compile: run the model through `torch.compile`.
        device: auto is the GPU where there is one.
        seed: of dropout and of the mixing of images; the random state of the process stays as it was.
        callbacks: features of the loop (`gcp.engine.callback.Callback`).
        folder: where `metrics.csv` and TensorBoard events are written, None for nowhere. Weights are yours to save.
        batches_per_epoch: of an iterable without `len`.
        decay_all: whether norms, biases and what the backbone exempts decay too.
        layer_decay: factor on the learning rate from each layer of the backbone to the one below it; None for none.
        loggers: names or objects of `gcp.loggers` in the place of TensorBoard, beside `metrics.csv` in `folder`, which
            they need; None for TensorBoard.

    Raises:
        OptionError, UnknownNameError: an argument that is not allowed.
        DataError: a batch that is none, or fewer of them than there should be.
        NonFiniteError: with step, batch and layer; the weights are those before the step.

    Examples:
        >>> import gcp, torch
        >>> model = gcp.create_model("resnet8_cifar", head="svd_pade", num_classes=2, dim=8)
        >>> batches = [(torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 0, 1]))]
        >>> fitted = gcp.fit(model, batches, epochs=2, lr=0.05)
        >>> len(fitted.history)
        2
    """
    _check_counts(epochs=epochs, accumulate=accumulate)
    _check_numbers(lr=lr, momentum=momentum, weight_decay=weight_decay, warmup=warmup, mixup=mixup, cutmix=cutmix)
    if clip is not None:
        _check_numbers(clip=clip)
    if not 0 <= label_smoothing < 1:
        raise OptionError(f"label_smoothing is {label_smoothing!r}; allowed: a number from 0 to below 1.")
    if strangers := [callback for callback in callbacks if not isinstance(callback, Callback)]:
        raise OptionError(f"callbacks holds {strangers[0]!r}; allowed: objects of subclasses of Callback.")
    written = _loggers(loggers, folder)
    place, classes = _device(device), int(getattr(model, "num_classes", 0) or 0)
    source = IterableLoader(loader, batches_per_epoch, num_classes=classes)
    held_out = None if validation is None else IterableLoader(validation, None, "validation loader", classes)
    model.to(place)
    if (mixup or cutmix) and not classes:
        raise OptionError("mixup and cutmix need the width of the labels: set model.num_classes.")
    if isinstance(optimizer, str):
        groups = _groups(model, lr, weight_decay, decay_all, layer_decay)
        optimizer = create_optimizer(groups, optimizer, lr, momentum, weight_decay)
    else:
        for number, group in enumerate(optimizer.param_groups):
            group.setdefault("base_lr", group["lr"])
            group.setdefault("name", f"group{number}")
    state = TrainingState(model, optimizer, create_scaler(place, amp), EMA(model, ema) if ema is not None else None)
    per_epoch = train.steps_per_epoch(source, accumulate)  # type: ignore[arg-type]
    factor = partial(
        learning_rate_factor,
        schedule,
        total=epochs * per_epoch,
        warmup=round(warmup * per_epoch),
        milestones=[round(epoch * per_epoch) for epoch in milestones],
        every=per_epoch,
    )
    step_options = StepOptions(accumulate, label_smoothing, mixup, cutmix, clip, amp, seed=seed)
    log: RunLog | NullLog = NullLog()
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, KEPT).unlink(missing_ok=True)  # of another training
        steps, name = epochs * per_epoch, Path(folder).resolve().name
        log = RunLog(Path(folder), epochs, steps, state.progress, advice=source.advice, loggers=written, name=name)

    def validate() -> dict | None:
        return None if held_out is None else score(state.evaluated, held_out, place, amp)

    events = train.Events(validate=validate, evaluate_every=per_epoch, callbacks=callbacks, log=log)
    outcome = "failed"
    try:
        with preserved():
            _see_first_batches(state, loader)
            train.fit(state, source, step_options, factor, epochs, place, events, compile)  # type: ignore[arg-type]
        outcome = "finished"
    finally:
        log.close(outcome)
        for callback in callbacks:
            callback.close(Path(folder or "."))
    return Fitted(state.progress.history, state.progress.best, state)


@torch.no_grad()
def score(model: nn.Module, loader: IterableLoader, device: torch.device, amp: str = "none") -> dict:
    """Mean cross-entropy, accuracy in percent and number of images, in evaluation mode.

    Raises:
        NonFiniteError: the loss is not finite.
    """
    loss, right, count, training = 0.0, 0, 0, model.training
    model.eval()
    try:
        for images, labels in loader.epoch(0):
            images, labels = images.to(device), labels.to(device)
            with autocast(device, amp):
                logits = model(images).float()
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            right += int((logits.argmax(1) == labels).sum())
            count += len(labels)
    finally:
        model.train(training)
    if not isfinite(loss):
        raise NonFiniteError(f"the validation loss is {loss}")
    return {"loss": loss / count, "top1": 100 * right / count, "count": count}


def _groups(
    model: nn.Module, lr: float, weight_decay: float, decay_all: bool, layer_decay: float | None
) -> list[dict[str, Any]]:
    """Those of the parts of a Classifier; of any other model one."""
    if all(hasattr(model, part) for part in ("features", "head", "classifier")):
        return parameter_groups(model, lr, weight_decay, decay_all=decay_all, layer_decay=layer_decay)
    if layer_decay is not None:
        raise OptionError("layer_decay is for models of gcp.create_model; give an optimizer of your own")
    trained = [p for p in model.parameters() if p.requires_grad]
    return part_groups("model", trained, lr, weight_decay, () if decay_all else undecayed(model))


def _see_first_batches(state: TrainingState, loader: Batches) -> None:
    """Measure what a head of `gcp.create_head` asks for."""
    if all(getattr(module, "measured_on", None) is None for module in state.model.modules()):
        return
    from gcp.heads.first_batches import initialize_head

    initialize_head(state.model, loader)
    if state.ema:
        state.ema.module.load_state_dict(state.model.state_dict())


def _loggers(given: Sequence[str | Logger] | None, folder: object) -> dict[str, Logger]:
    """The loggers by name; objects have that of their class."""
    if given is not None and folder is None:
        raise OptionError("loggers write beside metrics.csv: give folder=PATH as well.")
    given = DEFAULT if given is None else given
    names = [each if isinstance(each, str) else type(each).__name__ for each in given]
    found = create_loggers(name for name, each in zip(names, given, strict=True) if isinstance(each, str))
    return found | {name: each for name, each in zip(names, given, strict=True) if isinstance(each, Logger)}


POSITIVE = ("lr", "clip")  # arguments that have to be above 0; the others may be 0


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise OptionError(f"{name} is {value!r}; allowed: a whole number >= 1.")


def _check_numbers(**numbers: float) -> None:
    for name, value in numbers.items():
        bound = "> 0" if name in POSITIVE else ">= 0"
        number = not isinstance(value, bool) and isinstance(value, Real) and isfinite(value)
        if not number or value < 0 or (value == 0 and name in POSITIVE):
            raise OptionError(f"{name} is {value!r}; allowed: a number {bound}.")


def _device(given: str | torch.device) -> torch.device:
    """The device to train on.

    Raises:
        OptionError: no device of that name, or a GPU that is not there.
    """
    if given == "auto":
        given = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(given)
    except RuntimeError:
        raise OptionError(f"device is {given!r}; allowed: auto, cpu, cuda, or cuda:N.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise OptionError(
            f"device is {str(given)!r}, but there are {torch.cuda.device_count()} GPUs. Give cpu or auto."
        )
    return device
