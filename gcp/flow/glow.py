r"""Glow (Kingma and Dhariwal, NeurIPS 2018): levels of steps, half of the numbers leaving after each level.

image -> [squeeze -> K steps -> split] x (L - 1) -> squeeze -> K steps -> prior -> numbers e, standard normal
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from gcp.errors import OptionError, ShapeError
from gcp.flow.layers import ActNorm, FlowStep, Prior, Split, normal_log_density, squeeze, unsqueeze
from gcp.layers.frame import check_size
from gcp.layers.invertible import InvertibleConv1x1

MapShape = tuple[int, int, int]


class Glow(nn.Module):
    """A density of images (B, C, H, W) and a bijection between them and L tensors of numbers.

    Args:
        shape: (C, H, W) of an image; 2^L divides both sides.
        levels: L.
        steps: K, of each level.
        width: channels of the hidden layers of a coupling.
        form: of the 1x1 convolutions: `plain`, `plu` or `svd`.
        coupling: `affine` or `additive`.
        dropout: in the networks of the couplings, in training.
        **options: of the form.

    Raises:
        OptionError: sizes that do not fit, an option that the form does not take.
        UnknownNameError: another form or coupling.
    """

    def __init__(
        self,
        shape: MapShape,
        levels: int = 2,
        steps: int = 8,
        width: int = 64,
        form: str = "svd",
        coupling: str = "affine",
        dropout: float = 0.0,
        **options: Any,
    ):
        super().__init__()
        for name, value in (("levels", levels), ("steps", steps), ("width", width)):
            check_size(name, value, 1)
        self.shape = C, H, W = shape
        if H % 2**levels or W % 2**levels:
            raise OptionError(f"{levels} levels halve the sides {levels} times, images of {H} x {W} pixels cannot be.")
        self.levels, self.splits = nn.ModuleList(), nn.ModuleList()
        self.latent_shapes: list[MapShape] = []
        for level in range(levels):
            C, H, W = 4 * C, H // 2, W // 2
            made = (FlowStep(C, width, form, coupling, dropout, **options) for _ in range(steps))
            self.levels.append(nn.ModuleList(made))
            if level < levels - 1:
                self.splits.append(Split(C))
                self.latent_shapes.append((C - C // 2, H, W))
                C = C // 2
        self.prior = Prior((C, H, W))
        self.latent_shapes.append((C, H, W))

    @property
    def dimensions(self) -> int:
        """Numbers in an image."""
        C, H, W = self.shape
        return C * H * W

    def forward(self, images: Tensor) -> Tensor:
        """`log_prob`."""
        return self.log_prob(images)

    def log_prob(self, images: Tensor) -> Tensor:
        """Log-density in nats of each image (B,)."""
        latents, log_det = self.encode(images)
        return log_det + torch.stack([normal_log_density(e) for e in latents]).sum(0)

    def encode(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The numbers e of images (B, C, H, W), one tensor of each of `latent_shapes`, and log|det de/dx| (B,).

        Raises:
            ShapeError: images of another shape.
        """
        if tuple(images.shape[1:]) != self.shape:
            raise ShapeError(f"images (B, {', '.join(map(str, self.shape))}) are needed, got {tuple(images.shape)}.")
        latents, log_dets, x = [], [], images
        for number, level in enumerate(self.levels):
            x = squeeze(x)
            for step in cast(nn.ModuleList, level):
                x, log_det = step(x)
                log_dets.append(log_det)
            if number < len(self.splits):
                x, e, log_det = self.splits[number](x)
                latents.append(e)
                log_dets.append(log_det)
        e, log_det = self.prior(x)
        return [*latents, e], torch.stack([*log_dets, log_det]).sum(0)

    def inverse(self, latents: Sequence[Tensor]) -> Tensor:
        """The images of numbers e, one tensor (B, ...) of each of `latent_shapes`.

        Raises:
            ShapeError: other shapes.
        """
        given = [tuple(e.shape[1:]) for e in latents]
        if given != self.latent_shapes:
            raise ShapeError(f"latents of shapes {self.latent_shapes} are needed, got {given}.")
        x = self.prior.inverse(latents[-1])
        for number in reversed(range(len(self.levels))):
            if number < len(self.splits):
                x = cast(Split, self.splits[number]).inverse(x, latents[number])
            for step in reversed(cast(nn.ModuleList, self.levels[number])):
                x = cast(FlowStep, step).inverse(x)
            x = unsqueeze(x)
        return x

    def draw(self, count: int, temperature: float = 1.0, generator: torch.Generator | None = None) -> list[Tensor]:
        """Normal numbers e of `count` images, of deviation `temperature`, drawn on the CPU."""
        like = self.prior.mean
        drawn = (torch.randn(count, *shape, generator=generator) for shape in self.latent_shapes)
        return [temperature * e.to(like) for e in drawn]

    @torch.no_grad()
    def sample(self, n: int, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """n images (n, C, H, W); a temperature below 1 gives likelier and less varied ones. In eval mode."""
        return self.inverse(self.draw(n, temperature, generator))

    @property
    def initialised(self) -> bool:
        """Whether every actnorm has been set."""
        return all(bool(norm.initialised) for norm in self._norms())

    @torch.no_grad()
    def initialise(self, images: Tensor) -> None:
        """Set every actnorm that is not set yet by what reaches it of `images`."""
        waiting = [norm for norm in self._norms() if not norm.initialised]
        hooks = [norm.register_forward_pre_hook(lambda norm, x: norm.initialise(x[0])) for norm in waiting]
        try:
            self.encode(images)
        finally:
            for hook in hooks:
                hook.remove()

    @torch.no_grad()
    def determinant_error(self) -> float:
        """The largest difference between the log|det W| that a 1x1 convolution counts and that of its matrix, by a
        factorisation in float64. In eval mode.
        """
        convolutions = [module for module in self.modules() if isinstance(module, InvertibleConv1x1)]
        exact = (torch.linalg.slogdet(convolution.matrix().double())[1] for convolution in convolutions)
        pairs = zip(convolutions, exact, strict=True)
        return max(float((convolution.slogdet()[1] - value).abs()) for convolution, value in pairs)

    def _norms(self) -> list[ActNorm]:
        return [module for module in self.modules() if isinstance(module, ActNorm)]


SETTINGS = ("levels", "steps", "width", "form", "coupling", "dropout")


def create_flow(shape: MapShape, settings: Mapping[str, Any]) -> Glow:
    """The freshly initialised flow of images (C, H, W) that the section `flow` of a configuration, in plain values,
    describes; keys that say nothing of the flow itself are passed over.

    Raises:
        KeyError: a setting is missing; OptionError, UnknownNameError: as of `Glow`.
    """
    options = {"spectrum": settings["spectrum"]} if settings["form"] == "svd" else {}
    return Glow(shape, **{key: settings[key] for key in SETTINGS}, **options)
