"""The two sides of a root head give one result; the two forms of a rule agree where they should."""

import pytest
import torch

from gcp import create_head
from gcp.errors import OptionError


def spread_features(d, H, W, spectrum, seed=0):
    """(2, d, H, W) float64 with the given covariance eigenvalues and a positive mean."""
    generator = torch.Generator().manual_seed(seed)
    M, n = H * W, len(spectrum)
    ones = torch.ones(2, M, 1, dtype=torch.float64)
    U = torch.linalg.qr(torch.cat([ones, torch.randn(2, M, n, generator=generator, dtype=torch.float64)], 2)).Q[
        :, :, 1:
    ]
    V = torch.linalg.qr(torch.randn(2, d, d, generator=generator, dtype=torch.float64)).Q[:, :, :n]
    scale = (M * torch.tensor(spectrum, dtype=torch.float64)).sqrt()
    return ((V * scale) @ U.mT + 1).reshape(2, d, H, W)


def deficient(kind, features):
    x = features(2, 8, 4, 3)
    if kind == "dead channels":
        x[:, 2:4] = 0
    elif kind == "twin channels":
        x[:, 5] = x[:, 1]
    elif kind == "equal samples":
        x[..., 2] = x[..., 0]
        x[:, :, 3] = x[:, :, 1]
    elif kind == "fewer samples":
        x = features(2, 13, 2, 3)
    return x


@pytest.mark.parametrize("kind", ["full", "dead channels", "twin channels", "equal samples", "fewer samples"])
def test_sides_agree(root_head, features, output_and_gradient, relative, kind):
    x = deficient(kind, features)
    results = [output_and_gradient(root_head(x.shape[1], side=side), x) for side in ("channel", "sample", "auto")]
    # minimax steps meet null eigenvalues on the larger side, where their inverse root is 800
    limit = 1e-6 if "polar_express" in str(root_head) or "halley" in str(root_head) else 1e-9
    for out, gradient in results[1:]:
        assert relative(out, results[0][0]) < 1e-9
        assert relative(gradient, results[0][1]) < limit


@pytest.mark.parametrize("kind", ["full", "dead channels", "fewer samples"])
def test_sides_agree_in_float32(root_head, features, output_and_gradient, relative, kind):
    """The working precision is float32 and the spectrum decays little: what is left is rounding."""
    x = deficient(kind, features).float()
    out, gradient = output_and_gradient(root_head(x.shape[1], side="channel", precision="float32"), x)
    other, other_gradient = output_and_gradient(root_head(x.shape[1], side="sample", precision="float32"), x)
    assert relative(other, out) < 2e-5
    assert relative(other_gradient, gradient) < 2e-3


WELL_SEPARATED = [4.0, 2.5, 1.5, 0.9, 0.5, 0.25]


def test_forms_agree_on_separated_spectra(published_head, output_and_gradient, relative):
    x = spread_features(6, 4, 4, WELL_SEPARATED)
    options = {"keep": 1.0} if published_head.name == "svd_topn" else {}
    out, gradient = output_and_gradient(published_head(6, **options), x)
    published, published_gradient = output_and_gradient(published_head(6, form="published", **options), x)
    assert relative(published, out) < 1e-9
    if published_head.name == "svd_pi":
        assert float(published_gradient.norm()) == 0
    else:
        assert relative(published_gradient, gradient) < 1e-9


def test_published_top_n_explodes(output_and_gradient):
    x = spread_features(6, 4, 4, WELL_SEPARATED)
    _, folded = output_and_gradient(create_head("svd_topn", 6, keep=4), x)
    _, published = output_and_gradient(create_head("svd_topn", 6, keep=4, form="published"), x)
    assert float(published.norm()) > 1e5 * float(folded.norm())


@pytest.mark.parametrize("name", ["svd_original", "svd_pade"])
def test_published_form_is_worse_on_close_eigenvalues(name, output_and_gradient, relative):
    x = spread_features(6, 4, 4, [2.0, 2.0 * (1 - 2e-6), 1.0, 1.0 * (1 - 1e-6), 0.4, 0.1])
    _, exact = output_and_gradient(create_head("svd_exact", 6), x)
    x = x.float()
    _, folded = output_and_gradient(create_head(name, 6, precision="float32"), x)
    _, published = output_and_gradient(create_head(name, 6, precision="float32", form="published"), x)
    assert relative(folded, exact) < 1e-4
    assert relative(published, exact) > 10 * relative(folded, exact)


def test_published_works_on_the_channel_side(published_head, features):
    with pytest.raises(OptionError, match=r"form='published'.*side='auto'.*side='channel'"):
        published_head(4, form="published", side="sample")
    assert published_head(9, form="published")(features(1, 9, 2, 2)).shape == (1, 45)


def test_exact_has_one_form(eigen_head):
    if eigen_head.name == "svd_exact":
        with pytest.raises(OptionError, match=r"published.*form='folded'.*rule='original'"):
            eigen_head(4, form="published")
