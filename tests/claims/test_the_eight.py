"""The first claims of the package: margins by a second route, theorems under Hypothesis, equality families, and a search that must find what is false.

The second route is NumPy and SciPy alone: densities on a fine grid (the trapezoidal rule converges exponentially for them), quantile functions, moment equations of
the reverse dynamics, and Gauss-Hermite expectations.
"""

import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.stats import multivariate_normal, norm

from ensembletheory.claims import check, falsify, get, ids, stored

THEOREMS = ("linear-pool-kl", "log-pool-kl", "mean-score-kl-average", "linear-vae-elbo-gap")
REFUTED = ("linear-pool-fisher", "log-pool-reverse-kl", "mean-score-beats-best", "barycenter-kl")
BUDGET = 2_000


def grid(*laws):
    """Fine points over 13 standard deviations of every law (mean, variance)."""
    lows, highs = zip(*[(m - 13 * np.sqrt(v), m + 13 * np.sqrt(v)) for m, v in laws], strict=True)
    return np.linspace(min(lows), max(highs), 100_001)


def log_density(x, law):
    return norm.logpdf(x, law[0], np.sqrt(law[1]))


def kl(p, log_q, x):
    log_p = log_density(x, p)
    return np.trapezoid(np.exp(log_p) * (log_p - log_q), x)


def unpacked(instance):
    p = (float(instance["target_mean"]), float(instance["target_variance"]))
    members = list(zip(np.asarray(instance["means"]), np.asarray(instance["variances"]), strict=True))
    return p, members, np.asarray(instance["weights"]), grid(p, *members)


def log_mixture(x, members, weights):
    return np.log(sum(w * np.exp(log_density(x, q)) for w, q in zip(weights, members, strict=True)) + 1e-320)


def geometric_mean(x, members, weights):
    """log of the normalised density, and log Z."""
    unnormalised = sum(w * log_density(x, q) for w, q in zip(weights, members, strict=True))
    log_z = np.log(np.trapezoid(np.exp(unnormalised), x))
    return unnormalised - log_z, log_z


def average_kl(p, members, weights, x):
    return sum(w * kl(p, log_density(x, q), x) for w, q in zip(weights, members, strict=True))


def linear_pool_kl(instance):
    p, members, weights, x = unpacked(instance)
    return average_kl(p, members, weights, x) - kl(p, log_mixture(x, members, weights), x)


def linear_pool_fisher(instance):
    p, members, weights, x = unpacked(instance)
    density, score_p = np.exp(log_density(x, p)), -(x - p[0]) / p[1]
    scores = [-(x - m) / v for m, v in members]
    logs = np.stack([np.log(w + 1e-320) + log_density(x, q) for w, q in zip(weights, members, strict=True)])
    responsibilities = np.exp(logs - np.logaddexp.reduce(logs, axis=0)[None, :])
    pooled = sum(r * s for r, s in zip(responsibilities, scores, strict=True))
    average = sum(w * np.trapezoid(density * (score_p - s) ** 2, x) for w, s in zip(weights, scores, strict=True))
    return average - np.trapezoid(density * (score_p - pooled) ** 2, x)


def log_pool_kl(instance):
    p, members, weights, x = unpacked(instance)
    log_g, log_z = geometric_mean(x, members, weights)
    gain = average_kl(p, members, weights, x) - kl(p, log_g, x)
    return min(gain, -abs(gain + log_z))


def log_pool_reverse_kl(instance):
    p, members, weights, x = unpacked(instance)
    log_g, _ = geometric_mean(x, members, weights)
    reverse = np.trapezoid(np.exp(log_g) * (log_g - log_density(x, p)), x)
    return sum(w * kl(q, log_density(x, p), x) for w, q in zip(weights, members, strict=True)) - reverse


def barycenter_kl(instance):
    """The barycenter on the line averages quantile functions; its moments by Gauss-Hermite over the quantiles of N(0, 1)."""
    p, members, weights, x = unpacked(instance)
    z, mass = np.polynomial.hermite_e.hermegauss(5)
    quantiles = sum(w * (m + np.sqrt(v) * z) for w, (m, v) in zip(weights, members, strict=True))
    mean = quantiles @ mass / mass.sum()
    barycenter = (mean, (quantiles - mean) ** 2 @ mass / mass.sum())
    return average_kl(p, members, weights, x) - kl(p, log_density(x, barycenter), x)


def sampled_law(members, weights, churn, horizon=60.0):
    """Mean and variance at the data end of dX = 1/2 [x + (1 + churn^2) s_bar] dtau + churn dW from N(0, 1), b = 1, by their differential equations."""
    m, S = (np.array(column) for column in zip(*members, strict=True))

    def slope(tau, moments):
        u = np.exp(-(horizon - tau))
        v = 1 + u * (S - 1)
        rate = 0.5 * (1 - (1 + churn**2) * np.sum(weights / v))
        force = 0.5 * (1 + churn**2) * np.sum(weights * np.sqrt(u) * m / v)
        return [rate * moments[0] + force, 2 * rate * moments[1] + churn**2]

    return tuple(solve_ivp(slope, (0, horizon), [0.0, 1.0], method="LSODA", rtol=1e-11, atol=1e-13).y[:, -1])


def mean_score_kl_average(instance):
    p, members, weights, x = unpacked(instance)
    law = sampled_law(members, weights, float(instance["churn"]))
    return average_kl(p, members, weights, x) - kl(p, log_density(x, law), x)


def mean_score_beats_best(instance):
    p, members, weights, x = unpacked(instance)
    law = sampled_law(members, weights, float(instance["churn"]))
    return min(kl(p, log_density(x, q), x) for q in members) - kl(p, log_density(x, law), x)


def linear_vae_elbo_gap(instance):
    """ELBO as an expectation of log p(x, z) - log q(z), quadratic in z, hence exact with three Gauss-Hermite nodes an axis."""
    W, s2, x, m, D = (np.asarray(instance[name]) for name in ("loadings", "noise_variance", "x", "encoder_mean", "encoder_variances"))
    nodes, mass = np.polynomial.hermite_e.hermegauss(3)
    elbo = 0.0
    for e1, w1 in zip(nodes, mass, strict=True):
        for e2, w2 in zip(nodes, mass, strict=True):
            z = m + np.sqrt(D) * [e1, e2]
            log_joint = norm.logpdf(z).sum() + norm.logpdf(x, W @ z, np.sqrt(s2)).sum()
            elbo += w1 * w2 / (2 * np.pi) * (log_joint - norm.logpdf(z, m, np.sqrt(D)).sum())
    posterior_precision = W.T @ W / s2 + np.eye(2)
    gap = 0.5 * (np.sum(np.log(np.diag(posterior_precision))) - np.linalg.slogdet(posterior_precision)[1])
    return min(multivariate_normal(np.zeros(3), W @ W.T + s2 * np.eye(3)).logpdf(x) - gap - elbo, gap)


def second_route(id):
    return globals()[id.replace("-", "_")]


def test_the_claims_are_these():
    assert set(ids()) >= {*THEOREMS, *REFUTED}
    assert {get(id).kind for id in THEOREMS} == {"theorem"}
    assert {get(id).kind for id in REFUTED} == {"refuted"}


@pytest.mark.parametrize("id", [*THEOREMS, *REFUTED])
def test_margins_agree_with_a_second_route(id):
    """Grid and ODE solver are right to 1e-9 of the largest term, at most about 1e3 here."""
    claim = get(id)
    for seed in range(4):
        instance = claim.domain.sample(jax.random.key(seed))
        margin, other = claim.margin(**instance), second_route(id)(instance)
        assert abs(float(margin) - other) <= float(margin.error) + 1e-7 * (1 + abs(other)), (seed, float(margin), other)


@pytest.mark.parametrize("id", REFUTED)
def test_stored_counterexamples_violate_by_the_second_route_too(id):
    instance = stored.read_instance(stored.counterexample_path(get(id)))
    assert second_route(id)(instance) < -0.01


@pytest.mark.parametrize("id", THEOREMS)
def test_check_upholds_the_theorems(id):
    result = check(id, samples=1024)
    assert result.holds, result.verdict
    assert result.verdict.startswith("holds: no violation among 1,024 random instances")


@pytest.mark.parametrize(("id", "part"), [("linear-pool-kl", "means"), ("mean-score-kl-average", "means"), ("linear-vae-elbo-gap", "encoder_mean")])
def test_off_the_equality_family_there_is_a_gain(id, part):
    claim = get(id)
    instance = next(iter(claim.equality()))
    moved = {**instance, part: np.asarray(instance[part]) + 0.3 * np.arange(len(instance[part]))}
    assert float(claim.margin(**moved)) > 1e-3


@pytest.mark.verify
@pytest.mark.parametrize("id", REFUTED)
def test_the_search_refutes_what_is_false_with_the_stored_files_hidden(id, hidden_store):
    assert not check(id).holds
    result = falsify(id, budget=BUDGET)
    assert result.found
    assert second_route(id)(stored.as_numbers(result.instance)) < 0
    result.save(hidden_store / f"{id}.json")
    assert check(id).holds


def test_the_search_finds_nothing_against_a_theorem():
    result = falsify("linear-vae-elbo-gap", budget=BUDGET)
    assert not result.found, result.verdict
    assert abs(result.least) < 1e-9


def test_the_finite_horizon_example_by_hand():
    """q_k = p = N(1, 1/2), T = 1, b = 1: members' KL is 0, the sampled law's is not (central numbers: ODE 0.1936033878, SDE 0.0489526040)."""
    mutant = get("mean-score-kl-average").mutated("finite-horizon")
    for churn, expected in ((0.0, 0.1936033878), (1.0, 0.0489526040)):
        margin = mutant.margin(target_mean=1.0, target_variance=0.5, means=[1.0, 1.0], variances=[0.5, 0.5], weights=[0.4, 0.6], churn=churn)
        np.testing.assert_allclose(float(margin), -expected, atol=5e-11)


def test_the_wide_member_example():
    """Members N(2, 1) and a very wide one against N(0, 1): the linear pool's Fisher divergence exceeds the average."""
    margin = get("linear-pool-fisher").margin(target_mean=0.0, target_variance=1.0, means=[2.0, 0.0], variances=[1.0, 1e4], weights=[0.5, 0.5])
    assert float(margin) + float(margin.error) < -0.4
