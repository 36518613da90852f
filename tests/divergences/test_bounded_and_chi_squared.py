"""Bounded f-divergences and chi-squared against sums and integrals in NumPy, their digits near equality, and where chi-squared is infinite."""

import jax
import numpy as np
import pytest

import ensembletheory as et
from tests.divergences.laws import law, line, pair, pdf
from tests.helpers import assert_within_errors, spd

F_DIVERGENCES = {
    "hellinger_squared": lambda p, q: 0.5 * (np.sqrt(p) - np.sqrt(q)) ** 2,
    "jensen_shannon": lambda p, q: 0.5 * (p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))),
    "total_variation": lambda p, q: 0.5 * np.abs(p - q),
    "chi_squared": lambda p, q: (p - q) ** 2 / q,
    "kl": lambda p, q: p * np.log(p / q),
}
WIDE = et.GaussianMixture([0.4, 0.6], [[-1.0], [1.5]], [[2.0], [3.0]])


def on_the_line(name, p, q):
    x = line(p, q)
    a, b = pdf(p, x), pdf(q, x)
    inside = (a > 1e-200) & (b > 1e-200)
    return np.trapezoid(F_DIVERGENCES[name](a[inside], b[inside]), x[inside])


@pytest.mark.parametrize(("name", "column"), [*((name, "MM") for name in F_DIVERGENCES), ("hellinger_squared", "GG"), ("chi_squared", "MG"), ("chi_squared", "GG")])
def test_on_the_line(name, column):
    p, q = pair(column, 1)
    q = {"GG": et.Gaussian([0.4], 2.5), "MG": et.Gaussian([0.4], 2.5), "MM": WIDE}[column] if name == "chi_squared" else q
    estimate = getattr(et, name)(p, q)
    tolerance = 1e-8 if name == "total_variation" else 1e-10  # the grid cuts creases
    assert float(estimate) == pytest.approx(on_the_line(name, p, q), rel=tolerance, abs=float(estimate.error) + 1e-13)


@pytest.mark.parametrize("variances", [(1.0, 1.0), (0.3, 2.0), (2.0, 0.3)])
@pytest.mark.parametrize("shift", [0.0, 0.7, -0.7])
def test_total_variation_of_gaussians_on_the_line(variances, shift):
    p, q = et.Gaussian([shift], variances[0]), et.Gaussian([0.0], variances[1])
    assert float(et.total_variation(p, q)) == pytest.approx(on_the_line("total_variation", p, q), rel=1e-7, abs=1e-12)


def test_in_the_plane():
    p, q = pair("MG", 2)
    axes = [np.linspace(-13, 13, 801)] * 2
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    a, b = (np.exp(np.asarray(given.log_prob(points))) for given in (p, q))
    for name in ("hellinger_squared", "total_variation"):
        plain = np.trapezoid(np.trapezoid(F_DIVERGENCES[name](a + 1e-300, b + 1e-300), axes[1]), axes[0])
        estimate = getattr(et, name)(p, q)
        assert abs(float(estimate) - plain) <= float(estimate.error) + (1e-4 if name == "total_variation" else 1e-9)
        assert float(estimate.error) <= 2e-3 * plain


def plain_bhattacharyya(p, q):
    m, P, n, Q = (np.asarray(part) for part in (p.mean, p.cov, q.mean, q.cov))
    S = (P + Q) / 2
    logs = [np.linalg.slogdet(M)[1] for M in (S, P, Q)]
    return (m - n) @ np.linalg.solve(S, m - n) / 8 + 0.5 * (logs[0] - (logs[1] + logs[2]) / 2)


@pytest.mark.parametrize("d", [1, 3])
def test_hellinger_of_gaussians_is_that_of_bhattacharyya(d):
    p, q = pair("GG", d)
    assert float(et.hellinger_squared(p, q)) == pytest.approx(1 - np.exp(-plain_bhattacharyya(p, q)), rel=1e-12)


def plain_chi_squared(p, q):
    """Of Gaussians, by completing the square in numbers: q^{-1} p^2 has precision 2 P - Q."""
    m, P, n, Q = np.asarray(p.mean), np.linalg.inv(p.cov), np.asarray(q.mean), np.linalg.inv(q.cov)
    H, b = 2 * P - Q, 2 * P @ m - Q @ n
    exponent = 0.5 * (b @ np.linalg.solve(H, b) - 2 * m @ P @ m + n @ Q @ n)
    return np.linalg.det(P) / np.sqrt(np.linalg.det(Q) * np.linalg.det(H)) * np.exp(exponent) - 1


def wider(p, d, factor=1.4):
    return et.Gaussian(np.asarray(p.mean) + 0.3, factor * np.asarray(p.cov) + 0.2 * spd(np.random.default_rng(5), d))


@pytest.mark.parametrize("d", [2, 3])
def test_chi_squared_of_gaussians_and_of_a_mixture_against_a_gaussian(d):
    p, m = law("G", d, 0), law("M", d, 0)
    q = wider(p, d)
    assert float(et.chi_squared(p, q)) == pytest.approx(plain_chi_squared(p, q), rel=1e-10)
    wide = et.Gaussian(np.zeros(d), 4 * np.eye(d) + 0.5 * spd(np.random.default_rng(6), d))
    total, parts = 0.0, [et.Gaussian(mean, S) for mean, S in zip(m.means, m.covs, strict=True)]
    for a, f in zip(np.asarray(m.weights), parts, strict=True):
        for b, g in zip(np.asarray(m.weights), parts, strict=True):
            F, G, Q = (np.linalg.inv(part.cov) for part in (f, g, wide))
            H, h = F + G - Q, F @ f.mean + G @ g.mean - Q @ wide.mean
            exponent = 0.5 * (h @ np.linalg.solve(H, h) - f.mean @ F @ f.mean - g.mean @ G @ g.mean + wide.mean @ Q @ wide.mean)
            total += a * b * np.sqrt(np.linalg.det(F) * np.linalg.det(G) / np.linalg.det(Q) / np.linalg.det(H)) * np.exp(exponent)
    assert float(et.chi_squared(m, wide)) == pytest.approx(total - 1, rel=1e-10)


def test_chi_squared_against_a_mixture_in_the_plane():
    p = law("M", 2, 0)
    q = et.GaussianMixture([0.4, 0.6], [[0.0, 0.5], [0.3, 0.0]], [2.5 * np.eye(2), np.diag([3.0, 2.0])])
    axes = [np.linspace(-14, 14, 901)] * 2
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    log_p, log_q = (np.asarray(given.log_prob(points)) for given in (p, q))
    plain = np.trapezoid(np.trapezoid(np.exp(2 * log_p - log_q), axes[1]), axes[0]) - 1
    estimate = et.chi_squared(p, q)
    assert float(estimate) == pytest.approx(plain, rel=1e-8)
    sampled = et.chi_squared(p, q, key=jax.random.key(0), samples=20_000)
    assert_within_errors(sampled.value, sampled.error, plain)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize(("shrink", "finite"), [(0.3, False), (0.5, False), (0.51, True)])
def test_chi_squared_is_infinite_for_narrow_gaussians(d, shrink, finite):
    """chi^2(N(0, S) || N(0, V)) is infinite for V <= S / 2, also at equality, and a narrow component of weight 0 does not matter."""
    S = spd(np.random.default_rng(1), d)
    q = et.Gaussian(np.zeros(d), shrink * S)
    assert np.isfinite(float(et.chi_squared(et.Gaussian(np.zeros(d), S), q))) == finite
    covs = np.stack([S, S / 2])
    assert np.isfinite(float(et.chi_squared(et.GaussianMixture([0.5, 0.5], np.zeros((2, d)), covs), q))) == finite
    assert np.isfinite(float(et.chi_squared(et.GaussianMixture([0.0, 1.0], np.zeros((2, d)), covs), q)))


TAILS = [  # means and variances of q, against N(0, 1); finite?
    ([0.0, 1.0], [0.4, 0.3], False),
    ([0.0, 1.0], [0.4, 0.6], True),
    ([0.0, 1.0], [0.4, 0.5], False),
    ([-1.0, 1.0], [0.5, 0.5], True),
    ([0.0, 1.0], [0.5, 0.5], False),
]


@pytest.mark.parametrize(("means", "variances", "finite"), TAILS)
def test_chi_squared_against_a_mixture_on_the_line_is_finite_by_its_tails(means, variances, finite):
    p, q = et.Gaussian([0.0], 1.0), et.GaussianMixture([0.5, 0.5], np.asarray(means)[:, None], np.asarray(variances)[:, None, None])
    estimate = et.chi_squared(p, q)
    assert np.isfinite(float(estimate)) == finite
    assert np.isfinite(float(estimate.error))
    if finite:
        x = np.linspace(-120, 120, 2_000_001)
        log_p = -(x**2) / 2 - 0.5 * np.log(2 * np.pi)
        log_q = np.logaddexp.reduce([np.log(0.5) - (x - m) ** 2 / (2 * v) - 0.5 * np.log(2 * np.pi * v) for m, v in zip(means, variances, strict=True)])
        assert float(estimate) == pytest.approx(np.trapezoid(np.exp(2 * log_p - log_q), x) - 1, rel=1e-8)


@pytest.mark.parametrize(("axis", "finite"), [(0.4, True), (0.25, False)])
def test_chi_squared_against_a_mixture_in_the_plane_is_finite_by_directions(axis, finite):
    """Each component is too narrow along one axis; they cover for each other on the axes but not between if `axis` is small."""
    q = et.GaussianMixture([0.5, 0.5], np.zeros((2, 2)), [[3.0, axis], [axis, 3.0]])
    narrow = 1 / 3.0 + 1 / axis < 4  # on the diagonal both forms are 2 - (1/3 + 1/axis) / 2 in units of |v|^2
    assert narrow == finite
    assert np.isfinite(float(et.chi_squared(et.standard_normal(2), q))) == finite


def test_chi_squared_that_is_infinite_needs_no_draws_in_three_dimensions():
    q = et.GaussianMixture([0.5, 0.5], np.zeros((2, 3)), [[0.4, 3.0, 3.0], [0.4, 2.0, 2.0]])
    assert float(et.chi_squared(et.standard_normal(3), q)) == np.inf


def fisher_information(given):
    """Of a shift, by finite differences of the density on a fine grid."""
    x = line(given)
    density = pdf(given, x)
    slope = np.gradient(density, x)
    keep = density > 1e-200
    return np.trapezoid(slope[keep] ** 2 / density[keep], x[keep]), np.trapezoid(np.abs(slope), x)


@pytest.mark.parametrize("letter", ["G", "M"])
@pytest.mark.parametrize("size", [1e-6])
def test_near_equal_laws_keep_their_digits(letter, size):
    """A shift by e: chi^2 ~ I e^2, Hellinger^2 and Jensen-Shannon ~ I e^2 / 8, total variation ~ |e| int |p'| / 2, to relative order e."""
    p = law(letter, 1, 0)
    q = p.push([[1.0]], [size])
    information, slope = fisher_information(p)
    within = {"rel": 20 * size + 1e-5, "abs": 0.0}
    assert float(et.chi_squared(p, q, rtol=1e-7)) == pytest.approx(information * size**2, **within)
    assert float(et.hellinger_squared(p, q)) == pytest.approx(information * size**2 / 8, **within)
    assert float(et.jensen_shannon(p, q)) == pytest.approx(information * size**2 / 8, **within)
    assert float(et.total_variation(p, q)) == pytest.approx(slope * size / 2, **within)


@pytest.mark.parametrize("size", [1e-6])
def test_near_equal_covariances_keep_their_digits(size):
    """With W = S^{-1} dS: chi^2 ~ tr W^2 / 2, Hellinger^2 ~ tr W^2 / 16; a mixture of one component follows the other route for chi^2."""
    p = law("G", 3, 0)
    H = spd(np.random.default_rng(2), 3)
    q = et.Gaussian(p.mean, np.asarray(p.cov) + size * H)
    W = np.linalg.solve(np.asarray(p.cov), H)
    second = size**2 * np.trace(W @ W)
    assert float(et.chi_squared(p, q)) == pytest.approx(second / 2, rel=30 * size + 1e-8)
    assert float(et.hellinger_squared(p, q)) == pytest.approx(second / 16, rel=30 * size + 1e-8)
    single = et.GaussianMixture([1.0], np.asarray(p.mean)[None], np.asarray(p.cov)[None])
    assert float(et.chi_squared(single, q)) == pytest.approx(float(et.chi_squared(p, q)), rel=1e-7)


ATOMS = [[0.0], [1.0], [1.0], [3.0]]
P_ATOMS, Q_ATOMS = et.FiniteLaw(ATOMS, [0.2, 0.1, 0.3, 0.4]), et.FiniteLaw([[3.0], [1.0], [0.0], [7.0]], [0.25, 0.5, 0.125, 0.125])


def test_laws_of_finite_support():
    """P: 0.2, 0.4, 0.4, 0 and Q: 1/8, 1/2, 1/4, 1/8 at 0, 1, 3, 7; a point that repeats adds up."""
    p, q = np.array([0.2, 0.4, 0.4, 0.0]), np.array([0.125, 0.5, 0.25, 0.125])
    kl = np.sum(p[:3] * np.log(p[:3] / q[:3]))
    m = (p + q) / 2
    js = 0.5 * (np.sum(p[:3] * np.log(p[:3] / m[:3])) + np.sum(q * np.log(q / m)))
    assert float(et.kl(P_ATOMS, Q_ATOMS)) == pytest.approx(kl, rel=1e-13)
    assert float(et.jensen_shannon(P_ATOMS, Q_ATOMS)) == pytest.approx(js, rel=1e-13)
    assert float(et.total_variation(P_ATOMS, Q_ATOMS)) == pytest.approx(0.5 * np.sum(np.abs(p - q)), rel=1e-13)
    assert float(et.hellinger_squared(P_ATOMS, Q_ATOMS)) == pytest.approx(1 - np.sum(np.sqrt(p * q)), rel=1e-13)
    assert float(et.chi_squared(P_ATOMS, Q_ATOMS)) == pytest.approx(np.sum((p - q) ** 2 / q), rel=1e-13)
    for divergence in (et.kl, et.chi_squared):
        assert float(divergence(Q_ATOMS, P_ATOMS)) == np.inf
    for divergence in (et.kl, et.jensen_shannon, et.hellinger_squared, et.chi_squared, et.total_variation):
        assert float(divergence(P_ATOMS, P_ATOMS)) == 0


@pytest.mark.parametrize(("name", "value"), [("jensen_shannon", np.log(2)), ("hellinger_squared", 1.0), ("total_variation", 1.0), ("kl", np.inf), ("chi_squared", np.inf)])
def test_mutually_singular_laws(name, value):
    for pair_ in ((P_ATOMS, WIDE), (WIDE, P_ATOMS)):
        assert float(getattr(et, name)(*pair_)) == value
