"""The Kac law: its target numbers, its equations, its draws, and its convolution with a Gaussian, by unscaled Bessel functions and adaptive quadrature."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import integrate, stats

from ensembletheory.laws import KacLaw
from tests.helpers import assert_mean
from tests.laws.kac_by_hand import parts, smoothed

C, A, T = 3.0, 9.0, 0.7


def law(c=C, a=A, t=T):
    return KacLaw(c, a, t)


def mean_of(function, c, a, t):
    """E f(X) by quadrature and the atoms."""
    between = integrate.quad(lambda x: function(x) * sum(parts(c, a, t, x)), -c * t, c * t, epsabs=1e-13, epsrel=1e-13)[0]
    return between + np.exp(-a * t) / 2 * (function(c * t) + function(-c * t))


def test_target_numbers():
    """The numbers of the theory, and the same by hand."""
    kac, (plus, minus) = law(), parts(C, A, T, 0.9)
    densities, rates = np.asarray(kac.densities(0.9)), np.asarray(kac.reverse_rates(0.9))
    found = [kac.variance, kac.density(0.9), kac.velocity(0.9), densities[0] / densities.sum(), rates[0]]
    by_hand = [mean_of(np.square, C, A, T), plus + minus, C * (plus - minus) / (plus + minus), plus / (plus + minus), A * minus / plus]
    np.testing.assert_allclose(np.array(found), [0.6444446318, 0.2804777861, 0.6442008096, 0.6073668, 5.818063773], rtol=2e-10, atol=2e-8)
    np.testing.assert_allclose(np.array(found), by_hand, rtol=1e-12)
    assert rates[1] == pytest.approx(A * plus / minus, rel=1e-12)
    u = float(kac.velocity(0.9))
    assert rates[0] == pytest.approx(A * (1 - u / C) / (1 + u / C), rel=1e-12)


@pytest.mark.parametrize(("c", "a", "t"), [(3.0, 9.0, 0.7), (0.5, 0.2, 1.3), (2.0, 40.0, 2.0)])
def test_mass_moments_and_transform(c, a, t):
    kac = law(c, a, t)
    assert mean_of(lambda x: 1.0, c, a, t) == pytest.approx(1, rel=1e-12)
    assert float(kac.variance) == pytest.approx(c**2 / a * (t - (1 - np.exp(-2 * a * t)) / (2 * a)), rel=1e-13)
    assert float(kac.moment(4)) == pytest.approx(mean_of(lambda x: x**4, c, a, t), rel=1e-11)
    assert float(kac.moment(3)) == 0
    frequencies = np.array([0.0, 0.7, a / c, 3.0 * a / c])
    np.testing.assert_allclose(kac.transform(frequencies), [mean_of(lambda x: np.cos(w * x), c, a, t) for w in frequencies], atol=1e-11)  # noqa: B023
    np.testing.assert_array_equal(np.asarray(kac.densities(np.array([-1.01, 1.01, 1.0, 0.0]) * c * t))[:, 0] > 0, [False, False, True, True])


def test_moments_of_very_short_and_very_long_times():
    assert float(law(t=1e-9).moment(6)) == pytest.approx((C * 1e-9) ** 6, rel=1e-7)
    assert float(law(t=1e4).moment(4)) == pytest.approx(3 * (C**2 * 1e4 / A) ** 2, rel=1e-4)
    assert float(law(t=0.0).variance) == 0


def test_the_transport_equations():
    """d_t p_+- = -+ c d_x p_+- + a (p_-+ - p_+-) at points between the atoms, near them and on them."""
    at = jax.jit(jax.vmap(lambda x: jax.jvp(lambda t, y: jnp.exp(KacLaw(C, A, t).log_parts(y)), (jnp.asarray(T), x), (jnp.asarray(1.0), jnp.asarray(0.0)))[1]))
    along = jax.jit(jax.vmap(lambda x: jax.jvp(lambda y: jnp.exp(KacLaw(C, A, T).log_parts(y)), (x,), (jnp.asarray(1.0),))))
    x = np.array([-2.0, -0.9, 0.0, 0.9, 1.7, 2.0999])
    (p, slopes), rates = along(x), at(x)
    residual = np.asarray(rates) + C * np.array([1, -1]) * np.asarray(slopes) - A * (np.asarray(p)[:, ::-1] - np.asarray(p))
    assert np.max(np.abs(residual)) < 1e-12 * A


def test_many_turns_make_a_gaussian():
    """c^2 / a = 1: N(0, t), and the velocity x / (2 t)."""
    kac, x = law(300.0, 90_000.0, T), np.array([-1.0, 0.4, 2.0])
    np.testing.assert_allclose(kac.density(x), stats.norm(0, np.sqrt(T)).pdf(x), rtol=2e-4)
    np.testing.assert_allclose(kac.velocity(x), x / (2 * T), rtol=2e-4)


def test_few_turns_leave_the_mean_velocity_between_the_atoms_near_0():
    """Whoever is there has turned, once more likely than twice: u = x / (t + 2 / a) up to a^3."""
    x = np.linspace(-0.999, 0.999, 3)
    np.testing.assert_allclose(law(1.0, 1e-3, 1.0).velocity(x), x / (1 + 2e3), rtol=1e-6)


@pytest.mark.parametrize(("c", "a", "t"), [(0.5, 0.4, 1.3), (3.0, 9.0, 0.7)])
def test_draws(c, a, t):
    """The masses of both ends, the variance, and the law of place and velocity in cells."""
    kac = law(c, a, t)
    x, v = map(np.asarray, kac.sample_with_velocity(jax.random.key(3), 20_000))
    assert_mean(np.abs(x) > c * t * (1 - 1e-12), np.exp(-a * t))
    assert_mean(x**2, float(kac.variance))
    for low, high in ((-0.6 * c * t, -0.2 * c * t), (0.1 * c * t, 0.9 * c * t)):
        for sign, index in ((1, 0), (-1, 1)):
            mass = integrate.quad(lambda y: parts(c, a, t, y)[index], low, high)[0]  # noqa: B023
            assert_mean((x > low) & (x < high) & (v == sign), mass)
    np.testing.assert_array_equal(kac.sample(jax.random.key(3), 20_000)[:, 0], x)


@pytest.mark.parametrize(
    ("c", "a", "t", "x", "s"),
    [
        (3, 9, 0.7, 0.9, 0.1),
        (3, 9, 0.7, 2.6, 0.05),  # ten standard deviations beyond the cone
        (3, 9, 0.7, -5.0, 0.05),
        (3, 90, 1.0, 3.2, 0.2),
        (2, 0.01, 1, 1.9, 0.5),
        (3, 9, 1, 1.0, 1e-3),
        (3, 9, 1e-3, 0.1, 0.3),
    ],
)
def test_smoothed_by_a_gaussian(c, a, t, x, s):
    found = _smoothed(*map(float, (c, a, t, x, s)))
    np.testing.assert_allclose(found, [float(mpmath.log(value)) for value in smoothed(c, a, t, x, s)], rtol=3e-13, atol=3e-13)


_smoothed = jax.jit(lambda c, a, t, x, s: KacLaw(c, a, t).smoothed_log_parts(x, s))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: KacLaw(0.0, 1.0, 1.0), "`speed`: got 0; expected a number above 0"),
        (lambda: KacLaw(1.0, -2.0, 1.0), "`rate`: got -2; expected a number above 0"),
        (lambda: KacLaw(1.0, 1.0, -1.0), "`time`: got -1; expected a number of 0 or more"),
        (lambda: KacLaw([1.0, 2.0], 1.0, 1.0), r"`speed`: got shape \(2,\)"),
        (lambda: law().moment(0), "`order`: got 0"),
        (lambda: law().marginal([1]), "`dims`"),
        (lambda: law().condition([0], [1.0]), "`dims`"),
    ],
)
def test_bad_input(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("ask", [lambda k: k.log_prob([0.1]), lambda k: k.score([0.1]), lambda k: k.entropy(), lambda k: k.pieces(), lambda k: k.push([[1.0]], [0.0])])
def test_there_is_no_density(ask):
    with pytest.raises(TypeError, match="KacLaw"):
        ask(law())
