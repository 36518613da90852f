r"""Blindness of the score: two mixtures whose weights differ have nearly the same score once their modes are apart, and noise cures it.

For modes at +-a of variance one and right weights w and v, the Fisher divergence falls like a exp(-a^2 / 2) below a bound that is sharp in a, while the KL divergence
tends to that of two Bernoulli laws. Along the Ornstein-Uhlenbeck process, with p_u the law of sqrt(u) X + sqrt(1 - u) Z, half the integral of F(p_u || q_u) over log u is
the KL divergence at every separation: what the data's score does not see is seen at the noise level at which the modes merge. All numbers are quadratures.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

import ensembletheory as et
from ensembletheory.identifiability import fisher_bound, integrated_fisher, noised_fisher
from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure, write_beside
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]


def _modes(separation: float, weight: float) -> et.GaussianMixture:
    """Right weight `weight` on N(separation, 1), the rest on N(-separation, 1)."""
    return et.GaussianMixture([weight, 1 - weight], [[separation], [-separation]], np.ones((2, 1)))


@jax.jit
def _half_fisher(p: et.GaussianMixture, q: et.GaussianMixture, levels: Float[Array, " m"]) -> Float[Array, " m"]:
    return jax.vmap(lambda u: noised_fisher(p, q, u).value / 2)(levels)


@jax.jit
def _lines(separations: Float[Array, " n"], weight: float, other: float) -> dict[str, Array]:
    """Divergences on fixed panels, right to less than a line's width; printed numbers are refined."""

    def at(a):
        p, q = (et.GaussianMixture(jnp.stack([w, 1 - w]), jnp.stack([a, -a])[:, None], jnp.ones((2, 1))) for w in (weight, other))
        return {"fisher": et.fisher_divergence(p, q).value, "kl": et.kl(p, q).value, "bound": fisher_bound(a, weight, other)}

    return jax.vmap(at)(separations)


def _compute(weight: float, other: float, shown: list[float], points: int, levels: int) -> Data:
    separations, u = np.linspace(0.5, 6.0, points), np.geomspace(1e-3, 1.0, levels)
    pairs = [(_modes(a, weight), _modes(a, other)) for a in shown]
    printed = {
        "printed fisher": [float(et.fisher_divergence(p, q)) for p, q in pairs],
        "printed bound": fisher_bound(shown, weight, other),
        "printed kl": [float(et.kl(p, q)) for p, q in pairs],
        "printed integral": [float(integrated_fisher(p, q)) for p, q in pairs],
    }
    noised = {"levels": u, "noised": np.stack([_half_fisher(p, q, u) for p, q in pairs])}
    return {"separations": separations, "shown": shown, **_lines(separations, jnp.asarray(weight), jnp.asarray(other)), **printed, **noised}


def _draw(data: Data) -> Picture:
    picture, (apart, noised) = new_figure(WIDTHS["iclr"], 2.7, columns=2)
    _draw_divergences(apart, data)
    _draw_levels(noised, data)
    picture.legend(*apart.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return picture


def _draw_divergences(ax: Axes, data: Data) -> None:
    letter(ax, "a", "two mixtures, other weights")
    squares = data["separations"] ** 2
    for name, key in (("kl", "kl"), ("fisher", "fisher"), ("fisher_bound", "bound")):
        curve(ax, squares, data[key], LOOKS[name])
    look = LOOKS["integrated"]
    ax.plot(np.asarray(data["shown"]) ** 2, data["printed integral"], look.marker, color=look.color, markersize=8, markeredgewidth=1.4, label=look.label, zorder=4)
    ax.set(yscale="log", xlabel="squared separation $a^2$", ylabel="nats, or units of score$^2$", xlim=(0, 37), ylim=(1e-8, 3))


def _draw_levels(ax: Axes, data: Data) -> None:
    letter(ax, "b", "noise shows the weights")
    look = LOOKS["fisher"]
    for a, row, align in zip(data["shown"], data["noised"], ("center", "left", "right"), strict=True):
        ax.plot(data["levels"], row, color=look.color)
        top = int(np.argmax(row))
        write_beside(ax, data["levels"][top], row[top], f"$a={a:g}$", look, (0, 6), align)
    ax.set(xscale="log", xlabel="signal $u$ (1 is data, 0 noise)", ylabel=r"$F(p_u \| q_u)$ / 2", xlim=(1e-3, 1), ylim=(0, 0.085))


# What the caption prints: by separation, the Fisher divergence, its bound, the KL divergence and the integral.
PRINTED = {
    2.0: {"fisher": "0.07818", "bound": "0.09541", "kl": "0.20635", "integral": "0.20635"},
    4.0: {"fisher": "0.0004114", "bound": "0.0004730", "kl": "0.22312", "integral": "0.22312"},
    6.0: {"fisher": "0.00000002835", "bound": "0.00000003221", "kl": "0.22314", "integral": "0.22314"},
}
SLOPE = "-0.499"

TEXT = r"""What the score does not see. Modes at $\pm a$ of variance 1, right weights 0.5 (in $p$) and 0.2 (in $q$).

(a) The Fisher divergence falls with the separation, the KL divergence rises to that of the weights. At $a=2, 4, 6$ the former is 0.07818, 0.0004114 and 0.00000002835, below
its bounds 0.09541, 0.0004730 and 0.00000003221; the latter 0.20635, 0.22312 and 0.22314. From $a=4$ to 6 the logarithm of $F/a$ falls with slope -0.499 in $a^2$.

(b) Half the Fisher divergence after noising, $X_u=\sqrt{u} X+\sqrt{1-u} Z$. Its area over $\log u$ is the KL divergence at every separation (crosses in a): 0.20635, 0.22312
and 0.22314. The hump is where the modes begin to merge."""


def _caption(data: Data) -> Caption:
    printed = [(a, name, text) for a, row in PRINTED.items() for name, text in row.items()]
    numbers = [Number(f"{name}, $a={a:g}$", data[f"printed {name}"][list(data["shown"]).index(a)], text) for a, name, text in printed]
    return Caption(TEXT, (*numbers, Number("slope", _slope(data), SLOPE)))


def _slope(data: Data) -> float:
    """Of log(F / a) in a^2 between the last two separations shown."""
    a, fisher = np.asarray(data["shown"])[-2:], np.asarray(data["printed fisher"])[-2:]
    return float(np.diff(np.log(fisher / a))[0] / np.diff(a**2)[0])


FIGURE = Figure(
    name="blindness",
    title="The score does not see the weights of separated modes",
    inputs={"weight": 0.5, "other": 0.2, "shown": [2.0, 4.0, 6.0], "points": 45, "levels": 181},
    quick_inputs={"points": 12, "levels": 61},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Left, on a logarithmic axis against the squared separation: the KL divergence is flat near 0.22 while the Fisher divergence and a bound just above it fall on almost "
    "straight lines to 3e-8; crosses for the integrated Fisher divergence lie on the KL line. Right: half the Fisher divergence against the signal level has one hump for "
    "each separation, further towards noise for larger separations, all of nearly the same area.",
    source="setting of Wenliang and Kanagawa, arXiv:2008.10087, 2020; bound and integral derived in ensembletheory.identifiability.blindness",
    claims=("blindness", "blindness-rate"),
)
