"""What a margin may return, and what is said of one that returns anything else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembletheory import Estimate, claims
from ensembletheory.claims import ClaimError, Domain, Mutant, claim, real
from tests.claims.toys import toy


def estimate(value, error, kind):
    return Estimate(jnp.asarray(value), jnp.asarray(error), kind)


@pytest.mark.parametrize(
    "returned",
    [0.25, np.float64(0.25), np.array(0.25), jnp.asarray(0.25), estimate(0.25, 0.0, "closed_form")],
    ids=["float", "numpy scalar", "numpy array", "jax array", "Estimate"],
)
def test_a_margin_may_return_any_real_number(returned):
    margin = toy(lambda x: returned).margin(x=1.0)
    assert (float(margin), float(margin.error), margin.kind) == (0.25, 0.0, "closed_form")


def test_an_integer_counts_as_a_number():
    assert float(toy(lambda x: 2).margin(x=1.0)) == 2.0


def test_calling_a_claim_calls_the_function_as_written():
    decorated = toy(lambda x: "anything" if x > 100 else x)
    assert decorated(x=101) == "anything"
    assert decorated(7) == 7


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: jnp.log(-1 - x**2), "returned NaN"),
        (lambda x: jnp.stack([x, x]), r"returned shape \(2,\)"),
        (lambda x: estimate([1.0, 2.0], [0.0, 0.0], "closed_form"), r"returned shape \(2,\)"),
        (lambda x: estimate(1.0, np.nan, "quadrature"), "returned NaN"),
        (lambda x: None, "returned NoneType"),
        (lambda x: "positive", "returned str"),
        (lambda x: True, "returned bool"),
        (lambda x: x > 0, "returned dtype bool"),
        (lambda x: jax.lax.complex(x, x), "returned dtype complex128"),
        (lambda x: 1 / 0, "raised ZeroDivisionError: division by zero"),
    ],
)
def test_other_margins_are_refused_with_the_claim_and_the_instance(function, message):
    with pytest.raises(ClaimError, match=rf"claim `toy`: its margin {message} at x=1.5; expected one real number"):
        toy(function).margin(x=1.5)


@pytest.mark.parametrize("function", [lambda x: jnp.log(-1 - x**2), lambda x: jnp.stack([x, x]), lambda x: 1 / 0, lambda x: None])
@pytest.mark.parametrize("use", [claims.check, lambda claim: claims.falsify(claim, budget=200)], ids=["check", "falsify"])
def test_check_and_falsify_refuse_them_too(function, use):
    with pytest.raises(ClaimError, match="claim `toy`: its margin"):
        use(toy(function))


def test_a_margin_that_is_nan_only_somewhere_is_found_out():
    with pytest.raises(ClaimError, match=r"returned NaN at x=2\.[5-9]"):
        claims.check(toy(lambda x: jnp.sqrt(2.5 - x)))


def test_instances_outside_the_domain_are_refused():
    with pytest.raises(ValueError, match=r"`x`: got numbers between 4 and 4; expected \[-3, 3\]"):
        toy(lambda x: x).margin(x=4.0)
    with pytest.raises(ValueError, match=r"exactly \['x'\]"):
        toy(lambda x: x).margin(y=1.0)


def test_arguments_must_be_the_parts_of_the_domain():
    with pytest.raises(ValueError, match="`margin`: got arguments that do not fit.*mean, variance.*claim `named`"):
        claim(id="named", statement="s", source="t", domain=Domain(mean=real(0, 1), variance=real(1, 2)))(lambda mean, var: mean)


@pytest.mark.parametrize(("change", "message"), [({"id": "../escape"}, "`id`: got '../escape'"), ({"id": "Upper"}, "`id`"), ({"kind": "true"}, "`kind`: got 'true'")])
def test_malformed_claims_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        claim(**{"id": "toy", "statement": "s", "source": "t", "domain": Domain(x=real(0, 1)), **change})(lambda x: x)


def test_a_claim_is_a_conjecture_unless_it_says_otherwise():
    assert claim(id="open", statement="s", source="t", domain=Domain(x=real(0, 1)))(lambda x: x).kind == "conjecture"


@pytest.mark.parametrize(
    ("value", "error", "kind", "violated"),
    [
        (-1e-10, 0.0, "closed_form", False),  # rounding
        (-1e-8, 0.0, "closed_form", True),
        (-0.1, 0.2, "quadrature", False),
        (-0.3, 0.2, "quadrature", True),
        (-1.0, 0.2, "monte_carlo", False),  # five standard errors, and six are asked
        (-1.3, 0.2, "monte_carlo", True),
        (-np.inf, 0.0, "closed_form", True),
    ],
)
def test_a_violation_is_beyond_error_and_rounding(value, error, kind, violated):
    result = claims.check(toy(lambda x: estimate(value + 0.0 * float(x), error, kind)), samples=2)
    assert result.holds is not violated


def test_mutants_drop_a_hypothesis_and_keep_the_rest():
    original = toy(lambda x: 1.0 + x, kind="theorem", domain=Domain(x=real(0, 1)), mutants={"sign": Mutant("x >= 0", domain=Domain(x=real(-3, 1)))})
    mutant = original.mutated("sign")
    assert (mutant.id, mutant.kind, float(mutant.margin(x=-2.0))) == ("toy.sign", "conjecture", -1.0)
    assert "x >= 0" in mutant.statement
    with pytest.raises(ValueError, match=r"'no such'; expected one of \['sign'\]"):
        original.mutated("no such")


def test_32_bits_are_refused():
    with jax.enable_x64(False):
        for use in (lambda: toy(lambda x: x).margin(x=1.0), lambda: claims.check("log-pool-kl"), lambda: claims.falsify("log-pool-kl")):
            with pytest.raises(RuntimeError, match=r"got 32-bit arithmetic.*enable_x64\(\)"):
                use()


def test_unknown_ids_show_the_nearest():
    with pytest.raises(ValueError, match=r"'log-pol-kl'; expected one of .* Nearest: log-pool-kl"):
        claims.get("log-pol-kl")
    with pytest.raises(ValueError, match="No id resembles it"):
        claims.get("@@@@")
