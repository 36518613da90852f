r"""Which group leaves which law invariant: a table of statements that `check` can put to the test, each with controls that must fail.

| model                       | parameters                              | group                | needs                                                   |
|-----------------------------|-----------------------------------------|----------------------|---------------------------------------------------------|
| `ppca`                      | loadings, noise variance                | O(q)                 | q < d; at q = d noise trades with loadings              |
| `linear-vae`                | loadings with a tight ELBO              | signed permutations  | distinct lengths of the columns                         |
| `factor-analysis`           | loadings, one noise variance a row      | O(q)                 | Ledermann's bound, and row deletion (2q + 1 <= d)       |
| `linear-ivae`               | mixing, latent variances a segment      | permutations, scales | two segments with distinct ratios                       |
| `mixture`                   | weights, means, variances               | permutations         | weights not zero, components different                  |
| `mixture-merged`            | means of two equal components           | permutations         | (identified, but d_law ~ d_G^2: the modulus is 2)       |
| `hamiltonian-flow`          | the rows of positions in a linear flow  | U(d)                 | that the flow is symplectic                             |
| `score`                     | a weight, seen through the score        | none                 | modes that are not separated (blindness)                |

Perceptrons have their symmetries in `ensembletheory.neural.weights.symmetries`, for the same `check`.

Sources: Tipping & Bishop 1999; Lucas et al. 2019; Anderson & Rubin 1956, Ledermann 1937; Khemakhem et al. 2020; Teicher 1963, Yakowitz & Spragins 1968; Wenliang &
Kanagawa 2020. The ELBO is tight exactly where the columns of the loadings are orthogonal (Hadamard). A mixture's weights need not sum to one here: a signed measure that is
a combination of Gaussians is identified just as well, and no constraint is left.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import refuse
from ensembletheory.identifiability.actions import Action
from ensembletheory.identifiability.checking import Report, check
from ensembletheory.identifiability.groups import Group, Monomial, Orthogonal, Permutations, SignedPermutations, Unitary
from ensembletheory.latent import Ppca, hadamard_gap
from ensembletheory.laws import Gaussian, GaussianMixture

__all__ = ["MODELS", "Model", "Setting", "ledermann"]

_GRID = np.linspace(-6.0, 6.0, 49)  # where densities on the line are compared: they determine the mixtures here, which have at most six parameters
_NOISE = 0.5


@dataclass(frozen=True)
class Setting:
    """What `check` needs: a law, a group acting on its parameters, and how to draw them."""

    law: Callable[[Any], Any]
    action: Action
    draw: Callable[[PRNGKeyArray], Any] | Sequence[Any]


@dataclass(frozen=True)
class Model:
    """A statement "identified up to a group": where it holds, with the exponent of its modulus, and controls outside its hypotheses, where it must fail."""

    name: str
    statement: str
    setting: Setting
    exponent: float
    controls: Mapping[str, Setting]
    references: tuple[str, ...]

    def check(self, control: str | None = None, seed: int = 0) -> Report:
        """The report where the hypotheses hold, or in one of the controls.

        Raises:
            ValueError: for an unknown control.
        """
        if control is not None and control not in self.controls:
            refuse("control", repr(control), f"one of {sorted(self.controls)}", f"These are the controls of `{self.name}`.")
        at = self.setting if control is None else self.controls[control]
        return check(at.law, at.action, at.draw, seed=seed)


def ledermann(dim: int) -> int:
    """The most factors q that a covariance of `dim` coordinates can identify generically: q <= d + 1/2 - sqrt(8 d + 1) / 2 (Ledermann 1937).

    Raises:
        ValueError: unless dim >= 1.
    """
    if dim < 1:
        refuse("dim", str(dim), "at least 1", "The number of observed coordinates.")
    return int(np.floor(dim + 0.5 - np.sqrt(8 * dim + 1) / 2 + 1e-9))


def _normal(key: PRNGKeyArray, *shape: int) -> np.ndarray:
    return np.asarray(jax.random.normal(key, shape), dtype=float)


def _ppca(a: Any) -> Ppca:
    return Ppca(a["loadings"], jnp.zeros(a["loadings"].shape[0]), jnp.exp(a["log_noise"]))


def _factor_analysis(a: Any) -> Gaussian:
    W = a["loadings"]
    return Gaussian(jnp.zeros(W.shape[0]), W @ W.T + jnp.diag(jnp.exp(a["log_noise"])))


def _with_noise(d: int, q: int, noises: tuple[int, ...]) -> Callable[[PRNGKeyArray], Any]:
    def draw(key: PRNGKeyArray) -> Any:
        first, second = jax.random.split(key)
        return {"loadings": _normal(first, d, q), "log_noise": 0.5 * _normal(second, *noises)}

    return draw


def _loadings_of(group: Group) -> Action:
    return Action(group, {"loadings": 1, "log_noise": None})


def _law_and_gap(W: Any) -> Float[Array, " n"]:
    """The covariance of a linear VAE's law, and by how much its best diagonal ELBO misses log p."""
    model = Ppca(W, jnp.zeros(W.shape[0]), jnp.asarray(_NOISE))
    return jnp.append(jnp.ravel(W @ W.T), hadamard_gap(model))


def _orthogonal_columns(lengths: tuple[float, ...]) -> Callable[[PRNGKeyArray], np.ndarray]:
    return lambda key: np.linalg.qr(_normal(key, 3, len(lengths)))[0] * np.asarray(lengths)


def _segments(a: Any) -> Float[Array, "S d d"]:
    return jnp.einsum("iq,sq,jq->sij", a["mixing"], a["variances"], a["mixing"]) + _NOISE * jnp.eye(a["mixing"].shape[0])[None]


def _mixing(segments: int, ratios: Callable[[np.ndarray], np.ndarray]) -> Setting:
    """Two sources in two coordinates; `ratios` turns positive numbers (segments, 2) into latent variances."""

    def draw(key: PRNGKeyArray) -> Any:
        first, second = jax.random.split(key)
        return {"mixing": _normal(first, 2, 2), "variances": ratios(np.exp(0.7 * _normal(second, segments, 2)))}

    return Setting(_segments, Action(Monomial(2), {"mixing": 1, "variances": 1}, {"mixing": 1, "variances": -2}), draw)


def _law_and_brackets(rows: Any) -> Float[Array, "2 d d"]:
    """The covariance A A^T + B B^T of positions q = A z_q + B z_p, and their brackets A B^T - B A^T, which are 0 where the map is symplectic."""
    A, B = jnp.split(jnp.asarray(rows), 2, axis=1)
    return jnp.stack([A @ A.T + B @ B.T, A @ B.T - B @ A.T])


def _symplectic_rows(key: PRNGKeyArray) -> np.ndarray:
    """A + i B = S^{1/2} U, for a real S and a unitary U."""
    first, second = jax.random.split(key)
    return np.concatenate([_normal(first, 2, 2), np.zeros((2, 2))], axis=1) @ Unitary(4).random(second).T


def _density(a: Any) -> Float[Array, " n"]:
    """sum_k w_k N(x; m_k, v_k) on a grid."""
    v = jnp.exp(a["log_variances"])[:, None]
    return jnp.sum(a["weights"][:, None] * jnp.exp(-((_GRID[None, :] - a["means"][:, None]) ** 2) / (2 * v)) / jnp.sqrt(2 * np.pi * v), axis=0)


def _equal_weights(means: Any) -> Float[Array, " n"]:
    return _density({"weights": jnp.full(2, 0.5), "means": means, "log_variances": jnp.zeros(2)})


def _two_components(key: PRNGKeyArray) -> Any:
    first, second, third = jax.random.split(key, 3)
    share = 1 / (1 + np.exp(-_normal(first)))
    return {"weights": np.array([share, 1 - share]), "means": np.array([-1.5, 1.5]) + 0.4 * _normal(second, 2), "log_variances": 0.3 * _normal(third, 2)}


def _duplicated(key: PRNGKeyArray) -> Any:
    return {name: np.repeat(value[:1], 2) if name != "weights" else value for name, value in _two_components(key).items()}


def _weightless(key: PRNGKeyArray) -> Any:
    return {**_two_components(key), "weights": np.array([1.0, 0.0])}


def _score_at(separation: float) -> Callable[[Any], Float[Array, " n"]]:
    """The score of modes at +-separation, weighted so that squared distances are Fisher divergences under equal weights."""
    grid = np.linspace(-separation - 6, separation + 6, 400)
    mass = sum(np.exp(-((grid - sign * separation) ** 2) / 2) for sign in (1, -1)) / np.sqrt(8 * np.pi) * (grid[1] - grid[0])

    def score(logit: Any) -> Float[Array, " n"]:
        share = jax.nn.sigmoid(jnp.asarray(logit))
        law = GaussianMixture(jnp.stack([share, 1 - share]), [[separation], [-separation]], [[1.0], [1.0]])
        return np.sqrt(mass) * jax.vmap(law._score)(jnp.asarray(grid)[:, None])[:, 0]

    return score


_COMPONENTS = Action(Permutations(2), 0)
_ALONE = Action(Permutations(1), None)

MODELS: Mapping[str, Model] = {
    model.name: model
    for model in (
        Model(
            "ppca",
            "W W^T + s2 I determines W up to O(q), and s2, for q < d",
            Setting(_ppca, _loadings_of(Orthogonal(2)), _with_noise(3, 2, ())),
            1.0,
            {"as many factors as coordinates": Setting(_ppca, _loadings_of(Orthogonal(2)), _with_noise(2, 2, ()))},
            ("tipping1999probabilistic",),
        ),
        Model(
            "linear-vae",
            "among loadings whose best diagonal ELBO is log p, the law determines W up to signed permutations of its columns",
            Setting(_law_and_gap, Action(SignedPermutations(2)), _orthogonal_columns((2.0, 1.0))),
            2.0,
            {"equal eigenvalues": Setting(_law_and_gap, Action(SignedPermutations(2)), _orthogonal_columns((1.5, 1.5)))},
            ("lucas2019dont",),
        ),
        Model(
            "factor-analysis",
            "W W^T + diag(v) determines W up to O(q), and v, generically within Ledermann's bound if rows may be deleted",
            Setting(_factor_analysis, _loadings_of(Orthogonal(2)), _with_noise(5, 2, (5,))),
            1.0,
            {"one factor, two coordinates": Setting(_factor_analysis, _loadings_of(Orthogonal(1)), _with_noise(2, 1, (2,)))},
            ("anderson1956statistical", "ledermann1937rank"),
        ),
        Model(
            "linear-ivae",
            "two segments with distinct ratios of latent variances determine W up to permutation and scaling of columns",
            _mixing(2, lambda v: v * np.array([[1.0, 1.0], [1.0, 4.0]])),
            1.0,
            {"one segment": _mixing(1, lambda v: v), "equal ratios": _mixing(2, lambda v: v[:1] * np.array([[1.0], [3.0]]))},
            ("khemakhem2020variational",),
        ),
        Model(
            "mixture",
            "the density of a Gaussian mixture determines weights, means and variances up to relabelling",
            Setting(_density, _COMPONENTS, _two_components),
            1.0,
            {"duplicate components": Setting(_density, _COMPONENTS, _duplicated), "zero weight": Setting(_density, _COMPONENTS, _weightless)},
            ("teicher1963identifiability", "yakowitz1968identifiability"),
        ),
        Model(
            "mixture-merged",
            "near two equal components the law moves with the square of the distance of the means",
            Setting(_equal_weights, _COMPONENTS, [np.zeros(2), np.full(2, 0.5)]),
            2.0,
            {"labels kept apart": Setting(_equal_weights, _ALONE, lambda key: _normal(key, 2))},
            ("teicher1963identifiability",),
        ),
        Model(
            "hamiltonian-flow",
            "the law of the positions determines the rows [A B] of a linear symplectic flow of N(0, I) up to unitary turns of phase space",
            Setting(_law_and_brackets, Action(Unitary(4), 1), _symplectic_rows),
            1.0,
            {"any linear map": Setting(lambda rows: _law_and_brackets(rows)[0], Action(Unitary(4), 1), _symplectic_rows)},
            ("souveton2024fixed",),
        ),
        Model(
            "score",
            "the score determines the weights of modes, if these overlap",
            Setting(_score_at(1.5), _ALONE, lambda key: 0.7 * _normal(key)),
            1.0,
            {"separated modes": Setting(_score_at(10.0), _ALONE, lambda key: 0.7 * _normal(key))},
            ("wenliang2020blindness",),
        ),
    )
}
