"""A domain is one description: its strategy, its chart, its draws and its rational neighbours must all agree with membership."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from ensembletheory.claims import Domain, NoRational, orthogonal, positive, real, simplex, spd
from ensembletheory.claims.rationals import floats

EVERY_PART = Domain(
    scalar=real(-1, 2),
    vector=real(0.05, 0.1, shape=(3,)),
    scale=positive(1e-4, 1e3, shape=(2,)),
    weights=simplex(3),
    table=simplex(shape=(2, 2)),
    matrix=spd(3, 0.1, 5),
    matrices=spd(2, 0.5, 2, shape=(2,)),
    rotation=orthogonal(3),
    line=spd(1, 1, 2),
)
BOUNDS = st.sampled_from([1, 2, 3, 7, 20, 1000])
chart = jax.jit(EVERY_PART.instance)


def in_exact_arithmetic(instance: dict) -> bool:
    """The statements that hold without rounding: weights sum to 1, matrices are symmetric, rotations orthogonal."""
    sums = [instance["weights"].sum(), *instance["table"].sum(axis=-1)]
    symmetric = np.all(instance["matrix"] == instance["matrix"].T)
    product = instance["rotation"] @ instance["rotation"].T
    return all(total == 1 for total in sums) and symmetric and np.all(product == np.eye(3, dtype=int))


def test_size_counts_the_degrees_of_freedom_and_the_redundant_one_of_each_simplex():
    assert EVERY_PART.size == 1 + 3 + 2 + 3 + 4 + 6 + 2 * 3 + 3 + 1


@given(EVERY_PART.strategy())
def test_strategy_draws_members(instance):
    EVERY_PART.check(instance)


@pytest.mark.parametrize("corner", [-1.0, 2.0])
def test_strategy_reaches_the_ends_of_a_box(corner):
    find(Domain(x=real(-1, 2)).strategy(), lambda instance: float(instance["x"]) == corner)  # raises NoSuchExample otherwise


@pytest.mark.parametrize("scale", [1.0, 10.0, 800.0])
def test_chart_never_leaves_the_domain(scale):
    u = scale * np.random.default_rng(0).standard_normal((20, EVERY_PART.size))
    for row in u:
        EVERY_PART.check(chart(jnp.asarray(row)))


def test_chart_reaches_every_point_of_the_interior():
    """Invert the chart by hand at one point: logits, log-logits, log-weights; and a matrix with its own rotation and spectrum."""
    domain = Domain(a=real(-1, 2), b=positive(0.01, 100), w=simplex(3), S=spd(2, 0.5, 8))
    angle, spectrum = 0.7, np.array([1.0, 4.0])
    Q = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    logit = lambda p: np.log(p / (1 - p))  # noqa: E731
    place = np.log(spectrum / 0.5) / np.log(16)
    u = [logit(0.25), logit(0.75), *np.log([0.2, 0.3, 0.5]), *logit(place), angle]
    point = domain.instance(jnp.asarray(u))
    np.testing.assert_allclose(point["a"], -0.25, rtol=1e-14)
    np.testing.assert_allclose(point["b"], 10.0, rtol=1e-14)
    np.testing.assert_allclose(point["w"], [0.2, 0.3, 0.5], rtol=1e-14)
    np.testing.assert_allclose(point["S"], Q @ np.diag(spectrum) @ Q.T, rtol=1e-13)


def test_chart_is_differentiable_with_the_derivative_of_its_differences():
    u = jnp.asarray(np.random.default_rng(1).standard_normal(EVERY_PART.size))
    v = jnp.asarray(np.random.default_rng(2).standard_normal(EVERY_PART.size))
    slope = jax.jvp(chart, (u,), (v,))[1]
    step = 1e-5  # central differences: error step^2 times a third derivative (at most about 1e3 here), and rounding 1e-16 * 1e3 / step
    ahead, behind = chart(u + step * v), chart(u - step * v)
    for name in EVERY_PART.parts:
        np.testing.assert_allclose(slope[name], (ahead[name] - behind[name]) / (2 * step), atol=1e-6, err_msg=name)


@given(EVERY_PART.strategy(), BOUNDS)
def test_snapping_stays_in_the_domain_exactly_or_says_that_it_cannot(instance, bound):
    try:
        snapped = EVERY_PART.snap(instance, bound)
    except NoRational:
        assert bound < 20  # a box as narrow as [0.05, 0.1] or [0.5, 2] for 2 x 2 spectra holds a fraction with denominator 20
        return
    assert in_exact_arithmetic(snapped)
    EVERY_PART.check({name: floats(value) for name, value in snapped.items()})


@given(Domain(x=real(-1, 2), s=positive(1e-4, 1e3), w=simplex(3)).strategy(), st.sampled_from([1, 5, 64]))
def test_snapping_is_small_and_near(instance, bound):
    domain = Domain(x=real(-1, 2), s=positive(1e-4, 1e3), w=simplex(3))
    snapped = domain.snap(instance, bound)
    x, s = snapped["x"][()], snapped["s"][()]
    assert x.denominator <= bound
    assert s.denominator <= bound or s.numerator <= bound
    assert all(bound % weight.denominator == 0 for weight in snapped["w"])
    assert abs(x - Fraction(float(instance["x"]))) <= Fraction(1, 2 * bound)
    assert np.all(abs(floats(snapped["w"]) - instance["w"]) <= 1 / bound)


@pytest.mark.parametrize("angle", [0.3, np.pi, np.pi - 1e-9])
def test_rotations_snap_to_rational_rotations_half_turns_included(angle):
    domain = Domain(Q=orthogonal(3))
    Q = domain.instance(jnp.asarray([angle, 0.0, 0.0]))["Q"]
    snapped = domain.snap({"Q": Q}, 64)["Q"]
    assert np.all(snapped @ snapped.T == np.eye(3, dtype=int))
    np.testing.assert_allclose(floats(snapped), Q, atol=2 / 64)  # the Cayley transform has derivative at most 2, and rounds by 1/128


def test_a_narrow_box_has_no_small_fraction():
    with pytest.raises(NoRational, match=r"`x`.*bound.* = 2"):
        Domain(x=real(0.3, 0.4)).snap({"x": 0.33}, 2)
    assert Domain(x=real(0.3, 0.4)).snap({"x": 0.33}, 3)["x"][()] == Fraction(1, 3)


def test_draws_fill_the_box_and_favour_its_boundary():
    draws = jax.vmap(Domain(x=real(0, 1)).sample)(jax.random.split(jax.random.key(0), 4000))["x"]
    # half uniform, half with logits spread by 3: P(x < 1/10) = 1/2 (1/10) + 1/2 sigmoid(logit(1/10) / 3)
    expected = 0.5 * 0.1 + 0.5 / (1 + 9 ** (1 / 3))
    standard_error = np.sqrt(expected * (1 - expected) / 4000)
    assert abs(np.mean(np.asarray(draws) < 0.1) - expected) < 5 * standard_error
    assert draws.min() >= 0
    assert draws.max() <= 1


GOOD = {"x": 0.5, "w": [0.25, 0.75], "S": [[2.0, 0.5], [0.5, 1.0]], "Q": np.eye(2)}
SMALL = Domain(x=real(0, 1), w=simplex(2), S=spd(2, 0.5, 3), Q=orthogonal(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": 1.5}, r"`x`: got numbers between 1.5 and 1.5; expected \[0, 1\]"),
        ({"x": [0.5]}, r"`x`: got shape \(1,\)"),
        ({"x": np.nan}, "`x`: got 1 NaN"),
        ({"w": [0.5, 0.6]}, "`w`: got weights that sum to 1.1"),
        ({"w": [-0.5, 1.5]}, "`w`: got a weight of -0.5"),
        ({"S": [[2.0, 0.5], [0.4, 1.0]]}, "`S`: got a matrix that differs from its transpose by 0.1"),
        ({"S": [[2.0, 1.9], [1.9, 2.0]]}, "`S`: got eigenvalues between 0.1 and 3.9"),
        ({"Q": [[1.0, 0.1], [0.0, 1.0]]}, "`Q`: got a matrix with Q Q"),
        ({"Q": [[0.0, 1.0], [1.0, 0.0]]}, "`Q`: got a reflection"),
        ({"y": 1.0}, r"the names \['Q', 'S', 'w', 'x', 'y'\]"),
    ],
)
def test_membership_errors_name_the_part(change, message):
    SMALL.check(GOOD)
    with pytest.raises(ValueError, match=message):
        SMALL.check({**GOOD, **change})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: real(1, 1), "lo < hi"),
        (lambda: real(0, np.inf), "finite"),
        (lambda: positive(0, 1), "0 < lo"),
        (lambda: spd(2, -1, 1), "0 < lo"),
        (lambda: spd(0, 1, 2), "at least 1"),
        (lambda: simplex(0), "at least one member"),
        (lambda: simplex(2, shape=(3, 2)), "one of the two"),
        (lambda: Domain(), "at least one named part"),
        (lambda: Domain(x=3.0), "a part of a domain"),
    ],
)
def test_malformed_domains_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_missing_hypothesis_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "hypothesis.strategies", None)
    with pytest.raises(ImportError, match=r"ensembletheory\[test\]"):
        SMALL.strategy()


def test_finite_support_laws_are_a_domain():
    """Points with probabilities: the variance of a law on four points of the plane is at most the squared radius of the box."""
    domain = Domain(points=real(-1, 1, shape=(4, 2)), probabilities=simplex(4))

    @given(domain.strategy())
    def check(instance):
        points, probabilities = instance["points"], instance["probabilities"]
        mean = probabilities @ points
        assert probabilities @ np.sum((points - mean[None, :]) ** 2, axis=1) <= 2 + 1e-12

    check()
    snapped = domain.snap(domain.sample(jax.random.key(0)), 4)
    assert sum(snapped["probabilities"]) == 1
    assert {q.denominator for q in snapped["points"].ravel()} <= {1, 2, 3, 4}
