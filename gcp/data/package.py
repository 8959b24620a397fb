"""Packages that only some data sets need."""

from importlib.util import find_spec

from gcp.errors import DataError


def require(package: str, name: str) -> None:
    """Raise DataError, with the command that installs it, unless `package` is there for the data set `name`."""
    if find_spec(package) is None:
        install = package.replace("_", "-")
        raise DataError(
            f"data set {name!r} is read by the package {install}, which is not installed: pip install {install}"
        )
