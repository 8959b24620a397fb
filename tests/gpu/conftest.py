"""Tests on a card: marked `gpu`, skipped where there is none."""

import pytest
import torch

HERE = __file__.rpartition("/")[0]


def pytest_collection_modifyitems(items):
    for item in items:
        if str(item.path).startswith(HERE):
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


@pytest.fixture
def device():
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture
def no_waiting():
    """Any operation of torch that makes the host wait for the GPU is an error."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def with_kernels():
    """Skipped where CuPy cannot launch; says why."""
    from gcp.kernels.launch import available

    if not available():
        pytest.skip("CuPy cannot use this GPU: torch operations compute")
