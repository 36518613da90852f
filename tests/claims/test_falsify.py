"""The search finds what is there, shrinks it, verifies it, and says what it did when nothing is there."""

import json
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from scipy.optimize import minimize

from ensembletheory import Estimate
from ensembletheory.claims import Domain, check, falsify, positive, real, search, simplex, spd
from ensembletheory.claims.evaluation import Evaluator
from ensembletheory.claims.stored import as_numbers
from tests.claims.toys import LARGEST_RATIO, ratio, toy, triangle


def test_the_largest_ratio_by_another_optimiser():
    """Bounded L-BFGS of SciPy on the same ratio in one dimension, from 20 starts."""
    box = [(-3, 3)] * 3 + [(-2, 2)] * 3
    starts = np.random.default_rng(0).uniform(*np.transpose(box), (20, 6))
    found = [minimize(lambda v: -ratio(v[:3, None], np.exp(v[3:, None]), np), start, bounds=box).fun for start in starts]
    np.testing.assert_allclose(-min(found), LARGEST_RATIO, rtol=1e-9)


def test_gradient_search_refutes_a_false_constant_that_random_draws_confirm():
    false = triangle(3, 8.0)
    assert check(false).holds  # in 18 dimensions thousands of random draws see nothing
    result = falsify(false, budget=10_000)
    assert result.found
    np.testing.assert_allclose(result.least, 8.0 - LARGEST_RATIO, rtol=1e-6)
    assert result.rehits > 0.3
    assert result.method == "L-BFGS"
    assert 8.0 - ratio(*as_numbers(result.instance).values(), np) < 0


def test_none_found_says_what_was_done():
    result = falsify(triangle(1, 11.0), budget=10_000)
    assert not result.found
    np.testing.assert_allclose(result.least, 11.0 - LARGEST_RATIO, atol=1e-6)
    assert 0.3 < result.rehits <= 1
    assert 5_000 < result.evaluations <= 10_000
    for said in ("none found", "10,000", "re-found by", f"{result.evaluations:,}", "this is no proof, and says nothing outside means in [-3, 3]^3x1"):
        assert said in result.verdict
    assert "true" not in result.verdict


def test_a_counterexample_shrinks_to_numbers_that_fit_on_a_line():
    """|x - y| <= 4 and S_11 <= 1.9: the corners are (3, -3) and spectra at the edge; small fractions do."""
    domain = Domain(x=real(-3, 3, shape=(2,)), s=positive(0.01, 10), w=simplex(2), S=spd(2, 0.5, 2))
    result = falsify(toy(lambda x, s, w, S: 4.0 - jnp.abs(x[0] - x[1]) - s * w[0] * S[0, 1], domain=domain), budget=2_000)
    numbers = [Fraction(text) for text in np.ravel([*result.instance["x"], result.instance["s"], *result.instance["w"]])]
    assert result.found
    assert max(max(abs(q.numerator), q.denominator) for q in numbers) <= 10
    instance = as_numbers(result.instance)
    margin = 4.0 - abs(instance["x"][0] - instance["x"][1]) - instance["s"] * instance["w"][0] * instance["S"][0, 1]
    np.testing.assert_allclose(result.margin, margin, rtol=1e-12)


def test_the_same_seed_finds_the_same_and_another_seed_searches_elsewhere():
    open_claim = toy(lambda x: float(x) ** 2 + 0.5)
    first, again, other = (falsify(open_claim, budget=100, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first.least != other.least


def test_a_stopped_search_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    hilly = toy(lambda x: jnp.sum(x**2 + jnp.cos(5 * x)) + 3, domain=Domain(x=real(-3, 3, shape=(2,))))
    played, play = [], search._Rounds._next

    def stopped_in_the_third_round(self, state):
        played.append(state.rounds)
        if played.count(2) == 1 and state.rounds == 2:
            raise KeyboardInterrupt
        return play(self, state)

    monkeypatch.setattr(search._Rounds, "_next", stopped_in_the_third_round)
    path = tmp_path / "toy.partial"
    with pytest.raises(KeyboardInterrupt):
        falsify(hilly, budget=5_000, checkpoint=path)
    assert path.is_file()
    resumed = falsify(hilly, budget=5_000, checkpoint=path)
    assert (played[:3], played[3]) == ([0, 1, 2], 2)
    assert not path.exists()
    assert resumed == falsify(hilly, budget=5_000)
    assert 4_000 < resumed.evaluations <= 5_000


def test_another_search_or_a_torn_file_is_not_taken_for_a_checkpoint(tmp_path):
    kept = search.Checkpoint(tmp_path / "kept")
    kept.save("this", search.Search(np.ones(2), np.zeros(2), 0.5, 0.25, np.arange(3.0), 1, 100))
    found = kept.load("this")
    assert (found.least_end, found.rounds, found.evaluations, found.method) == (0.5, 1, 100, "L-BFGS")
    np.testing.assert_array_equal(found.margins, np.arange(3.0))
    assert kept.load("that") is None
    kept.path.write_bytes(kept.path.read_bytes()[:100])
    assert kept.load("this") is None


def test_random_numbers_are_splitmix_of_a_counter():
    """SplitMix64 in Python's integers."""

    def mixed(x):
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    domain = Domain(x=real(-3, 3, shape=(2,)))
    drawn = Evaluator(toy(lambda x: jnp.sum(x), domain=domain)).draws(3, 7)
    uniform = [[(mixed((mixed(7) + (3 * i + j + 1) * 0x9E3779B97F4A7C15) % 2**64) >> 11) / 2**53 for j in range(3)] for i in range(3)]
    expected = [special.logit(row[1:]) * (1 if row[0] < 0.5 else 3) for row in uniform]
    np.testing.assert_allclose(drawn, expected, rtol=1e-12)


def test_blocks_shrink_with_the_memory_of_the_margin():
    closed, wide = (Evaluator(toy(lambda x, n=n: jnp.sum(jnp.sin(x * jnp.arange(1.0 * n))))).block for n in (3, 50_000))
    assert (closed, wide) == (1024, 32)


def numpy_margin(x):
    """Cannot be traced."""
    return float(np.sum(np.abs(np.asarray(x) - 1))) - 0.01


def step_margin(x):
    """Its gradient is zero wherever it exists: 1 - (number of coordinates in [1, 2])."""
    return 1.5 - jnp.sum(jnp.where((x >= 1) & (x <= 2), 1.0, 0.0))


def kinked_margin(x):
    """Its gradient is NaN where the first coordinate is below 2, which is nearly everywhere."""
    return jnp.where(x[0] < 2, jnp.sum(jnp.abs(x - 1)) + 0.0 * jnp.sqrt(jnp.maximum(x[0] - 2, 0.0)), 10.0) - 0.01


def integer_margin(x):
    return jnp.sum(jnp.where(x > 1, 0, 1)) - 1


def loop_margin(x):
    """A while loop has no reverse derivative."""
    return jax.lax.while_loop(lambda state: state[0] < 3, lambda state: (state[0] + 1, state[1] + jnp.sum((x - 1) ** 2)), (0, -0.1 + 0.0 * x[0]))[1]


@pytest.mark.parametrize("function", [numpy_margin, step_margin, kinked_margin, integer_margin, loop_margin])
def test_margins_without_a_usable_gradient_are_searched_by_compass(function):
    result = falsify(toy(function, domain=Domain(x=real(-3, 3, shape=(2,)))), budget=2_000)
    assert result.found
    assert "no usable gradient" in result.verdict


@pytest.mark.parametrize(("error", "found"), [(1.5, False), (0.5, True)])
def test_a_violation_within_the_error_is_no_counterexample(error, found):
    result = falsify(toy(lambda x: Estimate(jnp.asarray(float(x) ** 2 - 1), jnp.asarray(error), "quadrature")), budget=200)
    assert result.found is found
    np.testing.assert_allclose(result.least, -1, atol=0.01)


def test_a_compiled_violation_that_eager_evaluation_denies_is_no_counterexample():
    def two_faced(x):
        return -1.0 + 0.0 * x if isinstance(x, jax.core.Tracer) else 1.0

    result = falsify(toy(two_faced), budget=200)
    assert not result.found
    assert "denied" in result.verdict


def test_a_random_draw_that_violates_is_not_lost_when_descent_walks_into_a_larger_error():
    """The margin falls towards x = 3, where its error hides it; only x < 0 violates beyond the error."""
    result = falsify(toy(lambda x: Estimate(-1.0 - x / 10, jnp.where(x < 0, 0.1, 50.0), "quadrature")), budget=200)
    assert result.found
    assert float(as_numbers(result.instance)["x"]) < 0


def test_the_record_on_disk_is_whole_and_reads_back(tmp_path):
    result = falsify(toy(lambda x: float(x) + 2.5), budget=100)
    path = result.save(tmp_path / "deep" / "toy.json")
    record = json.loads(path.read_text())
    assert [child.name for child in path.parent.iterdir()] == ["toy.json"]
    assert record["instance"] == {"x": "-3"}
    assert record["margin"] == -0.5
    assert {"id", "statement", "domain", "seed", "budget", "evaluations", "least", "rehits", "ensembletheory"} <= set(record)


def test_infinite_margins_are_written_as_text(tmp_path):
    result = falsify(toy(lambda x: jnp.where(x < 0, -jnp.inf, 1.0)), budget=200)
    assert result.found
    assert json.loads(result.as_json(), parse_constant=lambda _: pytest.fail("not JSON"))["margin"] == "-inf"


def test_a_budget_that_says_nothing_is_refused():
    with pytest.raises(ValueError, match="`budget`: got 99; expected at least 100"):
        falsify("log-pool-kl", budget=99)
