"""The image classifier, classifier(head(features(images))): its three parts, building one, exchanging its head.

The class token of a transformer may be classified beside what the head makes of the map (`TOKENS`), as in So-ViT (Xie,
Zeng, Wang, Zhou and Li 2021, arXiv:2104.10935) and DropCov (Wang et al., NeurIPS 2022):

    sum     classifier(pooled) + token_classifier(token)        So-ViT
    concat  classifier([pooled, token])

Both train the same linear functions, but for weight decay and hidden layers; `sum` leaves the classifier of the map as
it is without a token.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gcp import heads
from gcp.errors import OptionError, ShapeError
from gcp.heads import Head, create_head
from gcp.layers.spectral_norm import check_method, spectral_norm
from gcp.models.backbone import Backbone
from gcp.models.backbones import PREFIX, check_backbone, create_backbone
from gcp.models.parts import MARK, is_frozen
from gcp.models.weights import load_classifier
from gcp.options import check_choice

# The classifiers of the published suites: (widths of the hidden layers, dropout after each).
PUBLISHED = {"alexnet": ((4096, 4096), 0.0), "vgg": ((4096, 4096), 0.5)}
TOKENS = ("auto", "none", "concat", "sum")


class Classifier(nn.Module):
    """Images (B, in_chans, H, W) -> logits (B, num_classes).

    `features` maps images to (B, C, h, w), `head` pools the map to (B, d), `classifier` is linear layers; `token` says
    how the token (B, C) of a transformer joins them, `none`, `concat` or `sum`, the last with a `token_classifier`.
    `arguments` are those of `create_model` that build the same model again, weights aside.
    """

    features: Backbone
    head: Head
    num_classes: int
    temperature = 1.0  # that logits are divided by, where a checkpoint has one (gcp evaluate --calibrate)
    takes_maps = False  # whether the input is what `features` gives of images, computed before

    def __init__(
        self,
        features: Backbone,
        head: Head,
        classifier: nn.Module,
        num_classes: int,
        dropout: float = 0.0,
        arguments: dict[str, Any] | None = None,
        token: str = "none",
        token_classifier: nn.Linear | None = None,
    ):
        super().__init__()
        self.features = features
        self.head = head
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.classifier = classifier
        self.token, self.token_classifier = token, token_classifier
        self.num_classes = num_classes
        self.arguments = dict(arguments or {})

    def forward(self, images: Tensor) -> Tensor:
        """Logits. Raises ShapeError for images that do not fit, among them one on which batch norm cannot train."""
        if self.training and isinstance(images, Tensor) and images.ndim and len(images) == 1:
            return self._one_image(images)
        x, token = self.extract(images)
        return self.logits(self.head(x), token)

    def extract(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the backbone gives: the map (B, C, h, w), and the token (B, C) where the classifier reads one."""
        if self.takes_maps:  # the token lies before the positions, see `maps`
            return (images, None) if self.token == "none" else (images[:, :, 1:], images[:, :, 0, 0])
        return (self.features(images), None) if self.token == "none" else self.features.with_token(images)

    def maps(self, images: Tensor) -> Tensor:
        """What is kept of images for `takes_maps`: the map (B, C, h, w), or with a token (B, C, 1 + h w, 1)."""
        if self.token == "none":
            return self.features(images)
        x, token = self.features.with_token(images)
        return torch.cat([token[:, :, None], x.flatten(2)], 2)[..., None]

    def _one_image(self, images: Tensor) -> Tensor:
        """As `forward`; batch norm refuses to train on one image whose map has a single position."""
        try:
            x, token = self.extract(images)
            return self.logits(self.head(x), token)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ShapeError(
                f"a batch of one image of {images.shape[-2]}x{images.shape[-1]} leaves batch norm one value of each "
                "channel, of which there is no variance. Set train.batch_size to 2 or more for each process, or a "
                "larger data.image_size"
            ) from error

    def __repr__(self) -> str:
        """One line; the parts are `features`, `head` and `classifier`."""
        count = sum(p.numel() for p in self.parameters() if not isinstance(p, nn.UninitializedParameter))
        return (
            f"{type(self).__name__}({self.features!r} -> {self.head!r} -> {self.num_classes} classes, "
            f"{count:,} parameters)"
        )

    def logits(self, pooled: Tensor, token: Tensor | None = None) -> Tensor:
        """What the head gives (B, d), and the token (B, C) where one is read -> logits (B, num_classes)."""
        logits = self._logits(pooled, token)
        return logits if self.temperature == 1.0 else logits / self.temperature

    def _logits(self, pooled: Tensor, token: Tensor | None) -> Tensor:
        if self.token == "none":
            return self.classifier(self.dropout(self._for_weights(pooled)))
        assert token is not None, "the classifier reads a token beside what the head gives"
        if self.token_classifier is None:
            return self.classifier(self.dropout(self._for_weights(torch.cat([pooled, token.to(pooled.dtype)], 1))))
        logits = self.classifier(self.dropout(self._for_weights(pooled)))
        return logits + self.token_classifier(self.dropout(self._for_weights(token)))

    def _for_weights(self, x: Tensor) -> Tensor:
        """In the type of the weights: heads answer half precision in float32, which layers in half do not take."""
        first = next(self.classifier.parameters(), None)
        weights = torch.float32 if first is None else first.dtype  # a quantised layer has none, and takes float32
        return x if x.dtype == weights or torch.is_autocast_enabled(x.device.type) else x.to(weights)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Also takes a state dict of others, such as `torch.load("pade_resnet50.pth.tar")`, which its keys tell."""
        if not any(key.startswith(f"{prefix}features.body.") for key in state_dict):
            from gcp.models.weights import take_foreign

            take_foreign(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)  # type: ignore[misc]

    def train(self, mode: bool = True) -> "Classifier":
        """As for any module, but frozen parts stay in eval mode (see `gcp.models.parts`)."""
        super().train(mode)
        for module in self.modules():
            if is_frozen(module):
                module.eval()
        return self


@contextmanager
def taking_maps(model: Any, maps: bool) -> Iterator[None]:
    """Inside, the input of a Classifier is feature maps, or images."""
    before = model.takes_maps
    model.takes_maps = maps
    try:
        yield
    finally:
        model.takes_maps = before


def _published(backbone: str) -> tuple[tuple[int, ...], float]:
    plain = backbone.removeprefix(PREFIX)
    return next((value for family, value in PUBLISHED.items() if plain.startswith(family)), ((), 0.0))


def linear_layers(in_features: int, hidden: Sequence[int], num_classes: int, dropout: float) -> nn.Module:
    """A single Linear, or a Sequential of Linear, ReLU (and Dropout) per hidden width and a last Linear."""
    sizes = pairwise([in_features, *hidden, num_classes])
    # From the last to the first, whose size alone depends on the head: the others begin alike after every head.
    *inner, last = reversed([nn.Linear(*size) for size in reversed(list(sizes))])
    layers: list[nn.Module] = []
    for linear in inner:
        layers += [linear, nn.ReLU(inplace=True)]
        layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, last) if layers else last


def _check(num_classes: int, hidden: Sequence[int], dropout: float) -> None:
    def count(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value > 0

    if not count(num_classes):
        raise OptionError(f"num_classes must be a positive whole number, got {num_classes!r}")
    if not isinstance(hidden, list | tuple) or not all(count(width) for width in hidden):
        raise OptionError(f"hidden must be a list of layer widths such as [1024, 1024], or [] for none, got {hidden!r}")
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise OptionError(f"dropout must be a number from 0 to below 1, got {dropout!r}")


def create_model(
    backbone: str | nn.Module,
    head: str = "svd_pade",
    num_classes: int = 1000,
    dim: int | None = None,
    pretrained: bool | str | Path = False,
    last_stride: int | None = None,
    in_chans: int = 3,
    hidden: Sequence[int] | None = None,
    dropout: float | None = None,
    factors: Sequence[str] = (),
    widths: Mapping[str, int] | None = None,
    classifier_norm: str | None = None,
    norm: Mapping[str, Any] | None = None,
    image_size: int | tuple[int, int] | None = None,
    drop_path: float | None = None,
    token: str = "auto",
    stage: int | str | None = None,
    **head_options: Any,
) -> Classifier:
    """Put a head on a backbone.

    Args:
        backbone: a name, or a module that maps images to a map (B, C, h, w) or to tokens (B, N, C), as in
            `create_backbone`.
        head: name of the head, and `head_options` its options, as in `gcp.heads.create_head`.
        num_classes: logits.
        dim: channels after the reduction, None for no reduction.
        pretrained: as in `create_backbone`; a file of a whole Classifier fills all three parts.
        last_stride: as in `create_backbone`.
        in_chans: channels of the images.
        hidden: widths of hidden layers of the classifier; None is the published classifier of the backbone,
            (4096, 4096) for AlexNet and, with dropout 0.5, for VGG, and a single linear layer otherwise.
        dropout: after each hidden layer, or before a single linear layer.
        factors: layers that are products of thinner ones, as `gcp.compress.factors_of` writes them; published weights
            are approximated, a file has to have these factors.
        widths: of a model that has evolved, as `gcp.evolve.widths` gives them; of published weights the first channels
            are left.
        classifier_norm: divide the weights of the classifier by their spectral norms, by a method of
            `gcp.layers.spectral_norm`.
        norm: whitening in the place of batch norms, such as `{"name": "whitening", "layers": "first"}`, with the keys
            of `gcp.models.norms`; weights of batch norms fit.
        image_size: of the images that a transformer of one size is built for, one side or (H, W), as in
            `create_backbone`; of a backbone given as a module the image of the dry run. None is what it was made for.
        drop_path: rate of stochastic depth of a timm backbone, in training; None is as timm builds it.
        token: how the class token joins what the head pools: `none`, `concat` or `sum` (see above); `auto` is `sum` for
            a backbone that has a class token, else `none`. Of a backbone without one the mean over the map is taken.
        stage: as in `create_backbone`: cut the backbone behind a stage, by index or name.
        **head_options: of the head.

    Raises:
        GCPError: names the fault; names and options are checked before anything is built.

    Examples:
        >>> import gcp, torch
        >>> model = gcp.create_model("resnet8_cifar", head="svd_pade", num_classes=10, dim=16)
        >>> model(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """
    published_hidden, published_dropout = _published(backbone) if isinstance(backbone, str) else ((), 0.0)
    hidden = published_hidden if hidden is None else tuple(hidden) if isinstance(hidden, list) else hidden
    if dropout is None:
        dropout = published_dropout if hidden == published_hidden else 0.0
    check_backbone(backbone)
    _check(num_classes, hidden, dropout)
    heads.check_options(head, dim, **head_options)
    check_choice("token", token, TOKENS)
    if classifier_norm is not None:
        check_method(classifier_norm)
    if norm is not None:
        from gcp.models.norms import apply_norm, check_norm

        check_norm(norm)
    file = pretrained if isinstance(pretrained, str | Path) else None
    weights = pretrained if file is None else False
    features = create_backbone(backbone, weights, last_stride, in_chans, image_size, drop_path, stage)
    pooling = heads.create_head(head, features.channels, dim, **head_options)
    if token == "auto":
        token = "sum" if features.class_token else "none"
    width = pooling.out_features + (features.channels if token == "concat" else 0)
    classifier = linear_layers(width, hidden, num_classes, dropout)
    token_classifier = nn.Linear(features.channels, num_classes) if token == "sum" else None
    arguments = {
        "backbone": backbone if isinstance(backbone, str) else features.name,
        "head": head,
        "num_classes": num_classes,
        "dim": dim,
        "last_stride": last_stride,
        "in_chans": in_chans,
        "hidden": list(hidden),
        "dropout": dropout,
        "factors": list(factors),
        "widths": dict(widths or {}),
        "classifier_norm": classifier_norm,
        "drop_path": drop_path,
        "norm": None if norm is None else dict(norm),
        "token": token,
        "stage": stage,
        "image_size": image_size,
        **head_options,
    }
    model = Classifier(
        features, pooling, classifier, num_classes, 0.0 if hidden else dropout, arguments, token, token_classifier
    )
    if widths:
        from gcp.evolve.widths import resize

        resize(model, widths)
    if factors:
        from gcp.compress.factors import factorise

        factorise(model, factors, keep=pretrained is True)
    if norm is not None:
        apply_norm(model, norm)
    if classifier_norm is not None:
        parts = [part for part in (model.classifier, model.token_classifier) if part is not None]
        for layer in [module for part in parts for module in part.modules() if isinstance(module, nn.Linear)]:
            spectral_norm(layer, classifier_norm)
    if file is not None:
        load_classifier(model, file)
    return model


# Arguments beside the parts that stay when the head is exchanged.
KEPT = (
    *("classifier_norm", "drop_path", "norm", "token", "stage", "image_size"),
    *("reduction", "spectral_norm", "mean", "output_scale", "reduction_init"),
)


def exchange_head(model: Classifier, name: str, **options: Any) -> None:
    """Pool with the head `name` from now on. Reduction, flag and scales of the old one stay, and so does the mean
    beside its output; no random number is drawn.

    Heads that share reduction and outputs differ in their arithmetic only: an optimizer, an average of the weights and
    a state dict that were made for the one are as good for the other.

    `options` are those of `gcp.heads.create_head` but `dim`, `reduction` and what stays.
    Raises OptionError where the heads differ in their outputs or have tensors beside the reduction.
    """
    old = model.head
    new = create_head(name, old.channels, **options)
    if reason := heads.exchange_fault(heads.outputs_of(old), heads.outputs_of(new)):
        raise OptionError(f"head {name!r} cannot take the place of this model's head: {reason}.")
    new.train(old.training)  # before the reduction joins it, which may be frozen
    new.in_channels, new.reduction, new.nonfinite = old.in_channels, old.reduction, old.nonfinite
    for tensor in heads.outputs_of(new).tensors:
        setattr(new, tensor, getattr(old, tensor))
    new.configure(old.mean, old.output_scale, old.reduction_init)
    new.scales, new.measured_on = old.scales, old.measured_on
    if is_frozen(old):
        setattr(new, MARK, True)
    model.head = new
    parts = ("backbone", "num_classes", "dim", "last_stride", "in_chans", "hidden", "dropout", "factors", "widths")
    kept = {k: v for k, v in model.arguments.items() if k in (*parts, *KEPT)}
    model.arguments = {**kept, "head": name, **options}
