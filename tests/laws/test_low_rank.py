"""Laws of low rank plus diagonal: the numbers of full matrices where those fit, the algebra of small ones where they do not, and never a d x d array."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.stats

import ensembletheory as et
from tests.helpers import assert_mean

RNG = np.random.default_rng(0)
D, K = 8, 2
LOADINGS, NOISE, MEAN = RNG.normal(size=(D, K)), RNG.uniform(0.5, 2.0, D), RNG.normal(size=D)
MATRIX = LOADINGS @ LOADINGS.T + np.diag(NOISE)
LAW = et.Gaussian(MEAN, et.LowRankPlusDiagonal(LOADINGS, NOISE))
X = RNG.normal(size=(5, D))
LARGE, FACTORS = 10_000, 10


def test_density_score_and_entropy_are_those_of_the_full_matrix():
    reference = scipy.stats.multivariate_normal(MEAN, MATRIX)
    np.testing.assert_allclose(LAW.log_prob(X), reference.logpdf(X), rtol=1e-13)
    np.testing.assert_allclose(LAW.score(X), -np.linalg.solve(MATRIX, (X - MEAN).T).T, rtol=1e-12)
    assert float(LAW.entropy()) == pytest.approx(reference.entropy(), rel=1e-14)
    np.testing.assert_allclose(LAW.cov, MATRIX, rtol=1e-14)


def test_draws_have_its_moments():
    centred = np.asarray(LAW.sample(jax.random.key(0), 100_000)) - MEAN
    assert_mean(centred, np.zeros(D))
    assert_mean(centred[:, :, None] * centred[:, None, :], MATRIX)


def test_density_keeps_its_digits_where_noise_is_small():
    law = et.Gaussian(np.zeros(D), et.LowRankPlusDiagonal(1e4 * LOADINGS, 1e-6 * NOISE))
    x = 1e4 * LOADINGS @ np.array([0.3, -1.2]) + 1e-3 * X[0]  # condition 1e14: a full matrix would be singular
    with mpmath.workdps(60):
        F, noise, point = (mpmath.matrix(part.tolist()) for part in (1e4 * LOADINGS, 1e-6 * NOISE, x))
        S = F * F.T + mpmath.diag(list(noise))
        exact = -(D * mpmath.log(2 * mpmath.pi) + mpmath.log(mpmath.det(S)) + (point.T * S**-1 * point)[0]) / 2
    assert float(law.log_prob(x)) == pytest.approx(float(exact), rel=1e-7)  # x itself is rounded: 1e4 eps against standard deviations of 1e-3


def other(eps: float, turned: bool) -> tuple[np.ndarray, np.ndarray]:
    """Loadings and noise at a relative distance eps, the loadings turned within their span or not."""
    rng = np.random.default_rng(7)
    loadings, noise = LOADINGS + eps * rng.normal(size=(D, K)), NOISE * np.exp(eps * rng.normal(size=D))
    rotation = np.linalg.qr(rng.normal(size=(K, K)))[0]
    return (loadings @ rotation if turned else loadings), noise


def exact_kl(F, D_p, G, D_q, gap) -> float:
    with mpmath.workdps(50):
        F, G, D_p, D_q, gap = (mpmath.matrix(np.asarray(part).tolist()) for part in (F, G, D_p, D_q, gap))
        S, R = F * F.T + mpmath.diag(list(D_p)), G * G.T + mpmath.diag(list(D_q))
        ratio, n = R**-1 * S, S.rows
        return float((sum(ratio[i, i] for i in range(n)) - n - mpmath.log(mpmath.det(ratio)) + (gap.T * R**-1 * gap)[0]) / 2)


@pytest.mark.parametrize(("eps", "rtol"), [(0.3, 1e-13), (1e-3, 1e-11), (1e-6, 1e-8)])
@pytest.mark.parametrize("turned", [False, True], ids=["as they are", "turned"])
def test_kl_keeps_its_digits_between_near_equal_laws(eps, rtol, turned):
    loadings, noise = other(eps, turned)
    q = et.Gaussian(MEAN + eps * X[0], et.LowRankPlusDiagonal(loadings, noise))
    exact = exact_kl(LOADINGS, NOISE, loadings, noise, eps * X[0])
    assert float(et.kl(LAW, q)) == pytest.approx(exact, rel=rtol)
    if not turned:
        assert float(et.kl(q, LAW)) == pytest.approx(exact_kl(loadings, noise, LOADINGS, NOISE, eps * X[0]), rel=rtol)


def test_kl_between_low_rank_and_other_structures():
    none = np.zeros((D, 1))
    for covariance, loadings, noise in (
        (et.Diagonal(NOISE**2), none, NOISE**2),
        (et.Isotropic(0.7, D), none, np.full(D, 0.7)),
        (et.Dense(MATRIX + np.eye(D)), LOADINGS, NOISE + 1),
    ):
        q = et.Gaussian(MEAN, covariance)
        assert float(et.kl(LAW, q)) == pytest.approx(exact_kl(LOADINGS, NOISE, loadings, noise, np.zeros(D)), rel=1e-12)
        assert float(et.kl(q, LAW)) == pytest.approx(exact_kl(loadings, noise, LOADINGS, NOISE, np.zeros(D)), rel=1e-12)


def test_kl_has_the_gradient_of_the_full_matrices_also_where_it_is_zero():
    loadings, noise = other(0.3, False)

    def value(parts):
        (F, D_p), (G, D_q) = parts
        return et.kl(et.Gaussian(MEAN + 0.1, et.LowRankPlusDiagonal(F, D_p)), et.Gaussian(MEAN, et.LowRankPlusDiagonal(G, D_q))).value

    slope = jax.jit(jax.grad(value))
    at = jax.tree.map(jnp.asarray, ((LOADINGS, NOISE), (loadings, noise)))
    S, R = MATRIX, loadings @ loadings.T + np.diag(noise)
    by_S = (np.linalg.inv(R) - np.linalg.inv(S)) / 2
    by_R = (np.linalg.inv(R) - np.linalg.inv(R) @ (S + np.full((D, D), 0.01)) @ np.linalg.inv(R)) / 2
    full = ((2 * by_S @ LOADINGS, np.diag(by_S)), (2 * by_R @ loadings, np.diag(by_R)))
    jax.tree.map(lambda ours, reference: np.testing.assert_allclose(ours, reference, atol=1e-12), slope(at), full)
    for zero in jax.tree.leaves(slope((at[0], at[0]))[0]):
        np.testing.assert_allclose(zero, 0.0, atol=1e-14)


def largest(jaxpr) -> int:
    """The number of entries of the largest array in a program, inner programs included."""
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [int(np.prod(variable.aval.shape)) for variable in equation.outvars if hasattr(variable.aval, "shape")]
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr")):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                sizes.append(largest(getattr(inner, "jaxpr", inner)))
    return max(sizes)


def test_ten_thousand_coordinates_never_make_a_square_array():
    rng = np.random.default_rng(1)
    W, mu, x = rng.normal(size=(LARGE, FACTORS)), rng.normal(size=LARGE), rng.normal(size=LARGE)

    def everything(W, mu, x, key):
        p, q = et.Ppca(W, mu, 0.5), et.Ppca(1.01 * W, 0 * mu, 0.6)
        return p.log_prob(x), p.score(x), p.law.entropy(), et.kl(p.law, q.law), p.sample(key, 3), p.law.condition([0, 1], x[:2]).log_prob(x[2:])

    program = jax.make_jaxpr(everything)(W, mu, x, jax.random.key(0))
    assert largest(program.jaxpr) < 10 * FACTORS * LARGE < LARGE**2
    assert largest(jax.make_jaxpr(lambda W: et.Ppca(W, mu, 0.5).law.cov)(W).jaxpr) == LARGE**2  # the count sees what it looks for


def test_ten_thousand_coordinates_by_the_algebra_of_ten():
    rng = np.random.default_rng(2)
    Q = np.linalg.qr(rng.normal(size=(LARGE, FACTORS)))[0]
    a, b = rng.uniform(1.0, 9.0, FACTORS), rng.uniform(1.0, 9.0, FACTORS)  # what the factors explain, in the same directions
    mu, shift = rng.normal(size=LARGE), 0.1 * rng.normal(size=LARGE)
    p, q = et.Ppca(Q * np.sqrt(a), mu, 0.5), et.Ppca(Q * np.sqrt(b), mu + shift, 0.6)
    x = mu + rng.normal(size=LARGE)
    inside = Q.T @ (x - mu)
    mahalanobis = np.sum((x - mu) ** 2) / 0.5 + inside**2 @ (1 / (a + 0.5) - 1 / 0.5)
    logdet = np.sum(np.log(a + 0.5)) + (LARGE - FACTORS) * np.log(0.5)
    assert float(p.log_prob(x)) == pytest.approx(-0.5 * (LARGE * np.log(2 * np.pi) + logdet + mahalanobis), rel=1e-13)
    np.testing.assert_allclose(p.score(x), -(x - mu) / 0.5 - Q @ ((1 / (a + 0.5) - 1 / 0.5) * inside), atol=1e-12)
    assert float(p.law.entropy()) == pytest.approx(0.5 * (LARGE * np.log(2 * np.pi * np.e) + logdet), rel=1e-13)
    ratios = np.concatenate([(a + 0.5) / (b + 0.6), np.full(LARGE - FACTORS, 0.5 / 0.6)])
    distance = shift @ shift / 0.6 + (Q.T @ shift) ** 2 @ (1 / (b + 0.6) - 1 / 0.6)
    assert float(et.kl(p.law, q.law)) == pytest.approx(0.5 * (np.sum(ratios - 1 - np.log(ratios)) + distance), rel=1e-12)
    draws = np.asarray(p.sample(jax.random.key(0), 400)) - mu
    assert_mean((draws @ Q) ** 2, a + 0.5)
    assert_mean(np.sum(draws**2, axis=1), np.sum(a) + 0.5 * LARGE)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: et.LowRankPlusDiagonal(LOADINGS, NOISE[:-1]), r"`loadings, noise`.*\(8, 2\) and \(7,\)"),
        (lambda: et.LowRankPlusDiagonal(LOADINGS, -NOISE), "`noise`.*>= 0"),
        (lambda: et.Gaussian(MEAN, et.LowRankPlusDiagonal(LOADINGS, 0 * NOISE)), "`cov`.*smallest noise variance 0.*positive definite"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()
