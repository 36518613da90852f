"""Divergences between one-dimensional mixtures against SciPy's quadrature and quantiles written in NumPy."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

import ensembletheory as et

P = et.GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [[0.25], [0.09]])
Q = et.GaussianMixture([0.6, 0.4], [[-1.5], [0.5]], [[0.5], [0.3]])
WIDE = et.Gaussian([0.2], 1.7)


def plain(law):
    """(pdf, score, cdf) in NumPy."""
    if isinstance(law, et.Gaussian):
        parts = [(1.0, float(law.mean[0]), float(law.cov[0, 0]) ** 0.5)]
    else:
        parts = [(float(w), float(m[0]), float(S[0, 0]) ** 0.5) for w, m, S in zip(law.weights, law.means, law.covs, strict=True)]

    def pdf(x):
        return sum(w * scipy.stats.norm.pdf(x, m, s) for w, m, s in parts)

    def score(x):
        return sum(-w * scipy.stats.norm.pdf(x, m, s) * (x - m) / s**2 for w, m, s in parts) / pdf(x)

    return pdf, score, lambda x: sum(w * scipy.stats.norm.cdf(x, m, s) for w, m, s in parts)


@pytest.mark.parametrize(("p", "q"), [(P, Q), (Q, P), (P, WIDE), (WIDE, P)])
def test_kl_and_fisher_are_scipy_integrals(p, q):
    (pdf_p, score_p, _), (pdf_q, score_q, _) = plain(p), plain(q)
    kl = scipy.integrate.quad(lambda x: pdf_p(x) * np.log(pdf_p(x) / pdf_q(x)), -12, 12, limit=500, epsabs=1e-12)[0]
    fisher = scipy.integrate.quad(lambda x: pdf_p(x) * (score_p(x) - score_q(x)) ** 2, -12, 12, limit=500, epsabs=1e-12)[0]
    assert float(et.kl(p, q)) == pytest.approx(kl, rel=1e-9)
    assert float(et.fisher_divergence(p, q)) == pytest.approx(fisher, rel=1e-9)


@pytest.mark.parametrize(("p", "q"), [(P, Q), (P, WIDE)])
def test_w2_is_the_distance_of_quantile_functions(p, q):
    grid = np.linspace(-14, 14, 400_001)
    levels = (np.arange(400_000) + 0.5) / 400_000
    quantiles = [np.interp(levels, plain(law)[2](grid), grid) for law in (p, q)]
    forward, backward = et.w2_squared(p, q), et.w2_squared(q, p)
    assert float(forward) == pytest.approx(np.mean((quantiles[0] - quantiles[1]) ** 2), rel=1e-4)  # midpoint rule with unbounded quantiles: error ~ log(n) / n
    assert abs(float(forward) - float(backward)) <= float(forward.error) + float(backward.error)
    assert float(et.w2(p, q)) == pytest.approx(float(forward) ** 0.5)
    assert et.w2(p, q).kind == "quadrature"


def test_a_tighter_tolerance_is_kept():
    estimate = et.kl(P, Q, rtol=1e-13)
    assert float(estimate.error) <= 2e-13 * float(estimate) + 1e-14
