"""What must not happen: a decomposition where products do, a second one in the backward, a large one on a small map."""

from unittest import mock

import pytest
import torch

DECOMPOSITIONS = ("eigh", "eig", "eigvalsh", "eigvals", "svd", "svdvals")


def forbid(*names):
    """Patches of torch.linalg that fail when called."""
    return [mock.patch(f"torch.linalg.{name}", side_effect=AssertionError(f"{name} was called")) for name in names]


@pytest.fixture
def no_decomposition():
    patches = forbid(*DECOMPOSITIONS)
    for patch in patches:
        patch.start()
    yield
    for patch in patches:
        patch.stop()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("side", ["channel", "sample"])
def test_iterative_heads_never_decompose(root_head, features, output_and_gradient, no_decomposition, side, dtype):
    if root_head.decomposes:
        return
    _, gradient = output_and_gradient(root_head(5, side=side), features(2, 5, 3, 3, dtype=dtype))
    assert gradient.any()


@pytest.mark.parametrize("shape", [(2, 4, 3, 3), (2, 9, 2, 2)])
@pytest.mark.parametrize("form", ["folded", "published"])
def test_backward_never_decomposes(root_head, features, shape, form):
    if form == "published" and not root_head.has_published_form:
        return
    head = root_head(shape[1], form=form) if form == "published" else root_head(shape[1])
    x = features(*shape).requires_grad_()
    out = head(x)
    patches = forbid(*DECOMPOSITIONS)
    for patch in patches:
        patch.start()
    try:
        out.sum().backward()
    finally:
        for patch in patches:
            patch.stop()
    assert x.grad.isfinite().all()


def test_small_maps_decompose_the_small_side(root_head, features, output_and_gradient):
    """2x2 samples of 32 channels, and 7x7 of 64: once, M x M, never d x d."""
    if not root_head.decomposes:
        return
    for d, H in [(32, 2), (64, 7)]:
        shapes = []
        original = torch.linalg.eigh

        def record(A, *args, seen=shapes, call=original, **kwargs):
            seen.append(tuple(A.shape))
            return call(A, *args, **kwargs)

        with mock.patch("torch.linalg.eigh", side_effect=record):
            output_and_gradient(root_head(d), features(1, d, H, H))
        assert shapes == [(1, H * H, H * H)]


def test_random_state_is_left_alone(any_head, features):
    state = torch.random.get_rng_state()
    head = any_head(4)
    head(features(2, 4, 3, 3))
    assert torch.equal(torch.random.get_rng_state(), state)
