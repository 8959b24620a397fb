"""Small trees of real images in the layouts of published data sets."""

import signal
import sys
from importlib import import_module
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))  # for `trees`, a folder of plain modules
pytest_plugins = ["run_fixtures", "toy_run", "config_fixtures"]
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as scripts start what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests press Ctrl-C


@pytest.fixture
def tree(tmp_path):
    """Build a data set on disk: `tree("cub", layout="nested")`, see `build` in tests/trees/cub.py.

    Without `layout` the first of its LAYOUTS. Returns the path that a user gives as "root", and "classes",
    "train", "val" (None where there is none) and "test", the numbers that were written.
    """

    def build(name: str, layout: str | None = None, folder: str = "tree", **options: int) -> dict:
        module = import_module(f"trees.{name}")
        place = tmp_path / folder
        place.mkdir()
        return module.build(layout or module.LAYOUTS[0], place, **options)

    return build
