"""Every public function and layer has an example in its docstring, and every example prints what it says."""

import doctest
import inspect
from importlib import import_module

import pytest
import torch

PACKAGES = ("gcp", "gcp.layers", "gcp.models", "gcp.data")
# Kinds of things that others return, what a user has no need to call, and a second name of another layer.
WITHOUT = {
    *("__version__", "fasth", "LinearSVD", "Backbone", "Classifier", "load_backbone", "load_classifier"),
    *(
        "BatchLoader",
        "DATASETS",
        "ImageSet",
        "Loader",
        "Preprocessing",
        "Source",
        "Splits",
        "StreamLoader",
        "StreamSet",
    ),
    *("check_dataset", "import_dataset"),
}
PUBLIC = {f"{package}.{name}": package for package in PACKAGES for name in import_module(package).__all__}


@pytest.mark.parametrize("path", [path for path in PUBLIC if path.rpartition(".")[2] not in WITHOUT])
def test_example(path, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    if path == "gcp.load":
        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "mine").symlink_to(request.getfixturevalue("uninterrupted"))
    torch.manual_seed(0)
    shown = getattr(import_module(PUBLIC[path]), path.rpartition(".")[2])
    text = inspect.getdoc(shown)
    test = doctest.DocTestParser().get_doctest(text, {}, path, None, 0)
    assert test.examples and "Examples:\n" in text, f"{path}: its docstring has no example"
    report: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
    doctest.DocTestRunner(optionflags=flags).run(test, out=report.append)
    assert not report, "".join(report)
