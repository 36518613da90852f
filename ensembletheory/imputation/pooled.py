r"""Imputation by an ensemble: K laws of complete rows, pooled, and what is missing given what is observed.

| rule           | what is conditioned on x_o                                       | the conditional                                                         |
|----------------|------------------------------------------------------------------|-------------------------------------------------------------------------|
| `linear`       | the linear pool sum_k w_k q_k                                    | sum_k r_k q_k(x_u given x_o),  r_k = w_k q_k(x_o) / sum_j w_j q_j(x_o)  |
| `conditionals` | each member for itself                                           | sum_k w_k q_k(x_u given x_o): the weights stay                          |
| `log`          | the log pool, or each member for itself: the same law            | the normalised prod_k q_k(x_u given x_o)^{w_k}                          |
| `mean_score`   | the law sampled by the reverse SDE with averaged scores          | its conditional, which is not that of averaged conditional scores       |

A linear pool listens to what is observed: a member that found x_o unlikely loses its say. Only where all members give x_o the same density, a row wholly missing above all,
does it agree with the mixture of conditionals. Pooling by logarithms commutes with conditioning, since prod_k q_k(x_o, x_u)^{w_k} as a function of x_u is, up to a factor,
the product of the conditionals' powers. Squared errors of the mixture of conditionals fall as A + B / M with the number of exchangeable members (`error_laws`), as they are
averages of M predictions; those of the linear pool's conditional mean need not, for the weights depend on all members.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, refuse
from ensembletheory.imputation.conditionals import Model, conditional_draws, conditional_mean, observed_log_prob
from ensembletheory.laws import Law
from ensembletheory.pooling import linear_pool, log_pool, mean_score_law
from ensembletheory.pooling.members import checked_laws
from ensembletheory.processes import VariancePreserving

__all__ = ["RULES", "checked_rule", "conditional_weights", "pooled_draws", "pooled_law", "pooled_mean"]

RULES = ("linear", "conditionals", "log", "mean_score")


def pooled_law(members: Sequence[Model], rule: str, weights: Numbers | None = None) -> Law:
    """The law of complete rows whose conditionals the rule takes: all rules but "conditionals" have one.

    Averaged scores are those of a variance-preserving diffusion of infinite time, whose noise has unit variance: rows should be standardised.

    Raises:
        ValueError: if there is no member, dimensions differ, the weights are off the simplex, or the rule has no such law.
        TypeError: if the rule does not take members of this kind.
    """
    laws, weights = checked_laws(members, weights)  # pyright: ignore[reportArgumentType]
    if checked_rule(rule) == "conditionals":
        refuse("rule", "'conditionals'", "a rule that pools laws of complete rows", "The mixture of conditionals is that of no such law: use pooled_mean and pooled_draws.")
    if rule == "mean_score":
        return mean_score_law(laws, VariancePreserving(), "sde", weights=weights, horizon=jnp.inf)
    return linear_pool(laws, weights) if rule == "linear" else log_pool(laws, weights)


def conditional_weights(members: Sequence[Model], X: Numbers, weights: Numbers | None = None) -> Float[Array, "K n"]:
    """The weights r_k of the linear pool's members given what is observed of each row of X (n, d), NaN = missing.

    Raises:
        ValueError: as `pooled_law`, or if X is not a table with the columns of the members.
    """
    laws, weights = checked_laws(members, weights)  # pyright: ignore[reportArgumentType]
    logs = jnp.stack([observed_log_prob(law, X) for law in laws])  # pyright: ignore[reportArgumentType]
    return jax.nn.softmax(logs + jnp.log(weights)[:, None], axis=0)


def pooled_mean(members: Sequence[Model], X: Numbers, rule: str = "linear", weights: Numbers | None = None) -> Float[Array, "n d"]:
    """The mean of each row of X (n, d), NaN = missing, under the pooled conditional; observed values are kept.

    Args:
        members: Gaussians, mixtures or PPCA models.
        X: rows with holes.
        rule: see the module.
        weights: on the simplex; default equal.

    Raises:
        ValueError: as `pooled_law`, or if X is not a table with the columns of the members.
        TypeError: as `pooled_law`.
    """
    laws, shares = checked_laws(members, weights)  # pyright: ignore[reportArgumentType]
    if checked_rule(rule) != "conditionals":
        return conditional_mean(pooled_law(members, rule, weights), X)  # pyright: ignore[reportArgumentType]
    means = np.stack([conditional_mean(law, X) for law in laws])  # pyright: ignore[reportArgumentType]
    return jnp.asarray(np.where(np.isnan(np.asarray(X, means.dtype)), np.tensordot(np.asarray(shares), means, axes=1), means[0]))


def pooled_draws(key: PRNGKeyArray, members: Sequence[Model], X: Numbers, n: int, rule: str = "linear", weights: Numbers | None = None) -> Float[Array, "n rows d"]:
    """`n` completed copies of X (rows, d), NaN = missing, from the pooled conditional, rows independent; arguments as of `pooled_mean`.

    Raises:
        ValueError: as `pooled_mean`, or if n < 1.
        TypeError: as `pooled_law`.
    """
    laws, shares = checked_laws(members, weights)  # pyright: ignore[reportArgumentType]
    if checked_rule(rule) != "conditionals":
        return conditional_draws(key, pooled_law(members, rule, weights), X, n)  # pyright: ignore[reportArgumentType]
    key_member, *keys = jax.random.split(key, 1 + len(laws))
    draws = np.stack([conditional_draws(own, law, X, n) for own, law in zip(keys, laws, strict=True)])  # pyright: ignore[reportArgumentType]
    chosen = np.asarray(jax.random.choice(key_member, len(laws), draws.shape[1:3], p=shares))
    return jnp.asarray(np.take_along_axis(draws, chosen[None, :, :, None], axis=0)[0])


def checked_rule(rule: str) -> str:
    """A rule of the module's table.

    Raises:
        ValueError: otherwise.
    """
    if rule not in RULES:
        refuse("rule", repr(rule), f"one of {', '.join(RULES)}", "See ensembletheory.imputation.pooled.")
    return rule
