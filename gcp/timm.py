"""Our models under timm's roof: after `import gcp.timm`, `timm.create_model("gcp_resnet50", head="svd_pade", dim=256)`.

Registered are `gcp_NAME` for the backbones of BACKBONES; `register(NAME)` adds any other model of timm. The keyword
arguments are those of `gcp.create_model`, the head's options among them, beside timm's `num_classes`, `in_chans`,
`drop_rate`, `global_pool` and `features_only`. `pretrained=True` takes timm's weights of the backbone.

Shared as timm's models are: `timm.models.save_for_hf(model, FOLDER)`, `timm.models.push_to_hf_hub(model, NAME)`, then
`timm.create_model("local-dir:FOLDER", pretrained=True)` or `"hf-hub:NAME"`, after `import gcp.timm`.

In timm's terms: `forward_features` gives the map (B, num_features, h, w), `forward_head(..., pre_logits=True)` the
pooled vector (B, head_hidden_size), and `global_pool=""` leaves head and classifier out. The class token of a
transformer is left out unless `token="concat"`: `forward_features` then gives tokens (B, 1 + N, num_features), the
class token first, and the pooled vector ends with it.
"""

import copy
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import load_pretrained, register_model
from torch import Tensor, nn

from gcp import heads
from gcp.errors import OptionError
from gcp.models import Classifier, create_model
from gcp.models.backbones import REGISTERED, source
from gcp.models.classifier import linear_layers

BACKBONES = (
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *("wide_resnet50_2", "resnext50_32x4d", "resnext101_32x8d", "resnet50d", "seresnet50", "ecaresnet50d"),
    *("densenet121", "vgg16", "vgg16_bn", "efficientnet_b0", "mobilenetv3_large_100", "regnety_016"),
    *("convnext_tiny", "convnext_base", "swin_tiny_patch4_window7_224", "vit_small_patch16_224", "test_resnet"),
)
DEFAULT_HEAD = "svd_pade"
DIM = 256  # the published width of the reduction, here the default: without one, a head on 2048 channels has 2 million


class TimmClassifier(Classifier):
    """A Classifier with the methods that timm's models have; its state dict is that of the Classifier."""

    pretrained_model_args: dict[str, Any]  # of a saved model, for timm

    def __init__(
        self,
        model: Classifier,
        hidden: tuple[int, ...],
        drop_rate: float,
        global_pool: str,
        record: Mapping[str, Any] | None = None,
    ):
        super().__init__(
            model.features, model.head, model.classifier, model.num_classes, 0.0, model.arguments, model.token
        )
        self.dropout = model.dropout
        self.hidden, self.drop_rate = hidden, drop_rate
        self.num_features = model.features.channels
        self.pretrained_cfg = self.default_cfg = _pretrained_cfg(self) | dict(record or {})
        self.global_pool = _check_pool(global_pool)

    @property
    def head_hidden_size(self) -> int:
        """Width of `forward_head(..., pre_logits=True)`."""
        if not self.global_pool:
            return self.num_features
        return self.head.out_features + (self.num_features if self.token == "concat" else 0)

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """Timm's description of the stages of the backbone."""
        return self.features.body.feature_info

    def forward_features(self, images: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) -> map (B, num_features, h, w), or tokens (B, 1 + h w, num_features)."""
        x, token = self.extract(images)
        return x if token is None else torch.cat([token[:, None], x.flatten(2).mT], 1)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Features -> logits (B, num_classes), or the pooled vector with `pre_logits` or without a classifier."""
        if not self.global_pool:
            return features
        x, token = (features, None) if self.token == "none" else (features[:, 1:], features[:, 0])
        pooled = self.head(x)
        if pre_logits or not self.num_classes:
            return pooled if token is None else torch.cat([pooled, token.to(pooled.dtype)], 1)
        return self.logits(pooled, token)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))

    def forward_intermediates(self, images: Tensor, **options: Any) -> Any:
        """Maps between the stages, by the backbone; options as in timm."""
        return self.features.body.forward_intermediates(images, **options)

    def get_classifier(self) -> nn.Module:
        """The linear layers behind the head."""
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new classifier for `num_classes` (0: none), on the device and in the type of the model.

        `global_pool`: "" takes the pooling out as well, "gcp" puts it back, None leaves it.
        Raises OptionError for another pooling, and for classes without one.
        """
        pool = self.global_pool if global_pool is None else _check_pool(global_pool)
        _check_classes(num_classes, pool)
        self.global_pool, self.num_classes = pool, num_classes
        like = next(self.features.parameters())
        width = self.head.out_features + (self.num_features if self.token == "concat" else 0)
        fresh = _classifier(width, self.hidden, num_classes, self.drop_rate)
        self.classifier = fresh.to(like.device, like.dtype)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the activations of the backbone again in the backward pass."""
        self.features.body.set_grad_checkpointing(enable)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Timm's grouping of parameters by depth, for layer-wise learning rates: the backbone's, then the rest."""
        groups = self.features.body.group_matcher(coarse=coarse)

        def below(pattern: Any) -> Any:
            if isinstance(pattern, str):
                return rf"^features\.body\.{pattern.removeprefix('^')}"
            return [(below(expression), order) for expression, order in pattern]

        return {name: below(pattern) for name, pattern in groups.items()}

    def no_weight_decay(self) -> set[str]:
        """Names of the backbone's parameters that timm keeps from decaying."""
        names: set[str] = getattr(self.features.body, "no_weight_decay", set)()
        return {f"features.body.{name}" for name in names}


def _pretrained_cfg(model: Classifier) -> dict[str, Any]:
    """Timm's record of the backbone's weights (image size, mean, deviation, crop), with our names of the layers."""
    cfg = copy.deepcopy(dict(model.features.body.pretrained_cfg))
    first = cfg.get("first_conv")
    firsts = [first] if isinstance(first, str) else list(first or ())
    named = tuple(f"features.body.{name}" for name in firsts)
    own = {"architecture": REGISTERED + model.features.body.pretrained_cfg["architecture"], "classifier": "classifier"}
    return cfg | own | {"first_conv": named[0] if len(named) == 1 else named}


def _check_pool(global_pool: str) -> str:
    if global_pool not in ("", "gcp"):
        raise OptionError(
            f"global_pool is {global_pool!r}; allowed: 'gcp' (the head) or '' (none). head=NAME chooses the pooling."
        )
    return global_pool


def _check_classes(num_classes: int, global_pool: str) -> None:
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 0:
        raise OptionError(f"num_classes is {num_classes!r}; allowed: a whole number >= 0, 0 for no classifier.")
    if num_classes and not global_pool:
        raise OptionError(f"a classifier of {num_classes} classes needs the pooled vector; with global_pool='' give 0.")


def _classifier(width: int, hidden: tuple[int, ...], num_classes: int, dropout: float) -> nn.Module:
    return linear_layers(width, hidden, num_classes, dropout) if num_classes else nn.Identity()


def build(
    backbone: str,
    pretrained: bool = False,
    num_classes: int = 1000,
    dim: int = DIM,
    drop_rate: float | None = None,
    global_pool: str = "gcp",
    features_only: bool = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Mapping[str, Any] | None = None,
    cache_dir: str | Path | None = None,
    pretrained_model_args: Mapping[str, Any] | None = None,
    token: str = "none",
    **options: Any,
) -> nn.Module:
    """The model behind `timm.create_model("gcp_BACKBONE", ...)`.

    Args:
        backbone: a model of timm.
        pretrained: timm's weights of the backbone.
        num_classes: 0 for none.
        dim: channels after the reduction, 0 for no reduction: timm drops arguments that are None.
        drop_rate: dropout in the classifier.
        global_pool: "gcp", or "" for the map itself.
        features_only: the maps of the stages as a list instead of logits, as timm gives them for the backbone.
        pretrained_cfg: the tag of the backbone's weights, such as a1_in1k; or timm's record of a model of ours that
            was saved, whose weights `pretrained` then takes.
        pretrained_cfg_overlay: entries of that record to replace.
        cache_dir: where files of a hub are kept.
        pretrained_model_args: arguments that the saved model was made with.
        token: "concat" for the class token (of other backbones the mean over the map) beside what the head gives.
        **options: `head`, its options, and the other arguments of `gcp.create_model`.
    """
    if token not in ("none", "concat"):
        raise OptionError(
            f"token is {token!r}; allowed: 'none', 'concat'. Two classifiers (sum) are not in timm's interface: concat "
            "computes the same functions with one."
        )
    record = _record(backbone, pretrained_cfg, pretrained_cfg_overlay)
    if isinstance(pretrained_cfg, str) and pretrained_cfg:
        backbone = f"{backbone}.{pretrained_cfg}"
    saved = bool(record.get("source") or record.get("file") or record.get("state_dict"))
    if features_only:
        return _stages(backbone, pretrained, options)
    _check_classes(num_classes, _check_pool(global_pool))
    model = create_model(
        backbone,
        num_classes=num_classes or 1,
        dim=dim or None,
        pretrained=pretrained and not saved,
        dropout=drop_rate,
        token=token,
        **options,
    )
    hidden = tuple(model.arguments["hidden"])
    made = TimmClassifier(model, hidden, model.arguments["dropout"], global_pool, record)
    if not num_classes:
        made.reset_classifier(0)
    made.pretrained_model_args = dict(pretrained_model_args or {})
    if pretrained and saved:
        channels = model.arguments["in_chans"]
        load_pretrained(made, made.pretrained_cfg, num_classes, channels, cache_dir=cache_dir)
    return made


def _record(backbone: str, given: Any, overlay: Mapping[str, Any] | None) -> dict[str, Any]:
    """What timm recorded about the weights of a saved model, with the overlay; {} for weights of the backbone.

    Raises OptionError for a record of weights that are not of a model of ours.
    """
    if given is None or isinstance(given, str):
        if overlay:
            raise OptionError(f"{REGISTERED}{backbone} takes a pretrained_cfg_overlay only with a pretrained_cfg.")
        return {}
    record: dict[str, Any] = dict(given if isinstance(given, Mapping) else asdict(given)) | dict(overlay or {})
    # a file of JSON has lists in the place of timm's tuples
    record = {
        key: tuple(value) if isinstance(value, list) and key != "label_names" else value
        for key, value in record.items()
        if value is not None
    }
    architecture = record.setdefault("architecture", REGISTERED + backbone)
    if architecture != REGISTERED + backbone:
        raise OptionError(
            f"the pretrained_cfg is of {architecture}, not of {REGISTERED}{backbone}; without one, pretrained=True "
            f"takes timm's weights of {backbone}."
        )
    return record


def _stages(backbone: str, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    """Timm's own feature extractor: there is no head in it, so what concerns the head only is checked."""
    kept = {key: options.pop(key) for key in ("in_chans", "out_indices", "output_stride") if key in options}
    if options.pop("last_stride", None) == 1:
        raise OptionError("features_only does not go with last_stride=1; take forward_intermediates of the model")
    heads.check_options(options.pop("head", DEFAULT_HEAD), DIM, **options)
    return timm.create_model(backbone, pretrained=pretrained, features_only=True, **kept)


def register(backbone: str) -> str:
    """Register `gcp_BACKBONE` with timm, for any model of timm, and return the name.

    Raises UnknownNameError or OptionError where timm has no such model.
    """
    origin, name = source(backbone)
    if origin != "timm" or name != backbone or "." in name:
        raise OptionError(f"{backbone!r} is no architecture of timm, which gcp.timm builds on; see timm.list_models()")

    def entry(pretrained: bool = False, **options: Any) -> nn.Module:
        return build(backbone, pretrained, **options)

    entry.__name__ = entry.__qualname__ = REGISTERED + backbone
    entry.__doc__ = f"{backbone} of timm with a covariance-pooling head."
    register_model(entry)
    return entry.__name__


for _backbone in BACKBONES:
    register(_backbone)
