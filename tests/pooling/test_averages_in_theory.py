"""Numbers of the theory of averaged scores to their digits, each by the package and by NumPy and SciPy alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

import ensembletheory as et
from ensembletheory.pooling import averaged_flow, diversity_rate
from tests.claims.test_averaged_score import kl_on_the_line, sampled_on_the_line

VP = et.processes.VariancePreserving()  # b from .1 to 20
TARGET, EXPERTS = (0.3, 1.2), ((-1.0, 0.25), (2.0, 4.0))
HALVES = (0.5, 0.5)
U_T = np.exp(-10.05)


def law(pair):
    return et.Gaussian([pair[0]], [[pair[1]]])


def centred(*variances):
    return [(0.0, v) for v in variances]


@jax.jit
def rules(p, members):
    """Variances of the Gaussian rules, and KL of every rule but the linear pool from p, with that of the members."""
    pools = {
        "log": et.log_pool(members),
        "sde": et.mean_score_law(members, VP, horizon=jnp.inf),
        "ode": et.mean_score_law(members, VP, "ode", horizon=jnp.inf),
        "barycenter": et.w2_barycenter(members),
        "sde at T": et.mean_score_law(members, VP),
        "ode at T": et.mean_score_law(members, VP, "ode"),
    }
    kls = {name: et.kl(p, pool).value for name, pool in pools.items()}
    return {name: pool.cov[0, 0] for name, pool in pools.items()}, kls | {"average": jnp.mean(jnp.stack([et.kl(p, q).value for q in members]))}


def package(p, pairs):
    variances, kls = rules(law(p), [law(pair) for pair in pairs])
    return variances, kls | {"linear": et.kl(law(p), et.linear_pool([law(pair) for pair in pairs])).value}


def by_hand(p, pairs):
    """Moments in closed form or from the differential equations, KL by formula, the linear pool's by the trapezoid rule."""
    m, v = np.array(pairs).T
    log = (np.mean(m / v) / np.mean(1 / v), 1 / np.mean(1 / v))
    pools = {"log": log, "barycenter": (np.mean(m), np.mean(np.sqrt(v)) ** 2)}
    for name, churn in (("sde", 1.0), ("ode", 0.0)):
        pools |= {name: sampled_on_the_line(pairs, np.full(len(pairs), 1 / len(pairs)), churn), f"{name} at T": at_horizon(pairs, churn)}
    x = np.linspace(-40, 40, 80_001)
    linear = np.mean([norm.pdf(x, a, np.sqrt(b)) for a, b in pairs], axis=0)
    density = norm.pdf(x, p[0], np.sqrt(p[1]))
    kls = {name: kl_on_the_line(p, pool) for name, pool in pools.items()}
    log_ratio = norm.logpdf(x, p[0], np.sqrt(p[1])) - np.log(linear + 1e-300)
    return {name: pool[1] for name, pool in pools.items()}, kls | {
        "average": np.mean([kl_on_the_line(p, q) for q in pairs]),
        "linear": np.trapezoid(density * log_ratio, x),
    }


def at_horizon(pairs, churn):
    return sampled_on_the_line(pairs, np.full(len(pairs), 1 / len(pairs)), churn, -np.log(U_T))


ROW = ("average", "linear", "barycenter", "ode", "sde", "log")
TABLE = [  # of 1.4 (e), and the example of the theorem
    ((0.25, 4.0), 1.0, (0.5625, 0.12557, 0.04314, 0.0, 0.02528, 0.18561), 5),
    ((0.25, 4.0), 8 / 17, (0.37689, 0.19576, 0.25062, 0.11218, 0.04414, 0.0), 5),
    ((0.25, 4.0), 2.125, (1.38093, 0.11838, 0.02626, 0.18561, 0.40919, 1.00404), 5),
    ((0.1, 1.0), 1.0, (1.67435, 0.15248, 0.23605, 0.50549, 0.77273, 1.39763), 5),
    ((1.5, 3.0), 1.0, (0.12602, 0.11517, 0.11972, 0.11172, 0.10650, 0.09657), 5),
    ((0.5, 2.0), 1.0, (0.125, None, None, 0.0, 0.001595216268419578, 0.01342822434289512), 16),
]


@pytest.mark.parametrize(("variances", "target", "row", "digits"), TABLE)
def test_no_rule_is_always_best(variances, target, row, digits):
    (_, kls), (_, others) = package((0.0, target), centred(*variances)), by_hand((0.0, target), centred(*variances))
    for name, printed in zip(ROW, row, strict=True):
        assert float(kls[name]) == pytest.approx(others[name], abs=5e-8), name
        if printed is not None:
            assert float(kls[name]) == pytest.approx(printed, abs=max(0.51 * 10.0**-digits, 2e-15)), name


def test_variances_of_the_rules():
    found, other = package((0.0, 1.0), centred(0.5, 2.0))[0], by_hand((0.0, 1.0), centred(0.5, 2.0))[0]
    for name, exact in (("log", 0.8), ("sde", 4 / 3 * np.log(2)), ("ode", 1.0), ("barycenter", 9 / 8)):
        assert float(found[name]) == pytest.approx(exact, rel=1e-13)
        assert other[name] == pytest.approx(exact, rel=1e-8)
    found = package((0.0, 1.0), centred(0.25, 4.0))[0]
    logarithmic_mean = 3.75 / np.log(16)
    assert logarithmic_mean == pytest.approx(1.352527, abs=5e-7)
    assert float(found["sde"]) == pytest.approx(1 / logarithmic_mean, rel=1e-12)
    assert float(found["barycenter"]) == pytest.approx(1.5625, rel=1e-12)
    assert float(et.linear_pool([law(q) for q in centred(0.25, 4.0)]).cov[0, 0]) == pytest.approx(2.125, rel=1e-14)
    assert float(et.log_pool([law(q) for q in centred(0.25, 1.0, 4.0)]).cov[0, 0]) == pytest.approx(0.571429, abs=5e-7)
    assert float(et.log_pool([law(q) for q in centred(0.25, 4.0)], [0.2, 0.8]).cov[0, 0]) == pytest.approx(1.0, rel=1e-14)
    assert float(et.linear_pool([law(q) for q in EXPERTS]).mean[0]) == pytest.approx(0.5, rel=1e-14)


def test_a_finite_horizon_is_seen_in_the_flow_first():
    """Song's schedule; and noise that explodes to 50, where the flow's variance is G s^2 / prod (S_k + s^2)^{w_k}."""
    found, other = package((0.0, 1.0), centred(0.25, 4.0))[0], by_hand((0.0, 1.0), centred(0.25, 4.0))[0]
    for name, printed, digits in (("ode at T", 0.999951, 5e-7), ("sde at T", 0.7393570, 5e-8)):
        assert float(found[name]) == pytest.approx(printed, abs=digits)
        assert other[name] == pytest.approx(printed, abs=digits)
    exploding = et.processes.VarianceExploding(0.01, 50.0)
    end = float(averaged_flow(exploding, [law(q) for q in centred(0.25, 4.0)], [[1.0]], steps=512).ends[0, 0])
    s2 = float(exploding.noise_variance(exploding.horizon))
    assert s2 / end**2 == pytest.approx(0.99915, abs=5e-6)
    assert s2 / end**2 == pytest.approx(s2 / np.sqrt((0.25 + s2) * (4 + s2)), abs=1e-6)


@jax.jit
def sampled(v, w):
    members = [et.Gaussian([0.0], v[k][None]) for k in range(3)]
    return jax.vmap(lambda eta: et.mean_score_law(members, VP, churn=eta, weights=w, horizon=jnp.inf).cov[0, 0])(jnp.asarray([1.0, 0.0]))


def test_the_chain_of_means():
    """For variances on the line, whatever the weights."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        v, w = np.exp(rng.uniform(-3, 3, 3)), rng.dirichlet(np.ones(3))
        sde, ode = sampled(v, w)
        chain = [1 / (w @ (1 / v)), sde, ode, (w @ np.sqrt(v)) ** 2, w @ v]
        assert ode == pytest.approx(np.exp(w @ np.log(v)), rel=1e-12)
        assert np.all(np.diff(chain) > 0)


def beta(t):
    return 0.1 + 19.9 * t


def u_of(t):
    return np.exp(-(0.1 * t + 19.9 * t**2 / 2))


def affine_scores(u):
    """(slope, intercept) of each member's score, noised."""
    return [(-1 / (1 + u * (v - 1)), np.sqrt(u) * m / (1 + u * (v - 1))) for m, v in EXPERTS]


def mean_square(line, m, v):
    """E (a x + c)^2 under N(m, v)."""
    return (line[0] * m + line[1]) ** 2 + line[0] ** 2 * v


def bound(score_of):
    """1/2 int b E_p |s - grad log p_t|^2 dt + KL(p_T || N(0, 1)), by adaptive quadrature."""

    def rate(t):
        u = u_of(t)
        m, v = np.sqrt(u) * TARGET[0], 1 + u * (TARGET[1] - 1)
        s = score_of(affine_scores(u))
        return beta(t) / 2 * mean_square((s[0] + 1 / v, s[1] - m / v), m, v)

    return quad(rate, 0, 1, epsabs=1e-11, epsrel=1e-11, limit=200)[0] + kl_on_the_line((np.sqrt(U_T) * TARGET[0], 1 + U_T * (TARGET[1] - 1)), (0.0, 1.0))


@pytest.fixture(scope="module")
def integrals():
    """By the package, over Gauss nodes of time: 1/2 int b E Var_k s_k under the noised target and under the log pools, and 1/2 int b F(p_t || q_t) of each member."""
    nodes, lengths = np.polynomial.legendre.leggauss(64)
    p, members, root = law(TARGET), [law(q) for q in EXPERTS], jnp.asarray([[1.0], [-1.0]])

    def rates(t):
        noised = [VP.marginal(q, t) for q in members]
        laws = [VP.marginal(p, t), et.log_pool(noised)]
        points = jnp.concatenate([one.mean[None] + jnp.sqrt(one.cov) * root for one in laws])
        fishers = [et.fisher_divergence(laws[0], q).value * VP.diffusion(t) / 2 for q in noised]
        return jnp.concatenate([jnp.mean(diversity_rate(VP, members, t, points).reshape(2, 2), axis=1), jnp.stack(fishers)])

    return (lengths / 2) @ np.asarray(jax.jit(jax.vmap(rates))(jnp.asarray((nodes + 1) / 2)))


def test_bounds_and_truth_of_the_two_experts(integrals):
    """The bound of the average is the average bound less the diversity, below that average and above the better member's; it holds for the SDE's law."""
    last = kl_on_the_line((np.sqrt(U_T) * TARGET[0], 1 + U_T * (TARGET[1] - 1)), (0.0, 1.0))
    members = integrals[2:] + last
    np.testing.assert_allclose(members, [4.49566, 0.61318], atol=6e-6)
    np.testing.assert_allclose(members, [bound(lambda s, k=k: s[k]) for k in range(2)], atol=1e-9)
    ensemble = np.mean(members) - integrals[0]
    assert ensemble == pytest.approx(0.65218, abs=5e-6)
    assert ensemble == pytest.approx(bound(lambda s: np.mean(s, axis=0)), abs=1e-9)
    kls, others = package(TARGET, EXPERTS)[1], by_hand(TARGET, EXPERTS)[1]
    printed = {"sde": 0.40074, "ode": 0.10448, "log": 1.64817, "linear": 0.54059, "average": 2.55446}
    for name, value in printed.items():
        assert float(kls[name]) == pytest.approx(others[name], abs=5e-8), name
        assert float(kls[name]) == pytest.approx(value, abs=6e-6), name
    np.testing.assert_allclose([float(et.kl(law(TARGET), law(q))) for q in EXPERTS], [4.49569, 0.61324], atol=6e-6)


def test_the_log_pool_gains_its_integrated_diversity(integrals):
    def rate(t):
        u = u_of(t)
        (a, c), (b, d) = affine_scores(u)
        H = -2 / (a + b)  # the pool's variance, and its mean H (c + d) / 2
        return beta(t) / 2 * mean_square(((a - b) / 2, (c - d) / 2), H * (c + d) / 2, H)

    assert integrals[1] == pytest.approx(0.9062490826, abs=5e-11)
    assert quad(rate, 0, 1, epsabs=1e-12, epsrel=1e-12, limit=200)[0] == pytest.approx(0.9062490826, abs=5e-11)
    gain = -float(et.log_normaliser([law(q) for q in EXPERTS]))
    rest = -float(et.log_normaliser([VP.marginal(law(q), 1.0) for q in EXPERTS]))
    assert gain == pytest.approx(0.9062976659, abs=5e-11)
    assert gain - rest == pytest.approx(0.9062490826, abs=5e-11)
    x = np.linspace(-30, 30, 60_001)
    z = np.trapezoid(np.exp(np.mean([norm.logpdf(x, m, np.sqrt(v)) for m, v in EXPERTS], axis=0)), x)
    assert -np.log(z) == pytest.approx(gain, abs=1e-10)


@pytest.mark.parametrize(("K", "loss"), [(1, 1.25), (2, 0.9), (5, 0.69), (100, 0.557)])
def test_loss_of_an_average_of_exchangeable_scores(K, loss):
    """Bias 1/2, variance 1, correlation .3: b^2 + w^T C w, and the mean over members less the spread around the average."""
    C, w = 0.3 + 0.7 * np.eye(K), np.full(K, 1 / K)
    assert 0.25 + 0.3 + 0.7 / K == pytest.approx(loss, abs=1e-12)
    assert 0.25 + w @ C @ w == pytest.approx(loss, abs=1e-12)
    spread = np.mean(np.diag(C - np.outer(C @ w, np.ones(K)) - np.outer(np.ones(K), C @ w) + w @ C @ w))
    assert 1.25 - spread == pytest.approx(loss, abs=1e-12)
