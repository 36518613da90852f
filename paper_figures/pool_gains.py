r"""Where each pool gains or loses against its members' average, in four divergences: exact over a plane of member configurations.

Target N(0, 1), members N(0, s_1^2) and N(0, s_2^2) with equal weights; the plane is that of (s_1, s_2). Gains are shown as a share of the average,
(average - ensemble) / average <= 1. Theorems: the linear pool gains in KL both ways and in squared W2, for these are convex in the density; the log pool in forward KL,
by -log Z, and in Fisher divergence, since its score is the average of scores; the barycenter in squared W2, here by the whole spread, since the line is flat, and in
reverse KL, which is convex along optimal transport to this target. The other maps have regions of loss, or none only in this plane (linear pool, Fisher divergence: see
the claim linear-pool-fisher).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Picture

import ensembletheory as et
from ensembletheory.plotting import LOOKS, WIDTHS, new_figure
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

RULES = ("linear", "log", "barycenter")
DIVERGENCES = {"forward": "KL(target || pool)", "reverse": "KL(pool || target)", "w2": "$W_2^2$", "fisher": "Fisher divergence"}
LARGEST = 4.0  # standard deviations on the axes reach from 1/4 to 4


def _compute(points: int, examples: list[list[float]]) -> Data:
    deviations = np.geomspace(1 / LARGEST, LARGEST, points)
    first, second = np.meshgrid(deviations, deviations, indexing="ij")
    upper = np.triu_indices(points)  # the plane is symmetric
    pairs = np.concatenate([np.stack([first[upper], second[upper]], axis=-1), np.asarray(examples)])
    averages, ensembles = map(np.asarray, _all(jnp.asarray(pairs)))
    gains = averages[:, :, None] - ensembles
    whole = np.empty((points, points, *gains.shape[1:]))
    whole[upper] = (gains / averages[:, :, None])[: len(upper[0])]
    whole[upper[::-1]] = whole[upper]
    return {"deviations": deviations, "shares": whole, "examples": np.asarray(examples), "averages": averages[-len(examples) :], "gains": gains[-len(examples) :]}


@jax.jit
def _all(pairs: Float[Array, "n 2"]) -> tuple[Float[Array, "n 4"], Float[Array, "n 4 3"]]:
    """Member averages, and divergences of the pools, at each pair of standard deviations."""
    return jax.lax.map(_at, pairs, batch_size=16)


def _at(pair: Float[Array, " 2"]) -> tuple[Float[Array, " 4"], Float[Array, "4 3"]]:
    target, members = et.Gaussian(jnp.zeros(1), jnp.ones(1)), [et.Gaussian(jnp.zeros(1), pair[k] ** 2 * jnp.ones(1)) for k in (0, 1)]
    pools = [et.linear_pool(members), et.log_pool(members), et.w2_barycenter(members)]

    def divergences(law: et.Law) -> Float[Array, " 4"]:
        return jnp.stack([et.kl(target, law).value, et.kl(law, target).value, et.w2_squared(target, law).value, et.fisher_divergence(target, law).value])

    return (divergences(members[0]) + divergences(members[1])) / 2, jnp.stack([divergences(pool) for pool in pools], axis=-1)


def _draw(data: Data) -> Picture:
    picture, axes = new_figure(WIDTHS["icml_page"], 5.0, rows=len(RULES), columns=len(DIVERGENCES))
    colors = LinearSegmentedColormap.from_list("gains", [LOOKS["rises"].color, "white", LOOKS["falls"].color])
    deviations = data["deviations"]
    image = None
    for i, rule in enumerate(RULES):
        for j, name in enumerate(DIVERGENCES.values()):
            ax, share = axes[i * len(DIVERGENCES) + j], data["shares"][:, :, j, i].T
            image = ax.pcolormesh(deviations, deviations, np.clip(share, -1, 1), cmap=colors, vmin=-1, vmax=1, shading="gouraud", rasterized=True)
            if share.min() < -1e-6:
                ax.contour(deviations, deviations, share, levels=[-1e-6], colors="black", linewidths=0.9)
            ax.set(xscale="log", yscale="log", aspect="equal")
            ax.set_xticks([0.25, 1, 4], labels=["¼", "1", "4"])
            ax.set_yticks([0.25, 1, 4], labels=["¼", "1", "4"])
            ax.minorticks_off()
            if i == 0:
                ax.set_title(name, loc="center")
            if j == 0:
                ax.set_ylabel(f"{LOOKS[rule].label}\n$s_2$")
            if i == len(RULES) - 1:
                ax.set_xlabel("$s_1$")
    assert image is not None
    bar = picture.colorbar(image, ax=axes, shrink=0.6, pad=0.02, ticks=[-1, 0, 1])
    bar.set_ticklabels(["loses all\nand more", "0", "gains\nall"])
    return picture


EXAMPLES = {
    (0.5, 2.0): {("linear", "forward"): "0.43693", ("log", "forward"): "0.37689", ("barycenter", "forward"): "0.51936"},
    (0.25, 1.0): {("log", "reverse"): "-0.17008", ("log", "w2"): "-0.15040"},
    (2.0, 4.0): {("barycenter", "forward"): "-0.03632", ("barycenter", "fisher"): "-0.06942"},
}

TEXT = r"""Gain of three pools of $N(0,s_1^2)$ and $N(0,s_2^2)$, equal weights, over their average, as a share of that average; target $N(0,1)$.
Black lines: no gain. The linear pool gains everywhere in this plane, the log pool in forward KL and Fisher divergence, the barycenter in reverse KL and $W_2^2$;
elsewhere there is loss, beyond the lines.

At $(s_1,s_2)=(1/2,2)$ the gains in forward KL are 0.43693 (linear pool), 0.37689 (log pool, which is $-\log Z$) and 0.51936 (barycenter).
At $(1/4,1)$ the log pool is too narrow: -0.17008 in reverse KL, -0.15040 in $W_2^2$.
At $(2,4)$, where both members are too wide, the barycenter loses: -0.03632 in forward KL, -0.06942 in Fisher divergence."""


def _caption(data: Data) -> Caption:
    numbers = []
    for pair, printed in EXAMPLES.items():
        at = int(np.argmin(np.sum((data["examples"] - np.array(pair)) ** 2, axis=1)))
        for (rule, divergence), text in printed.items():
            got = data["gains"][at, list(DIVERGENCES).index(divergence), RULES.index(rule)]
            numbers.append(Number(f"{rule}, {divergence}, {pair}", float(got), text))
    return Caption(TEXT, tuple(numbers))


FIGURE = Figure(
    name="pool_gains",
    title="Where each pool gains or loses against its members' average",
    inputs={"points": 48, "examples": [[0.5, 2.0], [0.25, 1.0], [2.0, 4.0]]},
    quick_inputs={"points": 12},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Twelve maps over the plane of two members' standard deviations from a quarter to four: three pools by four divergences. The linear pool gains everywhere. "
    "The log pool loses in reverse KL and squared W2 where one member is narrow and the other no wider than the target. The barycenter loses in forward KL and in "
    "Fisher divergence where both members are too wide; its maps of reverse KL and squared W2 show gains only.",
    source="theorems on pools in ensembletheory.gains.densities; exact, by closed forms and quadrature",
    claims=("linear-pool-kl", "log-pool-kl", "barycenter-identity", "barycenter-kl", "log-pool-reverse-kl", "linear-pool-fisher"),
)
