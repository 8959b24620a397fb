"""A data set of one's own in a run: a function registered under a name, or named by where it is imported from.

    def shapes(root):                                     # in shapes.py
        return {"train": ..., "test": ..., "classes": ["circle", "square"]}

    data.name=shapes:shapes                               # MODULE:FUNCTION, in a configuration or on the command line

    @DATASETS.register("shapes", summary="...")           # or by a name, in a module that is imported before
    def shapes(root): ...

The function returns the arguments of `gcp.data.from_torch` that only it knows (train, val, test, classes,
test_fraction), and the configuration gives the rest; or it returns Splits. It is called with those of the settings
root, image_size, in_chans, transform, val_fraction, split_seed and per_class that it has parameters for.

A module is imported where a user names it: in a file of theirs or on their command line. A name in a checkpoint,
which may come from anybody, imports nothing (`gcp.config.from_dict`).
"""

import inspect
import re
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gcp.data.normalize import Normalize
from gcp.data.splits import Splits
from gcp.data.stream import StreamSet
from gcp.data.torch_dataset import DEFAULT, from_torch
from gcp.data.transforms import Preprocessing, Renormalized
from gcp.errors import DataError, GCPError, OptionError, suggest
from gcp.registry import import_own

if TYPE_CHECKING:
    from gcp.data.source import Request, Source

NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
SETTINGS = ("root", "image_size", "in_chans", "transform", "val_fraction", "split_seed", "per_class")
_FAILED: dict[str, str] = {}  # names that could not be imported, and why
RETURNED = ("train", "val", "test", "classes", "test_fraction")


def is_own(name: object) -> bool:
    """Whether a name has the form MODULE:FUNCTION."""
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def import_dataset(name: str) -> None:
    """Import the function at MODULE:FUNCTION, from the folder at hand too, and register it under that name.

    This runs code of the module: only for a name that the user gave. Raises OptionError where there is no such
    function, and where the module cannot be imported.
    """
    from gcp.data.source import DATASETS

    if name in DATASETS:
        return
    module_name, _, attribute = name.partition(":")
    module = import_own(
        module_name, "allowed: MODULE:FUNCTION, for example shapes:load for the function load in shapes.py."
    )
    function = getattr(module, attribute, None)
    if not callable(function):
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise OptionError(f"{module.__file__} has no function {attribute!r}.{suggest(attribute, functions)}")
    about = (inspect.getdoc(function) or f"a data set of {module_name}").splitlines()[0]
    DATASETS.add(name, function, summary=about)


def try_import(name: str) -> None:
    """`import_dataset`, whose error `why_unknown` keeps for the one who checks the name."""
    _FAILED.pop(name, None)
    if is_own(name):
        try:
            import_dataset(name)
        except OptionError as error:
            _FAILED[name] = str(error)


def why_unknown(name: str) -> str:
    """Why a name MODULE:FUNCTION is not registered."""
    if name in _FAILED:
        return f"{name}: {_FAILED[name]}"
    return (
        f"{name} is code of your own, which is imported where you name it yourself and never because a checkpoint "
        f"does: add data.name={name} to the command, or call gcp.data.import_dataset({name!r})"
    )


def source_of(function: Callable[..., Any]) -> "Source":
    """The Source of a function that returns the arguments of `from_torch`, or Splits."""
    from gcp.data.source import Source

    def create(request: "Request") -> Splits:
        found = _called(function, {key: getattr(request, key) for key in SETTINGS})
        if isinstance(found, Splits):
            _check_size(request, found)
            return _with_statistics(found, request.told)
        settings = {key: getattr(request, key) for key in (*SETTINGS, "told") if key != "root"}
        return from_torch(**{"test_fraction": request.test_fraction} | _arguments(request.name, found), **settings)

    return Source(create, needs_root=None, default=DEFAULT)


def _called(function: Callable[..., Any], settings: dict[str, Any]) -> Any:
    parameters = inspect.signature(function).parameters.values()
    given = {each.name: settings[each.name] for each in parameters if each.name in settings}
    name = getattr(function, "__name__", repr(function))
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    strange = [each.name for each in parameters if each.default is each.empty and each.kind in plain]
    strange = [each for each in strange if each not in given]
    if strange:
        raise OptionError(f"{name} has the parameter {strange[0]!r}; allowed without a default: {', '.join(SETTINGS)}.")
    if "root" in given and settings["root"] is None and _required(function, "root"):
        raise OptionError(f"data.root: {name} asks for it; type data.root=FOLDER.")
    try:
        return function(**given)
    except GCPError:
        raise
    except Exception as error:  # the code of somebody else
        place = inspect.getsourcefile(function) or "a module"
        raise DataError(f"{name} of {place} fails: {type(error).__name__}: {error}") from error


def _required(function: Callable[..., Any], key: str) -> bool:
    parameter = inspect.signature(function).parameters[key]
    return parameter.default is parameter.empty


def _arguments(name: str, found: Any) -> dict[str, Any]:
    allowed = f"allowed: Splits, or a dict with 'train' and any of {', '.join(RETURNED[1:])}"
    if not isinstance(found, Mapping) or "train" not in found:
        raise DataError(f"the data set {name} returns a {type(found).__name__}; {allowed}.")
    if strange := [key for key in found if key not in RETURNED]:
        raise DataError(f"the data set {name} returns {strange[0]!r}; {allowed}.{suggest(strange[0], RETURNED)}")
    return dict(found)


def _with_statistics(splits: Splits, told: Preprocessing) -> Splits:
    """Splits whose images have the mean and the deviation that are told."""
    if told.mean is None and told.std is None:
        return splits

    def changed(images: Any) -> Any:
        images, own = copy(images), images.transform
        if isinstance(own.normalize, Normalize):
            images.transform = Renormalized(own, told.normalize(own.normalize))
        return images

    return replace(splits, **{name: changed(getattr(splits, name)) for name in ("train", "val", "test")})


def _check_size(request: "Request", splits: Splits) -> None:
    """Raise DataError where Splits were made with another size than the configuration says."""
    if isinstance(splits.train, StreamSet):
        return
    wanted, got = (request.in_chans, request.image_size, request.image_size), tuple(splits.train[0][0].shape)
    if got != wanted:
        raise DataError(
            f"the data set {request.name} returns images of shape {got}; the configuration asks for {wanted}. Let it "
            "have the parameters image_size and in_chans, and use them; or set data.image_size and data.in_chans."
        )
