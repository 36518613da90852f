r"""Figure 2 of Pierret & Galerne: the error of each scheme along an eigenvector, |sqrt(lambda) - sqrt(v)|, against its eigenvalue.

Runs from N(0, I) to time 0 with 1000 evaluations of the score. Along an eigenvector of eigenvalue 1 the data are the noise: Euler, Heun, RK4 and DDPM keep N(0, 1) exactly, EM
and EI do not (one step from 1 gives EM 1 + (h b)^2 / 4 and EI 1 + 2 (exp(g) - 1)^2, with g half the integral of b over the step). No spectrum is needed.
"""

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure as Picture

from ensembletheory.plotting import LOOKS, WIDTHS, curve, new_figure
from ensembletheory.processes import VariancePreserving
from paper_figures.framework import Caption, Data, Figure, Number
from paper_figures.shared.pierret_galerne import CONTINUOUS, METHODS, continuous_variances, end_variances, node_times

__all__ = ["FIGURE"]

LIMITS = {"SDE": "reverse_sde", "ODE": "probability_flow"}


def _compute(betas: list[float], budget: int, decades: list[int], points_per_decade: int) -> Data:
    process = VariancePreserving(*jnp.asarray(betas))
    values = 10.0 ** (np.arange(decades[0] * points_per_decade, decades[1] * points_per_decade + 1) / points_per_decade)
    eigenvalues, start = jnp.asarray(values), jnp.ones((1, values.size))
    laws = continuous_variances(process, eigenvalues, jnp.zeros(1), jnp.asarray([*CONTINUOUS.values()]), start)[:, 0, 0]
    data: Data = {"eigenvalues": values} | {name: _error(laws[i], values) for i, name in enumerate(CONTINUOUS)}
    for name, method in METHODS.items():
        nodes = budget // method.evaluations
        data[name] = _error(end_variances(process, method.scheme, eigenvalues, jnp.asarray(node_times(nodes, 0.0, nodes))[None], start)[0, 0], values)
    return data


def _error(variances, eigenvalues: np.ndarray) -> np.ndarray:
    """|sqrt(lambda) - sqrt(v)|."""
    return np.abs(np.sqrt(variances) - np.sqrt(eigenvalues))


def _draw(data: Data) -> Picture:
    picture, (ax,) = new_figure(WIDTHS["icml_column"], 3.1)
    for name, look in (LIMITS | {name: method.look for name, method in METHODS.items()}).items():
        curve(ax, data["eigenvalues"], np.maximum(data[name], 1e-16), LOOKS[look])
    ax.set(xscale="log", yscale="log", xlabel=r"eigenvalue $\lambda$ of the data", ylabel=r"$|\sqrt{\lambda} - \sqrt{v}|$", ylim=(1e-8, 2), xlim=data["eigenvalues"][[0, -1]])
    picture.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return picture


# What the caption prints, at these eigenvalues, with the unit of each number in powers of ten.
AT = (1e-3, 1e-1, 1.0, 10.0, 100.0)
PRINTED = {
    "EM": ("8.67", "2.34", "7.00", "1.47", "226"),
    "EI": ("15.8", "12.7", "14.0", "20.0", "37.4"),
    "DDPM": ("8.63", "0.42", "0.00", "77.3", "784"),
    "Euler": ("4.66", "4.55", "0.00", "41.6", "596"),
    "Heun": ("1.20", "0.18", "0.00", "6.34", "215"),
    "RK4": ("0.02", "0.06", "0.00", "6.14", "213"),
    "ODE": ("0.01", "0.06", "0.00", "6.14", "213"),
}
SDE = (("2.95", -14), ("2.65", -11), ("0.00", 0), ("2.65", -7), ("9.15", -5))

TEXT = r"""Error along an eigenvector of the data against its eigenvalue, from $N(0,I)$ with 1000 evaluations of the exact score (EM, EI, DDPM and Euler with 1000 nodes,
Heun with 500, RK4 with 250), without truncation. Heun and RK4 lie on the flow for eigenvalues above 1.

In units of $10^{-4}$, at eigenvalues $10^{-3}$, $10^{-1}$, 1, 10 and 100: EM 8.67, 2.34, 7.00, 1.47, 226; EI 15.8, 12.7, 14.0, 20.0, 37.4; DDPM 8.63, 0.42, 0.00, 77.3, 784;
Euler 4.66, 4.55, 0.00, 41.6, 596; Heun 1.20, 0.18, 0.00, 6.34, 215; RK4 0.02, 0.06, 0.00, 6.14, 213; the probability flow itself 0.01, 0.06, 0.00, 6.14, 213. The reverse SDE:
2.95 $\cdot 10^{-14}$, 2.65 $\cdot 10^{-11}$, 0.00, 2.65 $\cdot 10^{-7}$ and 9.15 $\cdot 10^{-5}$.

An eigenvalue 1 is that of the noise: it is a fixed point of DDPM, Euler, Heun, RK4 and both limits, not of EM and EI. (The other dips are changes of sign.) Large eigenvalues
suffer from the start at $N(0,I)$, which the flow does not forget."""


def _caption(data: Data) -> Caption:
    at = [np.argmin(np.abs(np.log(data["eigenvalues"] / value))) for value in AT]
    numbers = [Number(rf"{name}, $\lambda={value:g}$", 1e4 * data[name][i], text) for name, row in PRINTED.items() for value, i, text in zip(AT, at, row, strict=True)]
    sde = [Number(rf"SDE, $\lambda={value:g}$", data["SDE"][i] * 10.0**-power, text) for value, i, (text, power) in zip(AT, at, SDE, strict=True)]
    return Caption(TEXT, (*numbers, *sde))


FIGURE = Figure(
    name="pierret_galerne_fig2",
    title="Errors of six schemes by eigenvalue: figure 2 of Pierret and Galerne",
    inputs={"betas": [0.1, 20.0], "budget": 1000, "decades": [-4, 3], "points_per_decade": 60},
    quick_inputs={"points_per_decade": 20},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Errors against the eigenvalue on logarithmic axes. Those of DDPM, Euler, Heun, RK4, the probability flow and the reverse SDE drop to zero at the eigenvalue 1, those "
    "of EM and EI do not. The reverse SDE is smallest nearly everywhere. For large eigenvalues DDPM and Euler are largest, and Heun and RK4 lie on the probability flow.",
    source='E. Pierret and B. Galerne, "Diffusion models for Gaussian distributions: exact solutions and Wasserstein errors", ICML 2025 (figure 2)',
)
