"""Whole heads on a card: against the CPU, in every mode of torch, and in a CUDA graph where that is possible."""

import pytest
import torch

from gcp.heads import create_head, list_heads

HEADS = [str(entry) for entry in list_heads()]
ROOTS = [str(entry) for entry in list_heads() if "side" in entry.obj.takes]
APPROXIMATE = {"svd_taylor", "svd_pi", "svd_newton", "svd_topn", "mpa_lyapunov", "mtp_lyapunov"}
SHAPES = {"channel": (3, 12, 7, 7), "sample": (3, 40, 5, 5)}


def features(*shape, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def evaluate(head, x):
    """Output and gradient by `backward`, which runs in autograd's thread of the device."""
    x = x.clone().requires_grad_()
    out = head(x)
    g = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(out)
    out.backward(g)
    return out.detach(), x.grad


def relative(got, wanted):
    return float((got.double().cpu() - wanted.double().cpu()).norm() / wanted.double().cpu().norm())


@pytest.mark.parametrize("side", SHAPES)
@pytest.mark.parametrize("name", HEADS)
def test_against_the_cpu(device, name, side):
    options = {"side": side} if name in ROOTS else {}
    x = features(*SHAPES[side])
    head = create_head(name, x.shape[1], **options).eval()  # without the random numbers of dropout
    wanted = evaluate(head, x)
    for got, expected in zip(evaluate(head.to(device), x.to(device)), wanted, strict=True):
        assert got.device.type == "cuda" and relative(got, expected) < 1e-9


@pytest.mark.parametrize("side", ["channel", "sample"])
@pytest.mark.parametrize("name", [name for name in ROOTS if name not in APPROXIMATE])
def test_gradcheck(device, name, side):
    x = features(2, 4, 3, 3) if side == "channel" else features(2, 8, 2, 2)
    head = create_head(name, x.shape[1], side=side).to(device)
    assert torch.autograd.gradcheck(head, x.to(device).requires_grad_(), nondet_tol=0.0)


@pytest.mark.parametrize("name", ROOTS)
def test_two_runs_have_the_same_bits(device, name):
    x = features(4, 64, 14, 14, dtype=torch.float32).to(device)
    head = create_head(name, 64).to(device)
    first, second = evaluate(head, x), evaluate(head, x)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


@pytest.mark.parametrize("name", ["svd_pade", "svd_newton", "polar_express", "covariance"])
def test_autocast_and_half_precision(device, name):
    x = features(2, 16, 7, 7).bfloat16().to(device)
    head = create_head(name, 16).to(device)
    plain = evaluate(head, x)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        inside = evaluate(head, x)
    assert inside[0].dtype == torch.float32 and all(torch.equal(a, b) for a, b in zip(inside, plain, strict=True))


@pytest.mark.parametrize("name", ["svd_pade", "svd_newton", "polar_express", "newton_schulz"])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile(device, name, backend):
    x = features(2, 16, 4, 4).to(device)
    head = create_head(name, 16).to(device)
    wanted = evaluate(head, x)
    torch._dynamo.reset()
    compiled = torch.compile(head, fullgraph=True, backend=backend, dynamic=False)
    for got, expected in zip(evaluate(compiled, x), wanted, strict=True):
        assert relative(got, expected) < 1e-9


@pytest.mark.parametrize("products", ["full", "tf32", "bf16"])
@pytest.mark.parametrize("name", ["newton_schulz", "polar_express"])
def test_iterations_in_a_cuda_graph(device, name, products):
    """Captured once, replayed on other features: forward and backward."""
    options = {"lower": 0.05} if name == "polar_express" else {}
    head = create_head(name, 32, products=products, **options).to(device)
    x = torch.zeros(4, 32, 8, 8, device=device, requires_grad=True)
    first, second = (torch.rand(4, 32, 8, 8, device=device) for _ in range(2))
    with torch.no_grad():
        x.copy_(first)
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(3):
            torch.autograd.grad(head(x).sum(), x)
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = head(x)
        gradient = torch.autograd.grad(out.sum(), x)[0]
    with torch.no_grad():
        x.copy_(second)
    graph.replay()
    leaf = second.clone().requires_grad_()
    plain = head(leaf)
    torch.testing.assert_close(out, plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, torch.autograd.grad(plain.sum(), leaf)[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("products", "bits"), [("tf32", 10), ("bf16", 7)])
def test_rounded_products_are_as_on_the_cpu(device, products, bits):
    """The emulation that the documentation's errors come from."""
    from gcp.ops.products import product

    A, B = (torch.randn(4, 128, 128, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    exact = A.double() @ B.double()
    here, there = product(A, B, products), product(A.to(device), B.to(device), products)
    assert torch.get_float32_matmul_precision() == "highest"
    assert 0.3 < relative(there, exact) / relative(here, exact) < 3
    assert relative(there, exact) > 2.0 ** -(bits + 3)
