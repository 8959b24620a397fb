"""Annotations in MATLAB files, read by SciPy."""

from pathlib import Path

import numpy as np

from gcp.errors import DataError, suggest


def read_mat(path: Path, *names: str) -> list[np.ndarray]:
    """The variables `names` of a .mat file, each flat: numbers, strings, or records of a struct array.

    Raises DataError for a file that is missing or damaged, or that lacks one of them.
    """
    from scipy.io import loadmat

    if not path.is_file():
        raise DataError(f"the annotations {path} are missing.")
    try:
        found = loadmat(path, squeeze_me=True)
    except Exception as error:  # damaged bytes raise nearly anything
        raise DataError(
            f"cannot read the annotations {path}: {type(error).__name__}: {error}. The file is damaged: replace it."
        ) from error
    for name in names:
        if name not in found:
            held = sorted(key for key in found if not key.startswith("__"))
            raise DataError(
                f"{path} has no variable {name!r}, but {', '.join(map(repr, held)) or 'none'}.{suggest(name, held)}"
            )
    return [np.atleast_1d(found[name]).reshape(-1) for name in names]


def fields(path: Path, records: np.ndarray, *names: str) -> list[list]:
    """The values of the fields `names` of a struct array. Raises DataError naming `path` where it has no such field."""
    for name in names:
        if name not in (records.dtype.names or ()):
            held = ", ".join(map(repr, records.dtype.names or ())) or "none"
            raise DataError(f"the records of {path} have no field {name!r}, but {held}.")
    return [records[name].tolist() for name in names]


def texts(path: Path, values: list | np.ndarray) -> list[str]:
    """The strings of a file. Raises DataError where one of them is none."""
    wrong = next((value for value in values if not isinstance(value, str)), None)
    if wrong is not None:
        raise DataError(f"the annotations {path} should hold strings here; got {wrong!r}.")
    return [str(value) for value in values]


def whole_numbers(path: Path, numbers: list | np.ndarray) -> np.ndarray:
    """The numbers of a file as int64, however they are stored. Raises DataError where they are not whole."""
    scalars = all(np.ndim(number) == 0 for number in numbers)
    found = np.asarray(numbers) if scalars else np.empty(0, dtype=object)
    if found.dtype.kind not in "iuf" or (found != found.round()).any():
        raise DataError(
            f"the annotations {path} should hold whole numbers here; the first is {np.asarray(numbers[0]).tolist()!r}."
        )
    return found.astype(np.int64)


def labels_from_one(path: Path, numbers: list | np.ndarray, classes: int) -> np.ndarray:
    """Labels 1, 2, ... `classes` of a file as 0, 1, ..., int64. Raises DataError for one outside of these."""
    labels = whole_numbers(path, numbers)
    if len(labels) and (labels.min() < 1 or labels.max() > classes):
        raise DataError(
            f"the labels in {path} go from {labels.min()} to {labels.max()}; they should be within 1 to {classes}."
        )
    return labels - 1
