"""The tensor sketch is the count sketch of x x^T with the sum of the hashes."""

import torch

from gcp.heads import create_head
from gcp.heads.bilinear import count_sketch, hashes, tensor_sketch


def test_against_the_definition():
    C, M, size = 5, 4, 7
    X = torch.randn(2, M, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    buckets, signs = hashes(C, size, seed=3)
    expected = torch.zeros(2, size, dtype=torch.float64)
    for i in range(C):
        for j in range(C):
            bucket = int(buckets[0, i] + buckets[1, j]) % size
            expected[:, bucket] += signs[0, i] * signs[1, j] * (X[..., i] * X[..., j]).sum(1)
    torch.testing.assert_close(tensor_sketch(X, buckets, signs, size), expected, rtol=1e-12, atol=1e-13)


def test_count_sketch():
    X = torch.tensor([[[1.0, 2.0, 4.0]]])
    got = count_sketch(X, torch.tensor([1, 0, 1]), torch.tensor([1.0, -1.0, 1.0]), 3)
    assert got.tolist() == [[[-2.0, 5.0, 0.0]]]


def test_inner_products_are_unbiased():
    """Mean of <sketch(x), sketch(y)> over seeds is <x, y>^2, to a few standard errors."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 1, 1, 6, generator=generator, dtype=torch.float64)
    products = []
    for seed in range(400):
        buckets, signs = hashes(6, 64, seed)
        products.append((tensor_sketch(x, buckets, signs, 64) * tensor_sketch(y, buckets, signs, 64)).sum())
    products = torch.stack(products)
    error = products.mean() - (x * y).sum() ** 2
    assert abs(float(error)) < 4 * float(products.std()) / 20


def test_hashes_are_their_own():
    state = torch.random.get_rng_state()
    first, second = hashes(8, 32, 0), hashes(8, 32, 0)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    buckets, signs = first
    assert buckets.shape == signs.shape == (2, 8) and int(buckets.max()) < 32
    assert set(signs.flatten().tolist()) == {-1.0, 1.0}
    assert not torch.equal(hashes(8, 32, 1)[0], buckets)


def test_a_bucket_without_a_pair_is_zero():
    """In float32 as in float64, at a scale where the noise of the FFT would be a tenth of the output."""
    head = create_head("compact_bilinear", 64)
    x = 0.01 * torch.rand(2, 64, 5, 5, generator=torch.Generator().manual_seed(0))
    out, exact = head(x), head(x.double())
    assert not out[:, ~head.reachable].any() and 0 < int((~head.reachable).sum()) < head.out_features
    assert float((out - exact).norm() / exact.norm()) < 1e-5


def test_loaded_hashes_bring_their_buckets():
    first, second = (create_head("compact_bilinear", 8, sketch=64, seed=seed) for seed in (0, 1))
    x = torch.rand(2, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    assert list(first.state_dict()) == ["buckets", "signs"] and not torch.equal(first.reachable, second.reachable)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x), second(x))
