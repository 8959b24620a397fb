"""A network without its classifier: images (B, in_chans, H, W) -> feature map (B, channels, h, w).

Convolutional networks give the map; some write the channels last (B, h, w, C); transformers give tokens
(B, N, C), of which the first few (class, distillation, registers) do not belong to the grid.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gcp.errors import GCPError, ShapeError
from gcp.models.bodies import only_size, patch_size
from gcp.models.dry_run import dry_run
from gcp.models.parts import is_frozen


class Backbone(nn.Module):
    """A network without its classifier, whatever its features look like, as a map (B, channels, h, w).

    `body` is the network under its own parameter names; `channels` the width of the map; `native_size` the
    (H, W) of images that it was made for; `image_size` the same where it takes no other, else None.

    What the body gives is found by a dry run: a map (B, C, h, w), or tokens (B, N, C) that lie on a grid, of
    `forward_features` where it has one, else of `forward`. Parts of the body that take no part in it, such as the
    classifier of a timm model, are replaced by `nn.Identity`.

    Tokens before the grid (class, distillation, registers) are no part of the map; `with_token` gives the first of
    them, where it is a class token, beside the map.

    Raises GCPError where the features lie on no grid, or the body does not run on images of `size`.
    """

    _own = False  # a module of the user's, which may not run on the meta device
    stage: int | str | None = None  # behind which it has been cut
    left_out: frozenset[str] = frozenset()  # tensors of the body that were cut off

    def __init__(self, body: Any, name: str, in_chans: int, size: tuple[int, int], fixed: bool = False):
        super().__init__()
        self.body: Any = body
        self.name = name
        self.in_chans = in_chans
        self.native_size = size
        self.image_size = size if fixed else None
        self._call, self._layout, self._prefix = "forward", "NCHW", 0
        if hasattr(body, "forward_features"):
            self._settle(size)
        self.channels: int = dry_run(self, in_chans, size).output.shape[1]

    @classmethod
    def of_module(cls, body: nn.Module, in_chans: int, size: tuple[int, int]) -> "Backbone":
        """A network of the user's own. Raises GCPError where it gives no map of images (1, in_chans, *size)."""
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made.body, made.name, made.in_chans = body, type(body).__name__, in_chans
        made.native_size, made.image_size, made._own = size, None, True
        made._call, made._layout, made._prefix = "forward", "raw", 0
        if hasattr(body, "forward_features"):
            made._settle(size)
        else:
            shape = made._shape_of(made._try(size))
            prefix = (
                prefix_tokens(shape[1], size, getattr(body, "num_prefix_tokens", None)) if len(shape) == 3 else None
            )
            if len(shape) == 4:
                made._layout = "NHWC" if getattr(body, "output_fmt", "NCHW") == "NHWC" else "NCHW"
            elif prefix is not None and shape[1] > 1:
                made._layout, made._prefix = "NLC", prefix
            else:
                raise GCPError(
                    f"backbone {made.name} gives {shape or 'no tensor'} for images {(1, in_chans, *size)}; allowed: a "
                    "map (B, C, h, w), or tokens (B, N, C) that lie on a grid. Leave its pooling and classifier out, "
                    "for instance nn.Sequential(*list(network.children())[:-2])"
                )
        made.channels = made._try(size).shape[1]
        return made

    @staticmethod
    def _shape_of(output: Any) -> tuple[int, ...]:
        return tuple(output.shape) if isinstance(output, Tensor) else ()

    def _try(self, size: tuple[int, int]) -> Any:
        """What the body gives of one image: in a dry run, else, where that is not to be had, of zeros."""
        try:
            return dry_run(self, self.in_chans, size).output
        except Exception:  # a body of the user's own may raise anything on the meta device
            like = next((p for p in self.body.parameters() if not isinstance(p, nn.UninitializedParameter)), None)
            zeros = torch.zeros(1, self.in_chans, *size) if like is None else like.new_zeros(1, self.in_chans, *size)
        training = {module: module.training for module in self.modules()}
        self.eval()
        try:
            with torch.no_grad():
                return self(zeros)
        except Exception as error:
            raise GCPError(
                f"backbone {self.name} does not take images {tuple(zeros.shape)}: {type(error).__name__}: {error}. "
                "Give in_chans=N and image_size=N as it takes them"
            ) from error
        finally:
            for module, mode in training.items():
                module.training = mode

    def _settle(self, size: tuple[int, int]) -> None:
        """Find out what kind of features the body gives, and drop the parts that none of them needs."""
        declared = getattr(self.body, "num_prefix_tokens", None)
        for call in ("forward_features", "forward_intermediates"):
            if not hasattr(self.body, call):
                continue
            self._call, self._layout = call, "raw"
            run = dry_run(self, self.in_chans, size, backward=True)
            shape: tuple[int, ...] = tuple(getattr(run.output, "shape", ()))
            if len(shape) == 4:
                self._layout = "NHWC" if getattr(self.body, "output_fmt", "NCHW") == "NHWC" else "NCHW"
                # What `forward_intermediates` returns is NCHW by request.
                self._layout = "NCHW" if call == "forward_intermediates" else self._layout
                break
            # A single token is a class token, which has no place on a map.
            prefix = prefix_tokens(shape[1], size, declared) if len(shape) == 3 and shape[1] > 1 else None
            if prefix is not None:
                self._layout, self._prefix = "NLC", prefix
                break
        else:
            raise GCPError(
                f"backbone {self.name!r} gives no feature map (its features lie on no grid), which "
                f"covariance pooling needs; choose another, see --list backbones"
            )
        for child in run.idle(self.body, "body."):
            idle = getattr(self.body, child)
            # Some models walk through a list of norms whether or not they use them.
            listed = isinstance(idle, nn.ModuleList)
            setattr(self.body, child, nn.ModuleList(nn.Identity() for _ in idle) if listed else nn.Identity())

    def _features(self, images: Tensor) -> Tensor:
        if self._call == "forward_intermediates":
            return self.body.forward_intermediates(
                images, indices=1, intermediates_only=True, output_fmt="NCHW"
            )[-1]  # fmt: skip
        return getattr(self.body, self._call)(images)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) -> map (B, channels, h, w). Raises ShapeError on images that do not fit."""
        features, size = self._features_of(images)
        return self._map_of(features, size)

    @property
    def class_token(self) -> bool:
        """Whether the features begin with a class token."""
        if self._layout != "NLC" or not self._prefix:
            return False
        declared = getattr(self.body, "has_class_token", None)
        # A timm model without a class token has None in its place; a module of one's own may give it any name.
        return getattr(self.body, "cls_token", True) is not None if declared is None else bool(declared)

    def with_token(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The map (B, channels, h, w) and the class token (B, channels), or the mean over the map where there is none.

        Raises ShapeError on images that do not fit.
        """
        features, size = self._features_of(images)
        x = self._map_of(features, size)
        return x, features[:, 0] if self.class_token else x.mean((2, 3))

    def _features_of(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """What the body gives of images that fit, and their (H, W)."""
        check_images(images)
        size = (images.shape[-2], images.shape[-1])
        if images.ndim != 4 or images.shape[1] != self.in_chans:
            raise ShapeError(
                f"backbone {self.name!r} takes images (B, {self.in_chans}, H, W), got {tuple(images.shape)}"
            )
        if self.image_size is not None and size != self.image_size:
            raise ShapeError(only_size(self.name, self.image_size, size))
        patch = patch_size(self.body)
        if patch is not None and (size[0] % patch[0] or size[1] % patch[1]):
            low, high = size[0] // patch[0] * patch[0], -(-size[0] // patch[0]) * patch[0]
            raise ShapeError(
                f"backbone {self.name!r} takes images whose sides are multiples of its patches, {patch[0]}x{patch[1]}, "
                f"got {size[0]}x{size[1]}; set data.image_size={low or high}"
                + (f" or {high}" if low and high != low else "")
            )
        return self._features(images), size

    def _map_of(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        return features if self._layout == "raw" else to_map(features, self._layout, self._prefix, size)

    def map_size(self, size: int | tuple[int, int]) -> tuple[int, int]:
        """The side lengths (h, w) of the map of images of `size`, by a dry run that computes nothing.

        Raises ShapeError where the images are too small, or not of the one size that the backbone takes.
        """
        size = (size, size) if isinstance(size, int) else size
        try:
            h, w = self._try(size).shape[-2:] if self._own else dry_run(self, self.in_chans, size).output.shape[-2:]
        except ShapeError:
            raise
        except (RuntimeError, AssertionError, ValueError, GCPError) as error:
            raise ShapeError(f"images of {size[0]}x{size[1]} do not fit backbone {self.name!r}: {error}") from error
        return h, w

    def __repr__(self) -> str:
        """One line; the network is `features.body`."""
        frozen = ", frozen" if is_frozen(self) else ""
        stage = "" if self.stage is None else f" up to {self.stage}"
        return f"{type(self).__name__}({self.name}{stage}, channels={self.channels}{frozen})"


def check_images(images: object) -> None:
    """Raise ShapeError for what is no tensor of real floating-point numbers."""
    if not isinstance(images, Tensor):
        raise ShapeError(
            f"images are of type {type(images).__name__}; allowed: a float tensor (B, C, H, W). gcp.load(...).predict "
            "takes files and Pillow images"
        )
    if not images.is_floating_point():
        raise ShapeError(
            f"images are {images.dtype}; allowed: floating-point numbers, normalised as in training (of grey levels: "
            "images.float() / 255, less the mean, over the deviation)"
        )


def grid(tokens: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """The h x w = tokens that a common patch side can cut from an image of `size`, or None where none can."""
    height, width = size
    for h in range(1, tokens + 1):
        w, rest = divmod(tokens, h)
        if rest or (height == width and h != w):
            continue
        # A patch side s gives floor or ceil of height / s and of width / s: both ranges of s must overlap.
        low = max(height / (h + 1), width / (w + 1))
        high = min(height / (h - 1) if h > 1 else height + 1, width / (w - 1) if w > 1 else width + 1)
        if low < high and low <= min(height, width):
            return h, w
    return None


def prefix_tokens(tokens: int, size: tuple[int, int], declared: int | None) -> int | None:
    """Count the tokens before the grid: as declared by the model, else the fewest of 0, 1, 2 that fit."""
    candidates = (0, 1, 2) if declared is None else (declared,)
    fitting = (count for count in candidates if tokens > count and grid(tokens - count, size))
    return next(fitting, None)


def to_map(features: Tensor, layout: str, prefix: int, size: tuple[int, int]) -> Tensor:
    """Features in `layout` (`NCHW`, `NHWC` or `NLC`) of images of `size` as a map (B, C, h, w)."""
    if layout == "NCHW":
        return features
    if layout == "NHWC":
        return features.permute(0, 3, 1, 2)
    cells = features[:, prefix:]
    shape = grid(int(cells.shape[1]), (int(size[0]), int(size[1])))  # TorchScript traces them as tensors
    assert shape is not None, f"{cells.shape[1]} tokens do not tile an image of {size}"
    return cells.transpose(1, 2).unflatten(2, shape)
