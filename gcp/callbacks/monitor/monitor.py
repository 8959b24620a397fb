"""Observes the first step of a run and every N-th.

`begin` puts hooks on the head before the step, `end` makes a row of what they saw after it. The step is to the bit the
one that it would be without. With accumulation the first batch of the step is seen; of several processes, the
slice of the one that has a monitor.

A compiled model does not run hooks. Its steps are rehearsed beforehand: the same images once more, uncompiled, backbone
forward only, head and classifier forward and backward; batch-norm statistics are put back.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from gcp.callbacks.monitor.capture import Capture
from gcp.callbacks.monitor.observation import Numbers, observe
from gcp.callbacks.monitor.remarks import remarks
from gcp.engine.batch_norm import running_statistics
from gcp.engine.device import ToDevice, autocast
from gcp.engine.state import TrainingState
from gcp.engine.step import StepOptions, Window, count
from gcp.errors import NonFiniteError

IMAGES = 16  # of a batch that are observed; their eigenvalues cost the most


class HeadMonitor:
    """Observes the head of a Classifier while `gcp.engine.train.fit` trains it.

    Args:
        state: of the run.
        step_options: how its steps are made.
        every: steps between two observations.
        to_device: brings batches to the device.
        world: processes of the run.
        compiled: whether the model is compiled.
        images: of a batch that are observed.
    """

    def __init__(
        self,
        state: TrainingState,
        step_options: StepOptions,
        every: int,
        to_device: ToDevice,
        world: int = 1,
        compiled: bool = False,
        images: int = IMAGES,
    ):
        self.state, self.step_options, self.every, self.to_device = state, step_options, every, to_device
        self.world, self.compiled, self.images = world, compiled, images
        self._seen: Capture | None = None
        self._scale = 1.0
        self._said: set[str] = set()

    def due(self) -> bool:
        """Whether the step that comes is observed."""
        step = self.state.progress.step + 1
        return step == 1 or step % self.every == 0

    def begin(self, window: Window) -> None:
        """Before a step with the images of `window`, after whatever changes its head."""
        self.close()
        if not self.due() or not len(window[0].labels):  # a process may have no image of a batch
            return
        self._seen = Capture(self.state.model.head, self.images)  # type: ignore[arg-type]
        self._scale = self.state.scaler.get_scale() * self.world / count(window)
        if self.compiled:
            self._rehearse(window)

    def end(self) -> Numbers | None:
        """The row of the step that was made; None where it was not observed."""
        seen, self._seen = self._seen, None
        if seen is None or seen.features is None:
            return None
        progress = self.state.progress
        place: Numbers = {"step": progress.step, "epoch": progress.epoch + 1}
        return place | observe(self.state.model.head, seen, self._scale)  # type: ignore[arg-type]

    def remarks(self, row: Numbers) -> list[str]:
        """The remarks on a row, without those on subjects that earlier rows had."""
        found = remarks(self.state.model.head, row)  # type: ignore[arg-type]
        new = [text for subject, text in found.items() if subject not in self._said]
        self._said |= set(found)
        return new

    def close(self) -> None:
        """Remove the hooks."""
        if self._seen is not None:
            self._seen.close()
        self._seen = None

    def _rehearse(self, window: Window) -> None:
        model, part = self.state.model, window[0]
        images, labels = self.to_device(part.images, part.labels, part.seed)
        try:
            with _unchanged(model), running_statistics(model):
                with torch.no_grad(), autocast(self.to_device.device, self.step_options.amp):
                    maps, token = model.extract(images)  # type: ignore[operator]
                maps.requires_grad_()
                with autocast(self.to_device.device, self.step_options.amp):
                    outputs = model.logits(model.head(maps), token)  # type: ignore[operator]
                loss, _ = self.step_options.minimised(outputs.float(), labels)
                torch.autograd.grad(loss * self._scale, maps)
        except (NonFiniteError, torch.linalg.LinAlgError):  # the step itself says which, and where
            self.close()


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Statistics and flags of the model are put back at the end."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
