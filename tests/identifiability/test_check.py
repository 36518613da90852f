"""The check says yes where theory does, no in every control, and what is wrong with a user's own law or group."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.identifiability import MODELS, Action, Orthogonal, Permutations, Signs, check, ledermann
from ensembletheory.identifiability.search import Pair

CONTROLS = [(name, control) for name, model in MODELS.items() for control in model.controls]


def normal(key, *shape):
    return np.asarray(jax.random.normal(key, shape))


@pytest.mark.parametrize("name", MODELS)
def test_the_table_holds_with_its_modulus(name):
    model = MODELS[name]
    report = model.check()
    assert report.holds, str(report)
    assert report.exponent == pytest.approx(model.exponent, abs=0.1)
    assert report.constant > 0.01
    assert report.reached >= 0.8 * report.searches
    assert report.invariance < 1e-12


@pytest.mark.parametrize(("name", "control"), CONTROLS)
def test_every_control_fails_for_the_right_reason(name, control):
    report = MODELS[name].check(control)
    assert not report.holds
    assert report.invariant
    assert not report.broken
    assert report.suspects
    assert report.suspects[0].quotient > 0.05
    assert "not identified up to" in str(report)


def test_a_suspect_is_a_pair_of_equal_laws_on_different_orbits():
    """One factor on two coordinates: w1 w2 and the two variances are all that is seen."""
    for pair in MODELS["factor-analysis"].check("one factor, two coordinates").suspects[:3]:
        covariances = [p["loadings"] @ p["loadings"].T + np.diag(np.exp(p["log_noise"])) for p in (pair.a, pair.b)]
        np.testing.assert_allclose(*covariances, atol=1e-8)
        assert abs(abs(pair.a["loadings"]) - abs(pair.b["loadings"])).max() > 1e-3


def test_the_worst_pair_attains_the_constant():
    report = check(lambda W: W @ W.T, Orthogonal(2), lambda key: normal(key, 3, 2))
    a, b = report.worst.a, report.worst.b
    assert report.worst.quotient == pytest.approx(Action(Orthogonal(2)).distance(a, b), rel=1e-9)
    assert report.worst.law == pytest.approx(np.linalg.norm(a @ a.T - b @ b.T), rel=1e-9)
    assert report.constant == pytest.approx(report.worst.law / report.worst.quotient**report.exponent, rel=1e-9)
    assert report.exponent == 1


def test_the_constant_is_below_the_theory_for_a_regular_point():
    """|W W^T - V V^T|^2 >= 2 (sqrt 2 - 1) s_q(W)^2 d^2 (Tu et al. 2016), and no ray parts more slowly than the smallest derivative across the orbit, sqrt 2 s_q(W)."""
    W = np.array([[2.0, 0.0], [0.0, 0.5], [0.0, 0.0]])
    report = check(lambda a: a @ a.T, Orthogonal(2), [W])
    assert report.holds, str(report)
    assert np.sqrt(2 * (np.sqrt(2) - 1)) * 0.5 <= report.constant <= np.sqrt(2) * 0.5 * 1.01


def test_a_rank_deficient_point_has_the_exponent_two():
    """At W = 0 the law is quadratic: |V V^T| >= |V|^2 / sqrt 2, the exponent of the claim `procrustes-modulus`."""
    report = check(lambda a: a @ a.T, Orthogonal(2), [np.zeros((3, 2))])
    assert report.holds, str(report)
    assert report.exponent == 2
    assert np.sqrt(0.5) - 1e-9 <= report.constant <= 1


def test_too_small_a_group_is_told_from_one_too_large():
    gram = lambda W: W @ W.T  # noqa: E731
    draw = lambda key: normal(key, 3, 2)  # noqa: E731
    small = check(gram, Signs(2), draw)
    assert not small.holds
    assert small.suspects
    large = check(lambda W: W, Orthogonal(2), draw)
    assert not large.invariant
    assert "Orthogonal(2) changes the law" in large.verdict


def test_what_is_no_group_action_is_named():
    class Backwards(Action):
        def act(self, g, parameters):
            return super().act(g.T, parameters)

    report = check(lambda W: W @ W.T, Backwards(Orthogonal(3)), lambda key: normal(key, 3, 3))
    assert not report.holds
    assert "action: compatibility" in report.broken
    assert report.verdict.startswith("not an action of a group")


def test_a_mixture_is_observed_through_its_density():
    action, alone = Action(Permutations(2), 0), Action(Permutations(1), None)

    def pool(share):
        return lambda means: et.GaussianMixture([share, 1 - share], means[:, None], jnp.ones((2, 1)))

    draw = lambda key: 2 * normal(key, 2)  # noqa: E731
    report = check(pool(0.5), action, draw, points=3, searches=4)
    assert report.holds, str(report)
    assert not check(pool(0.5), alone, draw, points=3, searches=6).holds
    assert not check(pool(0.3), action, draw, points=2, searches=2).invariant


def test_a_law_written_in_numpy_is_checked_too():
    def law(W):
        return np.asarray(W, dtype=float) @ np.asarray(W, dtype=float).T

    report = check(law, Orthogonal(2), lambda key: normal(key, 3, 2), points=2, searches=4)
    assert report.holds, str(report)
    assert report.exponent == 1


def test_the_report_reads():
    lines = str(check(lambda W: W @ W.T, Orthogonal(2), lambda key: normal(key, 3, 2))).splitlines()
    assert lines[0].startswith("identified up to Orthogonal(2), as far as")
    assert lines[0].endswith("this is no proof")
    assert [line.split()[0] for line in lines[1:]] == ["axioms", "invariance", "converse", "collisions"]
    assert "law distance >= " in lines[3]
    assert str(Pair(None, None, 0.5, 0.25)) == "d_G = 0.5, law distance = 0.25"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.eye(2), Orthogonal(2), [np.eye(2)]), TypeError, "`law`: got ndarray; expected a function of the parameters"),
        ((lambda W: W, Orthogonal(2), []), ValueError, "`draw, points`: got no parameters"),
        ((lambda W: W, Orthogonal(3), [np.eye(2)]), ValueError, r"length 3 along that axis.*`axes` chooses"),
        ((lambda W: np.nan * W, Orthogonal(2), [np.eye(2)]), ValueError, "`law`: got NaN or infinite observables"),
        ((lambda W: W, Orthogonal(2), [np.eye(2), np.ones((3, 2))]), ValueError, "`parameters`: got .*Draw one kind"),
        ((lambda W: undefined, Orthogonal(2), [np.eye(2)]), NameError, "undefined"),
    ],
    ids=["no function", "no draws", "other size", "not finite", "ragged", "law raises"],
)
def test_mistakes_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        check(*arguments)


def test_unknown_controls_are_refused():
    with pytest.raises(ValueError, match=r"`control`: got 'none'; expected one of \['as many factors as coordinates'\]"):
        MODELS["ppca"].check("none")


def test_references_of_the_table_can_be_cited():
    from ensembletheory.claims.bibliography import bibtex

    for model in MODELS.values():
        assert bibtex(list(model.references)).count("@") >= len(model.references)


def test_ledermann_counts_equations():
    """The largest q with d q - q (q - 1) / 2 + d <= d (d + 1) / 2."""
    for d in range(1, 40):
        enough = [q for q in range(d + 1) if d * q - q * (q - 1) // 2 + d <= d * (d + 1) // 2]
        assert ledermann(d) == max(enough)
    with pytest.raises(ValueError, match="`dim`"):
        ledermann(0)
