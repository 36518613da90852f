"""Operations counted from programs: by hand for what the table holds, a refusal for all else."""

import jax
import jax.numpy as jnp
import jax.scipy as jsp
import pytest

from ensembletheory.neural import operations

A, X = jax.ShapeDtypeStruct((6, 6), float), jax.ShapeDtypeStruct((6,), float)


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (lambda A, x: jax.lax.linalg.cholesky(A, symmetrize_input=False), 6**3 // 3),
        (lambda A, x: jax.vmap(lambda s: jax.lax.linalg.cholesky(s * A, symmetrize_input=False))(x), 6 * (36 + 6**3 // 3)),
        (lambda A, x: jsp.linalg.solve_triangular(A, x, lower=True), 6**2),
        (lambda A, x: jnp.linalg.solve(A, x), 2 * 6**3 // 3 + 2 * 6**2),  # the solution lies in a program inside a tuple
        (lambda A, x: jsp.linalg.cho_solve((A, True), x), 2 * 6**2),
        (lambda A, x: jnp.linalg.solve(A, A), 2 * 6**3 // 3 + 2 * 6**3),
        (lambda A, x: x.at[jnp.array([0, 2])].add(1.0), 2),
        (lambda A, x: jax.nn.one_hot(jnp.argmax(x), 6), 0),
        (lambda A, x: jnp.sort(jnp.floor(x))[::-1].reshape(2, 3).T, 0),
        (lambda A, x: jnp.where(x > 0, x, 1.0), 0),
        (lambda A, x: jnp.cbrt(x), 6),
        (lambda A, x: jax.checkpoint(jnp.exp)(x), 6),
    ],
)
def test_operations_are_counted_as_by_hand(function, count):
    assert operations(function, A, X) == count


@pytest.mark.parametrize(
    ("function", "primitive"),
    [
        (lambda A, x: jnp.linalg.eigh(A)[0], "eigh"),
        (lambda A, x: jnp.linalg.qr(A)[1], ""),
        (lambda A, x: jsp.special.gammaln(x), "lgamma"),
        (lambda A, x: jnp.fft.fft(x), "fft"),  # which gives complex numbers
        (lambda A, x: jnp.convolve(x, x), "conv_general_dilated"),
        (lambda A, x: jax.jit(lambda y: jax.lax.scan(lambda z, _: (jsp.special.digamma(z), None), y, length=2)[0])(x), "digamma"),
    ],
)
def test_what_has_no_count_is_refused_rather_than_counted_as_nothing(function, primitive):
    with pytest.raises(ValueError, match=f"`function`: got the primitive {primitive}.*; expected primitives whose operations are known"):
        operations(function, A, X)
