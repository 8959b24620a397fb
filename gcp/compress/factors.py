"""The ranks of a factored model as plain text, and the model from it: `NAME=R`, for Tucker-2 `NAME=RxS`.

They stand in a configuration as `model.factors`, so that a checkpoint rebuilds its model from names and numbers.
"""

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from gcp.compress.factored import Factored, Ranks, create_factored, inherit
from gcp.compress.survey import put_in_place, survey
from gcp.errors import OptionError, UnknownNameError

FORM = re.compile(r"([^=\s]+)=([1-9]\d*)(?:x([1-9]\d*))?")


def parse_factors(factors: Iterable[str]) -> dict[str, Ranks]:
    """`["classifier=200", "features.conv=16x24"]` -> ranks by name. Raises OptionError for another form."""
    found: dict[str, Ranks] = {}
    if isinstance(factors, str) or not isinstance(factors, Iterable):
        raise OptionError(f"factors must be a list such as [classifier=200], got {factors!r}")
    for text in factors:
        match = FORM.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise OptionError(
                f"factor {text!r}; allowed: NAME=RANK such as classifier=200, or NAME=RxS such as conv=16x24."
            )
        if match[1] in found:
            raise OptionError(f"factors name {match[1]!r} twice")
        found[match[1]] = tuple(int(rank) for rank in match.groups()[1:] if rank)
    return found


def factors_of(model: nn.Module) -> list[str]:
    """The text of every factored layer in a model, a shared one once."""
    return [
        f"{name}={'x'.join(map(str, module.ranks))}"
        for name, module in model.named_modules()
        if isinstance(module, Factored)
    ]


def factorise(model: nn.Module, factors: Iterable[str], keep: bool = False) -> None:
    """Replace layers of a model in place by their factored forms.

    With `keep` the new weights approximate the old ones as well as their ranks allow (`method="svd"`); else they are
    fresh, for a state dict to fill. Raises OptionError (no such form or rank) and UnknownNameError (no such layer).
    """
    from gcp.compress.basis import basis

    ranks = parse_factors(factors)
    layers = {layer.name: layer for layer in survey(model) if layer.reason is None}
    for name in ranks:
        if name not in layers:
            raise UnknownNameError("layer to factor", name, layers)
    for name, its in ranks.items():
        layer = layers[name]
        try:
            new = create_factored(layer.module, its)
        except OptionError as error:
            raise OptionError(f"factor {name}: {error}.") from error
        if keep:
            basis(layer.module, "svd").fill(new)
        put_in_place(model, layer.names, new)


def dense_shapes(state: Mapping[str, Tensor], factors: Iterable[str]) -> dict[str, Tensor]:
    """A state dict as it was before its layers were factored, by names and shapes: their weights have no values."""
    dense = dict(state)
    for name, ranks in parse_factors(factors).items():
        prefix = f"{name}."
        inner = ["down", "core", "up"] if len(ranks) == 2 else ["down", "up"]
        parts = [dense.pop(f"{prefix}{factor}.weight", None) for factor in inner]
        bias = dense.pop(f"{prefix}up.bias", None)
        if parts[0] is None or parts[-1] is None:
            continue  # another model than the factors say, which loading it will find
        kernel = parts[1 if len(ranks) == 2 else 0]
        shape = (parts[-1].shape[0], parts[0].shape[1], *(() if kernel is None else kernel.shape[2:]))
        dense[f"{prefix}weight"] = torch.empty(shape, device="meta")
        if bias is not None:
            dense[f"{prefix}bias"] = bias
    return dense


@torch.no_grad()
def merge(model: nn.Module) -> nn.Module:
    """A copy of a factored model with every product multiplied out, as wide as it was."""
    model = deepcopy(model)
    by_id: dict[int, tuple[Factored, list[str]]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, Factored):
            by_id.setdefault(id(module), (module, []))[1].append(name)
    for module, names in by_id.values():
        dense = inherit(module.dense(), module)
        dense.weight.copy_(module.weight)
        if names == [""]:
            return dense
        put_in_place(model, names, dense)
    return model
