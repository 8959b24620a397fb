"""Names that others give to weights of well-known networks, turned into those of timm and torchvision.

One prefix that all weights have in common comes off: of Lightning (`model.`, `net.`), of MoCo (`encoder_q.`, beside
whose weights lie those of `encoder_k.`). transformers has names of its own for ResNet, ViT, ConvNeXt and DINOv2, and
the query, key and value of attention apart, which timm has in one matrix; EfficientNet by lukemelas counts its blocks
through the stages. Whoever reads a file gets its weights under the plain names.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

State = dict[str, Tensor]
Rules = tuple[tuple[str, str], ...]  # (pattern of the whole key, what replaces it), the first that fits counts

PREFIXES = ("model.", "net.", "network.", "encoder_q.", "base_encoder.")  # `encoder.` is a network's own elsewhere
QUERY = "encoder_q."
SHARE = 0.9  # of the keys that have a prefix; a loss or a metric may have tensors too


def common_prefix(keys: Iterable[str]) -> str:
    """What stands before every name, such as `model.` or `model.net.`; an empty string where nothing does."""
    rest, found = list(keys), ""
    while True:
        step = next((prefix for prefix in PREFIXES if _is_common(prefix, rest)), None)
        if step is None:
            return found
        rest, found = [key.removeprefix(step) for key in rest if key.startswith(step)], found + step


def _is_common(prefix: str, keys: Collection[str]) -> bool:
    count = sum(key.startswith(prefix) for key in keys)
    if prefix == QUERY:
        return count > 0
    return count > 0 and count >= SHARE * len(keys)


@dataclass(frozen=True)
class Family:
    """Networks whose files have names of their own.

    Attributes:
        mark: a pattern of a key that only they have.
        rules: from their names to those of timm or torchvision; what no rule fits is left out.
    """

    mark: str
    rules: Rules


_BLOCK = r"(?:\w+\.)?(?:encoder\.layer|layers)\.(\d+)\."  # the second in memory, since transformers 5
_LAYER = r"(?:\w+\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\."
_TRANSFORMER: Rules = (
    (r"(?:\w+\.)?embeddings\.cls_token", "cls_token"),
    (r"(?:\w+\.)?embeddings\.position_embeddings", "pos_embed"),
    (r"(?:\w+\.)?embeddings\.patch_embeddings\.projection\.(\w+)", r"patch_embed.proj.\1"),
    (_BLOCK + r"attention\.attention\.(query|key|value)\.(\w+)", r"blocks.\1.attn.\2.\3"),
    (_BLOCK + r"attention\.output\.dense\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (_BLOCK + r"attention\.([qkv])_proj\.(\w+)", r"blocks.\1.attn.\2.\3"),
    (_BLOCK + r"attention\.o_proj\.(\w+)", r"blocks.\1.attn.proj.\2"),
    (_BLOCK + r"mlp\.(fc[12])\.(\w+)", r"blocks.\1.mlp.\2.\3"),
    (r"(?:\w+\.)?layernorm\.(\w+)", r"norm.\1"),
)
FAMILIES = {
    "transformers, DINOv2": Family(
        r"(dinov2\.)?(encoder\.layer|layers)\.0\.layer_scale1\.lambda1",
        (
            *_TRANSFORMER,
            (_BLOCK + r"norm([12])\.(\w+)", r"blocks.\1.norm\2.\3"),
            (_BLOCK + r"layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
            (_BLOCK + r"mlp\.weights_in\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
            (_BLOCK + r"mlp\.weights_out\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
        ),
    ),
    "transformers, ViT": Family(
        r"(\w+\.)?(encoder\.layer|layers)\.0\.layernorm_before\.weight",
        (
            *_TRANSFORMER,
            (_BLOCK + r"layernorm_before\.(\w+)", r"blocks.\1.norm1.\2"),
            (_BLOCK + r"layernorm_after\.(\w+)", r"blocks.\1.norm2.\2"),
            (_BLOCK + r"intermediate\.dense\.(\w+)", r"blocks.\1.mlp.fc1.\2"),
            (_BLOCK + r"output\.dense\.(\w+)", r"blocks.\1.mlp.fc2.\2"),
            (r"classifier\.(\w+)", r"head.\1"),
        ),
    ),
    "transformers, ConvNeXt": Family(
        r"(convnext\.)?encoder\.stages\.0\.layers\.0\.dwconv\.weight",
        (
            (r"(?:\w+\.)?embeddings\.patch_embeddings\.(\w+)", r"stem.0.\1"),
            (r"(?:\w+\.)?embeddings\.layernorm\.(\w+)", r"stem.1.\1"),
            (r"(?:\w+\.)?encoder\.stages\.(\d+)\.downsampling_layer\.(\d+)\.(\w+)", r"stages.\1.downsample.\2.\3"),
            (_LAYER + r"dwconv\.(\w+)", r"stages.\1.blocks.\2.conv_dw.\3"),
            (_LAYER + r"layernorm\.(\w+)", r"stages.\1.blocks.\2.norm.\3"),
            (_LAYER + r"pwconv([12])\.(\w+)", r"stages.\1.blocks.\2.mlp.fc\3.\4"),
            (_LAYER + r"layer_scale_parameter", r"stages.\1.blocks.\2.gamma"),
            (r"(?:\w+\.)?layernorm\.(\w+)", r"head.norm.\1"),
            (r"classifier\.(\w+)", r"head.fc.\1"),
        ),
    ),
    "transformers, ResNet": Family(
        r"(resnet\.)?embedder\.embedder\.convolution\.weight",
        (
            (r"(?:\w+\.)?embedder\.embedder\.convolution\.(\w+)", r"conv1.\1"),
            (r"(?:\w+\.)?embedder\.embedder\.normalization\.(\w+)", r"bn1.\1"),
            (_LAYER + r"shortcut\.convolution\.(\w+)", r"layer+\1.\2.downsample.0.\3"),
            (_LAYER + r"shortcut\.normalization\.(\w+)", r"layer+\1.\2.downsample.1.\3"),
            (_LAYER + r"layer\.(\d+)\.convolution\.(\w+)", r"layer+\1.\2.conv+\3.\4"),
            (_LAYER + r"layer\.(\d+)\.normalization\.(\w+)", r"layer+\1.\2.bn+\3.\4"),
            (r"classifier\.1\.(\w+)", r"fc.\1"),
        ),
    ),
}  # fmt: skip
LUKEMELAS = "EfficientNet by lukemelas"


def plain_names(state: State) -> tuple[State, dict[str, str], str]:
    """Weights under the names of timm or torchvision, the name in the file of each that was changed, and what the names
    of the file were; an empty text where they are plain already.
    """
    prefix = "" if _family(state) else common_prefix(state)
    inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    name = _family(inner)
    if name:
        renamed = {key: _renamed(key, FAMILIES[name].rules) for key in inner}
    elif "_conv_stem.weight" in inner:
        name, renamed = LUKEMELAS, _efficientnet(inner)
    else:
        renamed = {key: key for key in inner}
    found = {new: inner[key] for key, new in renamed.items() if new}
    names = {new: prefix + key for key, new in renamed.items() if new and new != prefix + key}
    if name in FAMILIES:
        _join_attention(found, names)
    words = [f"prefix {prefix!r} off"] if prefix else []
    return found, names, "; ".join([*words, *([f"names of {name}"] if name else [])])


def _family(keys: Iterable[str]) -> str:
    """Whose names these are; an empty string for nobody's."""
    keys = list(keys)
    return next((name for name, each in FAMILIES.items() if any(re.fullmatch(each.mark, key) for key in keys)), "")


def _renamed(key: str, rules: Rules) -> str:
    """The plain name of a key, empty where there is none. `layer+0` is layer1: they count from 0."""
    for pattern, replacement in rules:
        if found := re.fullmatch(pattern, key):
            return re.sub(r"\+(\d+)", lambda number: str(int(number[1]) + 1), found.expand(replacement))
    return ""


ATTENTION = (("query", "key", "value"), ("q", "k", "v"))


def _join_attention(state: State, names: dict[str, str]) -> None:
    """Query, key and value of each block as one tensor, in place."""
    for three in ATTENTION:
        for key in [key for key in state if f".attn.{three[0]}." in key]:
            parts = [key.replace(f".{three[0]}.", f".{part}.") for part in three]
            if all(part in state for part in parts):
                joined = key.replace(f".{three[0]}.", ".qkv.")
                state[joined] = torch.cat([state.pop(part) for part in parts])
                names[joined] = [names.pop(part, part) for part in parts][0]  # noqa: RUF015  all of them go


OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2", **SQUEEZE}
INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
    **SQUEEZE,
}


def _efficientnet(state: State) -> dict[str, str]:
    """Key -> timm's name. A stage begins where the width changes: no two stages in a row have the same."""
    places: dict[int, tuple[int, int]] = {}
    stage, number, width = -1, 0, -1
    for block in range(len(state)):
        project = state.get(f"_blocks.{block}._project_conv.weight")
        if project is None:
            break
        stage, number = (stage, number + 1) if project.shape[0] == width else (stage + 1, 0)
        places[block], width = (stage, number), project.shape[0]

    def renamed(key: str) -> str:
        found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        if not found or int(found[1]) not in places:
            layer, _, rest = key.partition(".")
            return f"{OUTSIDE[layer]}.{rest}" if layer in OUTSIDE else ""
        names = INVERTED if f"_blocks.{found[1]}._expand_conv.weight" in state else SEPARABLE
        (stage, number), inner = places[int(found[1])], names.get(found[2])
        return f"blocks.{stage}.{number}.{inner}.{found[3]}" if inner else ""

    return {key: renamed(key) for key in state}
