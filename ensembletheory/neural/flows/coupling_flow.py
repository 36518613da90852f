r"""Coupling flows: x = m + c f(z), z ~ N(0, I), where f is a composition of layers whose Jacobians are triangular, so that the density is exact and cheap.

A layer leaves the first floor(d / 2) coordinates as they are, moves each of the others by an increasing affine function whose shift and scale a perceptron takes from the
first, and permutes all. Its Jacobian is triangular up to the permutation, so that log |det| is the sum of the logarithms of d - floor(d / 2) scales, while the Jacobian as a
matrix would take d products with vectors and a determinant of O(d^3); `jacobian_cost` counts both. With y = (x - m) / c,

    log q(x) = log N(f^{-1}(y); 0, I) + log |det Df^{-1}(y)| - sum_i log c_i.

Layers are written in the direction from data to noise; perceptrons are smooth, and so is the density. Moments, marginals and conditionals have no closed form and are refused:
draw.

Source: Dinh et al. (2017), Real NVP; the layers are those of flowjax.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, missing_extra, refuse
from ensembletheory.estimate import Estimate, monte_carlo
from ensembletheory.laws import Law, standard_normal
from ensembletheory.neural.data import require_spread
from ensembletheory.neural.flows.maximum_likelihood import MaximumLikelihood
from ensembletheory.neural.flows.operations import operations
from ensembletheory.neural.learner import Learner
from ensembletheory.neural.training import Loss

try:
    from flowjax.bijections import AbstractBijection
    from flowjax.distributions import StandardNormal
    from flowjax.flows import coupling_flow
    from flowjax.utils import get_ravelled_pytree_constructor
except ImportError:
    missing_extra("flowjax", "neural")

__all__ = ["CouplingFlow", "CouplingFlowLearner", "JacobianCost", "jacobian_cost"]

_DRAWS = 100_000
_LEAST_SCALE = 1e-2


class _Shape(NamedTuple):
    dim: int
    layers: int
    width: int
    depth: int


class CouplingFlow(Law):
    """A law by a coupling flow; trained are the parameters of its perceptrons only.

    Args:
        key: of the initial parameters.
        law: of the data, from which location and scales are taken.
        layers: number of layers.
        width: units in a hidden layer of a perceptron.
        depth: number of hidden layers.

    Raises:
        ValueError: if the dimension is below 2, a number is out of its range, or rows do not vary along a coordinate.
    """

    leaves: tuple[Array, ...]
    location: Float[Array, " d"]
    scales: Float[Array, " d"]
    shape: _Shape = eqx.field(static=True)

    def __init__(self, key: PRNGKeyArray, law: Law, layers: int = 6, width: int = 32, depth: int = 2):
        if law.dim < 2:
            refuse("law", f"dimension {law.dim}", "dimension 2 or more", "A coordinate is moved as others say; on the line match a flow.")
        if min(layers, width, depth) < 1:
            refuse("layers, width, depth", f"{layers}, {width}, {depth}", "positive numbers", "Two layers at least move every coordinate.")
        self.shape = _Shape(law.dim, layers, width, depth)
        self.leaves = tuple(_initial(key, self.shape))
        self.location, self.scales = law.mean, jnp.sqrt(jnp.diagonal(law.cov))
        require_spread(law, every=True)

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.shape.dim

    @property
    def mean(self) -> Float[Array, " d"]:
        """Refused: it has no closed form."""
        self._no_closed_form("mean")

    @property
    def cov(self) -> Float[Array, "d d"]:
        """Refused: it has no closed form."""
        self._no_closed_form("covariance")

    def _log_prob(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        z, log_det = self.encode(x)
        return standard_normal(self.dim)._log_prob(z) + log_det

    def _score(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        return jax.grad(self._log_prob)(x)

    def encode(self, x: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """The noise z of one point x, and log |det dz/dx|, read off the layers."""
        location, scales = jax.lax.stop_gradient((self.location, self.scales))
        with jax.numpy_dtype_promotion("standard"):
            z, log_det = self._flow().inverse_and_log_det((x - location) / scales)
        return z, log_det - jnp.sum(jnp.log(scales))

    def generate(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """The point of one noise z."""
        with jax.numpy_dtype_promotion("standard"):
            return self.location + self.scales * self._flow().transform(z)

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` independent draws."""
        return _drawn(self, key, n)

    def entropy(self, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
        """The differential entropy -E log q in nats, by Monte Carlo.

        Raises:
            ValueError: without a key.
        """
        if key is None:
            refuse("key", "None", "a PRNG key, since only Monte Carlo can answer", "Pass key=jax.random.key(0), and samples=n if you like.")
        return monte_carlo(-self.log_prob(self.sample(key, _DRAWS if samples is None else samples)))

    def pieces(self) -> tuple[Float[Array, "K d"], Float[Array, "K d"]]:
        """The box of the data it was made for."""
        return self.location[None], self.scales[None]

    def marginal(self, dims: Sequence[int]) -> Law:
        """Refused: it has no closed form."""
        self._no_closed_form("marginals")

    def condition(self, dims: Sequence[int], values: Numbers) -> Law:
        """Refused: it has no closed form."""
        self._no_closed_form("conditional laws")

    def push(self, A: Numbers, b: Numbers) -> Law:
        """Refused: an affine image is another model."""
        self._no_closed_form("affine images")

    def _flow(self) -> Any:
        """The bijection from noise to standardised data."""
        structure, static = _structure(self.shape, str(self.location.dtype))
        return eqx.combine(jax.tree.unflatten(structure, self.leaves), static).bijection

    def _no_closed_form(self, what: str) -> NoReturn:
        raise TypeError(f"CouplingFlow: got a request for its {what}; expected one for its density, score or draws. Nothing else has a closed form: use sample(key, n).")


def _built(key: PRNGKeyArray, shape: _Shape) -> Any:
    sizes = {"flow_layers": shape.layers, "nn_width": shape.width, "nn_depth": shape.depth, "nn_activation": jax.nn.silu}
    return coupling_flow(key, base_dist=StandardNormal((shape.dim,)), transformer=_Affine(), **sizes)


@eqx.filter_jit
def _initial(key: PRNGKeyArray, shape: _Shape) -> list[Array]:
    """The arrays of a flow, as one program."""
    with jax.numpy_dtype_promotion("standard"):
        return jax.tree.leaves(eqx.filter(_built(key, shape), eqx.is_array))


@functools.lru_cache
def _structure(shape: _Shape, dtype: str) -> tuple[Any, Any]:
    """The structure of the arrays of a flow, and what is not an array: the same objects for all flows of a shape, so that they share their programs."""
    with jax.ensure_compile_time_eval():
        constructor, _ = get_ravelled_pytree_constructor(_Affine(), eqx.is_inexact_array)
    with jax.numpy_dtype_promotion("standard"):
        flow = eqx.filter_eval_shape(lambda: _built(jax.random.key(0), shape))
    arrays, static = eqx.partition(flow, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    # the constructor of a flow that was only traced holds traced arrays
    return jax.tree.structure(arrays), eqx.tree_at(lambda flow: flow.bijection.bijection.bijection[0].transformer_constructor, static, constructor)


class _Affine(AbstractBijection):
    """x -> shift + (least scale + softplus(raw)) x of one coordinate, the identity before a perceptron adds to its parameters."""

    shift: Float[Array, ""]
    raw: Float[Array, ""]
    shape = ()
    cond_shape = None

    def __init__(self):
        self.shift, self.raw = jnp.zeros(()), jnp.asarray(np.log(np.expm1(1 - _LEAST_SCALE)), jnp.result_type(float))

    def transform_and_log_det(self, x, condition=None):
        scale = _LEAST_SCALE + jax.nn.softplus(self.raw)
        return self.shift + scale * x, jnp.log(scale)

    def inverse_and_log_det(self, y, condition=None):
        scale = _LEAST_SCALE + jax.nn.softplus(self.raw)
        return (y - self.shift) / scale, -jnp.log(scale)


@eqx.filter_jit
def _drawn(law: CouplingFlow, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
    return jax.vmap(law.generate)(jax.random.normal(key, (n, law.dim), law.location.dtype))


class CouplingFlowLearner(Learner):
    """Coupling flows that learn by maximum likelihood; arguments as of `CouplingFlow`, and the draws a step."""

    layers: int = eqx.field(static=True, default=6)
    width: int = eqx.field(static=True, default=32)
    depth: int = eqx.field(static=True, default=2)
    batch: int = eqx.field(static=True, default=256)

    def initialise(self, key: PRNGKeyArray, law: Law) -> Any:
        """A `CouplingFlow`, its location and scales those of the law."""
        return CouplingFlow(key, law, self.layers, self.width, self.depth)

    def loss(self, law: Law) -> Loss:
        """The mean surprise of draws of the law.

        Raises:
            ValueError: if rows do not vary along a coordinate.
        """
        require_spread(law, every=True)
        return MaximumLikelihood(law, self.batch)


class JacobianCost(NamedTuple):
    """Floating-point operations for one log-density: with log |det| read off the layers, and with the Jacobian by d products and its determinant."""

    read_off: int
    autodiff: int


def jacobian_cost(flow: CouplingFlow) -> JacobianCost:
    """What the density of a flow costs at one point, with and without its structure; counted by `ensembletheory.neural.flows.operations`, shapes are enough."""
    return JacobianCost(operations(CouplingFlow._log_prob, flow, flow.location), operations(dense_log_prob, flow, flow.location))


def dense_log_prob(flow: CouplingFlow, x: Float[Array, " d"]) -> Float[Array, ""]:
    """The log-density at one point from the whole Jacobian, as for a map without structure."""
    z = flow.encode(x)[0]
    jacobian = jax.jacfwd(lambda y: flow.encode(y)[0])(x)
    return standard_normal(flow.dim)._log_prob(z) + jnp.linalg.slogdet(jacobian)[1]
