"""What passes through a head in one forward and backward, copied by hooks.

A copy at each place is all that happens: no number of the step changes, none is drawn at random. The hooks of the
forward come off with the first one that they see, those of the backward go with its graph.
"""

import torch
from torch import Tensor, nn

from gcp.heads import Head


class Capture:
    """Hooks on a head until its next forward is over.

    Attributes:
        features: (n, d, H, W) after the reduction, of the first images of the batch; None before the forward.
        before_norm: (n, d, H, W), what the convolution of the reduction gives; None without a reduction.
        gradient: (n, out_features) at the head's output; None until there is one.
        input_norms: (n,) float64, norm of the gradient of each image at the head's input; None where nothing before
            the head is trained.
    """

    def __init__(self, head: Head, images: int):
        self.features: Tensor | None = None
        self.before_norm: Tensor | None = None
        self.gradient: Tensor | None = None
        self.input_norms: Tensor | None = None
        self._images = images
        self._handles = [
            head.register_forward_pre_hook(self._enter),
            head.reduction.register_forward_hook(self._reduced),
            head.register_forward_hook(self._leave),
        ]
        if isinstance(conv := getattr(head.reduction, "conv", None), nn.Module):
            self._handles.append(conv.register_forward_hook(self._convolved))

    def close(self) -> None:
        """Take the hooks off, where no forward has come."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _copy(self, x: Tensor) -> Tensor:
        return x.detach()[: self._images].clone()

    def _enter(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if args[0].requires_grad:
            args[0].register_hook(self._arrive_at_input)

    def _convolved(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        self.before_norm = self._copy(output)

    def _reduced(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        self.features = self._copy(output)

    def _leave(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        self.close()
        if output.requires_grad:
            output.register_hook(self._arrive_at_output)

    def _arrive_at_output(self, gradient: Tensor) -> None:
        self.gradient = self._copy(gradient)

    def _arrive_at_input(self, gradient: Tensor) -> None:
        self.input_norms = norms(gradient.detach()[: self._images])


def norms(x: Tensor) -> Tensor:
    """Norm (B,) float64 of each part of a batch (B, ...)."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1, dtype=torch.float64)
