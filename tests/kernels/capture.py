"""What a CUDA graph needs, seen without a card: fake CUDA tensors tell no value, and no shape that depends on one."""

from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from gcp.heads import HEADS, create_head, list_heads
from gcp.ops.numerics import compute_dtype
from gcp.roots.root import FeatureRoot

ITERATIVE = [("newton_schulz", {"products": kind}) for kind in ("full", "tf32", "bf16")]
ITERATIVE += [("polar_express", {"products": kind, "lower": 0.05}) for kind in ("full", "tf32", "bf16")]
ROOTS = [str(entry) for entry in list_heads() if "side" in entry.obj.takes]
WITHOUT_ROOT = [str(entry) for entry in list_heads() if "side" not in entry.obj.takes]
KERNELS = {"gcp::spectral_core", "gcp::eigh", "gcp::triangle_pack", "gcp::triangle_spread"}


def fake_cuda():
    """Whether this torch makes fake CUDA tensors without a driver; 2.8 asks for one."""
    try:
        with FakeTensorMode():
            return torch.zeros(1).to("cuda").device.type == "cuda"
    except RuntimeError:
        return False


pytestmark = pytest.mark.skipif(not fake_cuda(), reason="this torch has no fake CUDA tensors without a driver")


class Watch(TorchDispatchMode):
    """Names of the operations, and a refusal of those that bring a value to the host."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().split(".")[0]
        self.names.add(name)
        assert name not in ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::nonzero"), name
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor) and name.startswith("aten::_to_copy"):
                assert tensor.device.type == "cuda", "a copy to the host"
        return out


def forward_and_backward(name, side, **options):
    """Names of the operations of both on CUDA; autograd's own engine would look for the device."""
    watch = Watch()
    with FakeTensorMode(), watch:
        head = create_head(name, 6, side=side, **options).to("cuda")
        x = torch.empty(2, 6, 3, 3, device="cuda")
        head(x)
        root = head.root
        method, working = root.method.settle(compute_dtype(x, root.precision, root.default_precision), side == "sample")
        ctx = SimpleNamespace(save_for_backward=lambda *saved: vars(ctx).update(saved_tensors=saved))
        out = FeatureRoot.forward(ctx, x, working, method, side == "sample", True)
        gradient = FeatureRoot.backward(ctx, torch.empty_like(out))[0]
        assert gradient.shape == x.shape and gradient.device.type == "cuda"
    return watch.names


@pytest.mark.parametrize("side", ["channel", "sample"])
@pytest.mark.parametrize(("name", "options"), ITERATIVE, ids=str)
def test_iterations_can_be_captured(name, options, side):
    names = forward_and_backward(name, side, **options)
    assert "gcp::eigh" not in names and {"gcp::triangle_pack", "gcp::triangle_spread"} <= names
    assert ("gcp::tf32_product" in names) == (options["products"] == "tf32")


@pytest.mark.parametrize("side", ["channel", "sample"])
@pytest.mark.parametrize("name", ROOTS)
def test_no_head_waits_for_the_gpu(name, side):
    """Eigen-heads cannot be captured, but nothing of them stops the host outside of the solver itself."""
    names = forward_and_backward(name, side)
    by_rule = "form" in HEADS[name].obj.takes
    by_function = name in ("power", "log_euclidean")
    assert ("gcp::eigh" in names) == (by_rule or by_function or name == "seb")
    assert ("gcp::spectral_core" in names) == (by_rule or by_function)


@pytest.mark.parametrize("name", WITHOUT_ROOT)
def test_the_forward_of_a_head_without_a_root_can_be_captured(name):
    """Such as covariance; the backward is autograd's own, and `tests/conformance` compiles both into one graph."""
    with FakeTensorMode(), Watch() as watch, torch.device("cuda"):
        out = create_head(name, 6).eval()(torch.empty(2, 6, 3, 3, device="cuda"))
    assert out.device.type == "cuda" and "gcp::eigh" not in watch.names


def test_the_watch_sees():
    with pytest.raises((DataDependentOutputException, AssertionError)), FakeTensorMode(), Watch():
        bool(torch.empty((), device="cuda") > 0)
