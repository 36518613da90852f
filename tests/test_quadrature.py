r"""Honesty of the quadrature: on a table of hostile integrals with exact values the true error never exceeds the reported one.

Exact values: Gaussian formulas written out here; mixtures whose components are so far apart that they do not see each other (what is neglected is below exp(-100)); elementary
antiderivatives.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import ensembletheory as et
from ensembletheory.quadrature import integrate
from tests.helpers import spd

RATIOS, SHIFTS = (1e-8, 1e-4, 1.0, 1e4, 1e8), (0.0, 1.0, 40.0)


def single(mean, cov):
    """A Gaussian as a mixture of one, so that no closed form applies."""
    return et.GaussianMixture([1.0], [mean], [cov])


def pair(weight, gap, widths):
    return et.GaussianMixture([weight, 1 - weight], [[0.0], [gap]], [[[widths[0]]], [[widths[1]]]])


def gaussian_kl(m, P, n, Q):
    m, P, n, Q = (np.atleast_1d(np.asarray(part, dtype=float)) for part in (m, P, n, Q))
    P, Q = P.reshape(m.size, -1), Q.reshape(m.size, -1)
    M = np.linalg.solve(Q, P)
    return 0.5 * (np.trace(M) - m.size - np.linalg.slogdet(M)[1] + (m - n) @ np.linalg.solve(Q, m - n))


def entropy(variance):
    return 0.5 * math.log(2 * math.pi * math.e * variance)


def kl_cases():
    for ratio in RATIOS:
        for shift in SHIFTS:
            yield f"kl-ratio{ratio:g}-shift{shift:g}", lambda r=ratio, s=shift: (et.kl(single([s], [[1.0]]), single([0.0], [[r]])), gaussian_kl(s, 1.0, 0.0, r))


def fisher_cases():
    for ratio in RATIOS:
        for shift in SHIFTS:

            def case(r=ratio, s=shift):
                return et.fisher_divergence(single([s], [[1.0]]), single([0.0], [[r]])), (1 / r - 1) ** 2 + (s / r) ** 2

            yield f"fisher-ratio{ratio:g}-shift{shift:g}", case


def separated_cases():
    for weight in (0.5, 1e-3):
        for gap, widths in ((40.0, (1.0, 1.0)), (4e5, (1.0, 1e8)), (40.0, (1.0, 1e-8)), (1e6, (1e-4, 1e4))):
            name = f"weight{weight:g}-gap{gap:g}-variances{widths[0]:g},{widths[1]:g}"

            def entropy_case(w=weight, g=gap, s=widths):
                exact = w * (entropy(s[0]) - math.log(w)) + (1 - w) * (entropy(s[1]) - math.log1p(-w))
                return pair(w, g, s).entropy(), exact

            def kl_case(w=weight, g=gap, s=widths):
                exact = w * math.log(w / 0.3) + (1 - w) * math.log((1 - w) / 0.7) + w * gaussian_kl(0.0, s[0], 0.0, 2 * s[0]) + (1 - w) * gaussian_kl(g, s[1], g, s[1] / 2)
                return et.kl(pair(w, g, s), pair(0.3, g, (2 * s[0], s[1] / 2))), exact

            yield f"entropy-{name}", entropy_case
            yield f"kl-separated-{name}", kl_case


def w2_cases():
    for ratio in RATIOS:

        def shifted(r=ratio):
            return et.w2_squared(single([3.0], [[1.0]]), single([0.0], [[r]])), 9.0 + (1 - math.sqrt(r)) ** 2

        yield f"w2-ratio{ratio:g}", shifted
    for gap, widths in ((40.0, (1.0, 1.0)), (40.0, (1.0, 1e-4)), (400.0, (1e-2, 4.0))):

        def separated(g=gap, s=widths):
            exact = 0.3 * (0.5 * math.sqrt(s[0])) ** 2 + 0.7 * (2.0**2 + (math.sqrt(s[1]) / 2) ** 2)
            return et.w2_squared(pair(0.3, g, s), pair(0.3, g + 2.0, (2.25 * s[0], s[1] / 4))), exact

        yield f"w2-separated-gap{gap:g}-variances{widths[0]:g},{widths[1]:g}", separated


def plane_cases():
    rng = np.random.default_rng(0)
    for low in (1.0, 1e-2, 1e-4):
        P, Q = spd(rng, 2, low, 1.0), spd(rng, 2, low, 1.0)
        yield f"kl-2d-rotated-{low:g}", lambda P=P, Q=Q: (et.kl(single([0.5, -1.0], P), single([0.0, 0.0], Q)), gaussian_kl([0.5, -1.0], P, [0.0, 0.0], Q))
    for scale in (1.0, 1e-3):

        def case(s=scale):
            law = et.GaussianMixture([0.4, 0.6], [[0.0, 0.0], [40.0, -40.0]], [[[1.0, 0.3], [0.3, 1.0]], [[s, 0.0], [0.0, 1.0]]])
            first, second = math.log(2 * math.pi * math.e) + 0.5 * math.log(1 - 0.09), math.log(2 * math.pi * math.e) + 0.5 * math.log(s)
            return law.entropy(), 0.4 * (first - math.log(0.4)) + 0.6 * (second - math.log(0.6))

        yield f"entropy-2d-{scale:g}", case


def elementary(name, function, breaks, exact):
    def integrand(x):
        value = function(x[0])
        return value, jnp.abs(value)

    return f"elementary-{name}", lambda: (integrate(Partial(integrand), (jnp.asarray(breaks),)), exact)


ELEMENTARY = [
    elementary("lorentz", lambda x: 1 / (1 + 1e6 * x**2), [-1.0, 1.0], 2e-3 * math.atan(1e3)),
    elementary("kink", lambda x: jnp.abs(x - 1 / 3), [0.0, 1.0], 5 / 18),
    elementary("root", lambda x: jnp.sqrt(x), [0.0, 1.0], 2 / 3),
    elementary("log", lambda x: jnp.log(x), [0.0, 0.1, 1.0], -1.0),
    elementary("waves", lambda x: jnp.cos(100 * x), [0.0, 1.0], math.sin(100.0) / 100),
    elementary("cancelling", lambda x: 1e8 * x + 1.0, [-1.0, 0.25, 1.0], 2.0),
    elementary("step", lambda x: jnp.where(x > 0.3, 1.0, 0.0), [0.0, 1.0], 0.7),
    elementary("exponential", lambda x: jnp.exp(-50 * x), [0.0, 1.0], -math.expm1(-50.0) / 50),
]
TABLE = dict([*kl_cases(), *fisher_cases(), *separated_cases(), *w2_cases(), *plane_cases(), *ELEMENTARY])
CANCELLING = {name for name in TABLE if name == "elementary-cancelling"}


def test_the_table_is_long_enough_and_its_names_differ():
    assert len(TABLE) >= 60


@pytest.mark.parametrize("name", TABLE)
def test_reported_error_covers_the_true_one(name):
    estimate, exact = TABLE[name]()
    assert estimate.kind == "quadrature"
    rounding_of_exact = 8 * np.finfo(float).eps * max(abs(exact), 1e-300)
    assert abs(float(estimate) - exact) <= float(estimate.error) + rounding_of_exact, f"{estimate} is not {exact}"
    if exact and name not in CANCELLING:
        assert float(estimate.error) <= 1e-6 * abs(exact), f"an error of {estimate} is honest but useless"


def test_fixed_panels_answer_under_transformations():
    def entropy_of_width(width):
        return et.GaussianMixture(jnp.ones(1), jnp.zeros((1, 1)), width[None, None, None]).entropy().value

    widths = jnp.asarray([0.1, 1.0, 10.0])
    np.testing.assert_allclose(jax.jit(jax.vmap(entropy_of_width))(widths), [entropy(w) for w in widths], rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(jax.grad(entropy_of_width))(widths), 1 / (2 * widths), rtol=1e-10)
