"""`norm` of a model: whitening in the place of batch norms of its backbone, checked before it is built.

    {"name": "whitening", "layers": "first", "group_size": 64, "solver": "eig", "rule": "taylor", "degree": 9}

`layers` is `first`, `all` (of the backbone: whitened channels leave a covariance behind the reduction little to tell),
or a list of names as `model.freeze` has them, such as `features.layer1.0.bn1`; `head.reduction.1` may be named too. The
other keys are those of `gcp.layers.Whitening2d`.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from gcp.errors import GCPError, OptionError, suggest
from gcp.gradients import rule_options
from gcp.layers.whitening import PLACES, SOLVERS, Whitening2d, replace_batch_norm
from gcp.options import check_choice
from gcp.solvers import solver_options

NAMES = ("whitening",)
KEYS = ("name", "layers", "groups", "group_size", "eps", "precision", "solver", "rule")
BODY, FEATURES = "features.body.", "features."


def norm_faults(norm: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with each key, nothing where all is well; names of layers are checked when the model is there."""
    method = {key: norm[key] for key in ("solver", "rule") if key in norm}
    faults: dict[str, str] = {}
    for key in method:
        others = {"solver": method["solver"]} if key == "rule" and method.get("solver") in SOLVERS else {}
        faults |= _fault(key, norm[key], others)
    own = {} if faults else _own_options(**method)
    for key in norm.keys() - method.keys():
        if key in KEYS or key in own:
            faults |= _fault(key, norm[key], method if key in own else {})
        elif not faults.keys() & method.keys():
            known = (*KEYS, *own)
            faults[key] = f"unknown key; allowed: {', '.join(known)}.{suggest(key, known)}"
    return {key: faults[key] for key in norm if key in faults}


def _own_options(solver: str = SOLVERS[0], rule: str = "exact") -> Mapping[str, Any]:
    return rule_options(rule) if solver == SOLVERS[0] else solver_options(solver)


def _fault(key: str, value: Any, method: Mapping[str, Any]) -> dict[str, str]:
    try:
        _check_key(key, value, method)
    except GCPError as error:
        return {key: str(error)}
    return {}


def _check_key(key: str, value: Any, method: Mapping[str, Any]) -> None:
    """Raise OptionError or UnknownNameError for a value that its key does not take."""
    if key == "name":
        check_choice(key, value, NAMES)
    elif key == "layers":
        names = [value] if value in PLACES else value
        if not isinstance(names, list | tuple) or not names or not all(isinstance(each, str) for each in names):
            raise OptionError(f"layers is {value!r}; allowed: first, all, or a list such as [features.layer1.0.bn1].")
    elif key == "eps" and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise OptionError(f"eps is {value!r}; allowed: a number above 0, 1e-5 by default.")
    else:
        channels = value if key == "groups" and isinstance(value, int) and value > 0 else 1
        Whitening2d(channels, **{**method, key: value})


def check_norm(norm: Mapping[str, Any]) -> None:
    """Raise OptionError with everything that is wrong with it."""
    if faults := norm_faults(norm):
        raise OptionError("; ".join(f"norm.{key}: {text}" for key, text in faults.items()))


def apply_norm(model: nn.Module, norm: Mapping[str, Any]) -> None:
    """Exchange the batch norms that `norm` means in a Classifier.

    Raises:
        OptionError: a model without batch norm, or groups that do not divide its channels.
        UnknownNameError: a name that is none of its batch norms.
    """
    options = {key: value for key, value in norm.items() if key not in ("name", "layers")}
    layers = norm.get("layers", PLACES[0])
    if layers in PLACES:
        replace_batch_norm(model.get_submodule("features"), layers, **options)
        return
    known = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    short = {name.replace(BODY, FEATURES, 1): name for name in known}  # the backbone's own names
    replace_batch_norm(model, [name if name in known else short.get(name, name) for name in layers], **options)
