"""Which library decomposes: decided by numbers alone, proved without any of them."""

import logging
import re

import pytest
import torch

from gcp.errors import OptionError
from gcp.kernels import backend, use_eigensolver
from gcp.kernels.backend import BACKENDS, decide, version

OLD, NEW = (2, 11), (2, 12)


def has(*names):
    return lambda name: name in names or name == "torch"


def nobody_asks(name):
    raise AssertionError(f"{name} was looked for")


@pytest.mark.parametrize(
    ("n", "batch", "libraries", "torch_version", "cuda_version", "expected"),
    [
        (256, 128, has("cusolver", "cupy"), OLD, (12, 8), "cusolver"),
        (256, 128, has("cupy"), OLD, (12, 8), "cupy"),
        (256, 128, has("cusolver"), OLD, (12, 8), "cusolver"),
        (256, 128, has(), OLD, (12, 8), "torch"),
        (33, 2, has("cusolver", "cupy"), OLD, (12, 8), "cusolver"),
        (32, 128, nobody_asks, OLD, (12, 8), "torch"),  # batched in one launch by every torch
        (256, 1, nobody_asks, OLD, (12, 8), "torch"),
        (256, 0, nobody_asks, OLD, (12, 8), "torch"),
        (256, 128, nobody_asks, NEW, (12, 8), "torch"),
        (256, 128, nobody_asks, (3, 0), (13, 0), "torch"),
        (256, 128, has("cusolver", "cupy"), NEW, (12, 6), "cusolver"),
        (256, 128, has("cusolver", "cupy"), NEW, (11, 8), "cusolver"),
        (256, 128, has("cupy"), NEW, (0, 0), "cupy"),
    ],
)
def test_choice(n, batch, libraries, torch_version, cuda_version, expected):
    assert decide("auto", n, batch, libraries, torch_version, cuda_version) == expected


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_asked_for_is_taken(name):
    for n, batch in ((4, 1), (256, 128)):
        assert decide(name, n, batch, has("cusolver", "cupy"), NEW, (13, 0)) == name


def test_a_backend_that_is_not_there():
    with pytest.raises(OptionError, match=r"'cupy' .* type auto or torch"):
        decide("cupy", 256, 128, has("cusolver"), OLD, (12, 8))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2.15.0+cu132", (2, 15)), ("2.12.0a0+git1", (2, 12)), ("2.12", (2, 12)), ("12.8", (12, 8)), (None, (0, 0))],
)
def test_versions(text, expected):
    assert version(text) == expected


def test_overrides(monkeypatch):
    assert backend.wanted(None) == "auto"
    monkeypatch.setenv("GCP_EIGENSOLVER", "cupy")
    assert backend.wanted(None) == "cupy" and backend.wanted("torch") == "torch"
    with use_eigensolver("cusolver"):
        assert backend.wanted(None) == "cusolver" and backend.wanted("torch") == "torch"
        with use_eigensolver("auto"):
            assert backend.wanted(None) == "auto"
        assert backend.wanted(None) == "cusolver"
    assert backend.wanted(None) == "cupy"


def test_a_wrong_name(monkeypatch):
    with (
        pytest.raises(OptionError, match=r"'cusolve'.*Did you mean 'cusolver'"),
        use_eigensolver("cusolve"),
    ):
        pass
    monkeypatch.setenv("GCP_EIGENSOLVER", "magma")
    with pytest.raises(OptionError, match=r"'magma'; allowed: auto, torch, cusolver, cupy"):
        backend.wanted(None)


def test_a_choice_is_logged_once(caplog, monkeypatch):
    backend._log_once.cache_clear()
    monkeypatch.setattr(backend, "has_backend", has("cusolver"))
    monkeypatch.setattr(torch, "__version__", "2.11.0+cu128")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    with caplog.at_level(logging.INFO, "gcp"):
        for n in (256, 128, 8):
            assert backend.choose_backend(None, n, 64) == ("cusolver" if n > 32 else "torch")
    (message,) = [record.getMessage() for record in caplog.records]
    chosen = r"cusolverDnXsyevBatched .*chosen.*torch 2\.11\.0\+cu128.*CUDA 12\.8\b"
    assert re.search(rf"{chosen}.*GCP_EIGENSOLVER=torch\|cusolver\|cupy\b", message)
    backend._log_once.cache_clear()
