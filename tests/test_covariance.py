import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembletheory import Gaussian
from ensembletheory.covariance import Dense, Diagonal, Isotropic, LowRankPlusDiagonal, as_covariance
from tests.helpers import spd

DIAGONAL = Diagonal(jnp.asarray([0.5, 2.0, 3.0]))
DENSE = Dense(jnp.asarray(spd(np.random.default_rng(0), 3)))
ISOTROPIC = Isotropic(0.7, 3)
LOW_RANK = LowRankPlusDiagonal([[1.0, 0.3], [-2.0, 0.4], [0.5, 1.5]], [0.4, 1.1, 0.2])
ALL = {"isotropic": ISOTROPIC, "diagonal": DIAGONAL, "low rank plus diagonal": LOW_RANK, "dense": DENSE}


@pytest.mark.parametrize("S", ALL.values(), ids=list(ALL))
def test_every_operation_is_that_of_the_matrix(S):
    matrix, x = np.asarray(S.as_matrix()), np.asarray([1.0, -2.0, 0.5])
    A = np.random.default_rng(1).normal(size=(2, 3))
    L = np.asarray(S.factor())
    np.testing.assert_allclose(L @ L.T, matrix, atol=1e-13)
    np.testing.assert_allclose(S.whiten(jnp.asarray(x)), np.linalg.pinv(L) @ x, atol=1e-13)
    z = np.linspace(-1.0, 2.0, S.width)
    np.testing.assert_allclose(S.unwhiten(jnp.asarray(z)), L @ z, atol=1e-13)
    np.testing.assert_allclose(S.solve(jnp.asarray(x)), np.linalg.solve(matrix, x), atol=1e-13)
    np.testing.assert_allclose(S.inverse().as_matrix(), np.linalg.inv(matrix), atol=1e-13)
    np.testing.assert_allclose(S.root().as_matrix() @ S.root().as_matrix(), matrix, atol=1e-13)
    np.testing.assert_allclose(S.logdet(), np.linalg.slogdet(matrix)[1], atol=1e-13)
    np.testing.assert_allclose(S.trace(), np.trace(matrix))
    np.testing.assert_allclose(S.diagonal(), np.diag(matrix))
    np.testing.assert_allclose(S.scaled(jnp.asarray(2.5)).as_matrix(), 2.5 * matrix)
    np.testing.assert_allclose(S.congruence(jnp.asarray(A)).as_matrix(), A @ matrix @ A.T, atol=1e-13)
    np.testing.assert_allclose(S.marginal([2, 0]).as_matrix(), matrix[np.ix_([2, 0], [2, 0])])
    rest, given = [2, 0], [1]
    gain = matrix[np.ix_(rest, given)] / matrix[1, 1]
    shift, remainder = S.regressed(rest, given, jnp.asarray([0.7]))
    np.testing.assert_allclose(shift, 0.7 * gain[:, 0], atol=1e-14)
    np.testing.assert_allclose(remainder.as_matrix(), matrix[np.ix_(rest, rest)] - gain @ matrix[np.ix_(given, rest)], atol=1e-14)
    for other in ALL.values():
        np.testing.assert_allclose((S + other).as_matrix(), matrix + np.asarray(other.as_matrix()))


def test_structure_is_kept():
    assert isinstance(DIAGONAL + DIAGONAL, Diagonal)
    assert isinstance(DIAGONAL.inverse(), Diagonal)
    assert isinstance(as_covariance("cov", 2.0, 3), Isotropic)
    assert isinstance(ISOTROPIC + DIAGONAL, Diagonal)
    assert isinstance(ISOTROPIC + ISOTROPIC.inverse().root(), Isotropic)
    for other in (ISOTROPIC, DIAGONAL, LOW_RANK):
        assert isinstance(LOW_RANK + other, LowRankPlusDiagonal)
        assert isinstance(other + LOW_RANK, LowRankPlusDiagonal)
    assert isinstance(LOW_RANK.regressed([0, 1], [2], jnp.ones(1))[1], LowRankPlusDiagonal)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1.0, 0.5], [0.4, 1.0]], "asymmetry of 0.1.*symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], "smallest eigenvalue -1.*positive"),
        ([-1.0, 1.0], "variance -1.*>= 0"),
        (jnp.eye(3), r"shape \(3, 3\).*\(2, 2\)"),
        ([[1.0, float("nan")], [float("nan"), 1.0]], "2 NaN or infinite of 4"),
        (DENSE, "dimension 3.*dimension 2"),
        ("no numbers", "expected numbers"),
        ([[1.0], [2.0, 3.0]], "expected numbers in a regular array"),
        ([1j, 2.0], "complex.*real numbers"),
    ],
)
def test_bad_covariances_are_refused_with_a_reason(value, message):
    with pytest.raises(ValueError, match=f"(?s)`cov`.*{message}"):
        as_covariance("cov", value, 2)


@pytest.mark.parametrize("S", ALL.values(), ids=list(ALL))
def test_known_values_are_looked_at_while_others_are_traced(S):
    shifted = jax.jit(lambda t: Gaussian(t * jnp.ones(3), S).log_prob(jnp.zeros(3)))
    assert float(shifted(0.5)) == pytest.approx(float(Gaussian(np.full(3, 0.5), S).log_prob(np.zeros(3))), rel=1e-13)


def test_a_known_singular_covariance_is_refused_while_the_mean_is_traced():
    singular = Dense(jnp.ones((3, 3)))
    with pytest.raises(ValueError, match="`cov`.*positive definite"):
        jax.jit(lambda t: Gaussian(t * jnp.ones(3), singular).mean)(0.5)
