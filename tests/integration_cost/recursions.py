"""Variances of what each sampler draws for data N(0, s^2), by recursions in NumPy written for each process by hand, and tables of what they cost."""

from itertools import pairwise

import numpy as np
from scipy.linalg import expm

RATE, MASS, FRICTION, GAMMA = 4.0, 0.25, 1.0, 0.04  # of critically damped Langevin
DRIFT = RATE * np.array([[0.0, 1 / MASS], [-1.0, -FRICTION / MASS]])
SPREAD = np.diag([0.0, 2 * FRICTION * RATE])


def kl(s2, variance):
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = s2 / np.asarray(variance, dtype=float)
        return np.where(ratio < np.inf, (ratio - 1 - np.log(ratio)) / 2, np.inf)


def linear(t, s2):
    return (t - (1 - t) * s2) / ((1 - t) ** 2 * s2 + t**2)


def oscillation(t, s2):
    c, s = np.cos(np.pi / 2 * t), np.sin(np.pi / 2 * t)
    return np.pi / 2 * s * c * (1 - s2) / (c**2 * s2 + s**2)


def transport(t, s2):
    s = np.sqrt(s2)
    return (1 - s) / ((1 - t) * s + t)


def beta(t):
    return 0.1 + 19.9 * t


def noised(t, s2):
    return 1 + (s2 - 1) * np.exp(-0.1 * t - 9.95 * t**2)


def diffusion(t, s2):
    return -beta(t) / 2 * (1 - 1 / noised(t, s2))


def times(steps, power=1):
    return (np.arange(steps, -1, -1) / steps) ** power


def flow(slope, power=1, heun=False):
    def variance(s2, steps):
        t = times(steps, power)
        h, first, last = np.diff(t), slope(t[:-1], s2), slope(t[1:], s2)
        factors = 1 + h / 2 * (first + last * (1 + h * first)) if heun else 1 + h * first
        return np.prod(factors) ** 2

    return variance


def reverse_sde(power=1):
    def variance(s2, steps):
        t = times(steps, power)
        found = 1.0
        for h, at in zip(-np.diff(t), t[:-1], strict=True):
            found = (1 + h * beta(at) * (1 / 2 - 1 / noised(at, s2))) ** 2 * found + h * beta(at)
        return found

    return variance


def quarter_turn(s2, steps):
    """Mass 1, stiffness 1 / s^2 and a quarter of the period, in the textbook's form."""
    h, q, p = np.pi * np.sqrt(s2) / 2 / steps, np.array([1.0, 0.0]), np.array([0.0, 1.0])
    for _ in range(steps):
        p = p - h / 2 * q / s2
        q = q + h * p
        p = p - h / 2 * q / s2
    return q @ q


def kinetic_covariance(t, s2):
    b = RATE * t
    E = np.exp(-2 * b / FRICTION) * np.array([[1 + 2 * b / FRICTION, 4 * b / FRICTION**2], [-b, 1 - 2 * b / FRICTION]])
    return E @ np.diag([s2 - 1, (GAMMA - 1) * MASS]) @ E.T + np.diag([1, MASS])


def kinetic_flow(heun=False):
    def variance(s2, steps):
        identity, h, X = np.eye(2), -1 / steps, np.diag([1.0, np.sqrt(MASS)])
        slopes = [DRIFT + SPREAD @ np.linalg.inv(kinetic_covariance(t, s2)) / 2 for t in times(steps)]
        for first, last in pairwise(slopes):
            X = (identity + (h / 2 * (first + last @ (identity + h * first)) if heun else h * first)) @ X
        return X[0] @ X[0]

    return variance


def kinetic_sde(s2, steps):
    h, C = 1 / steps, np.diag([1.0, MASS])
    for t in times(steps)[:-1]:
        A = np.eye(2) - h * (DRIFT + SPREAD @ np.linalg.inv(kinetic_covariance(t, s2)))
        C = A @ C @ A.T + h * SPREAD
    return C[0, 0]


def kinetic_splitting(s2, steps):
    h, C, stationary = 1 / steps, np.diag([1.0, MASS]), np.diag([1.0, MASS])
    half = expm(h / 2 * RATE * np.array([[0.0, -1 / MASS], [1.0, -FRICTION / MASS]]))
    noise = stationary - half @ stationary @ half.T
    for t in times(steps)[:-1]:
        pull = np.eye(2) + h * (np.diag([0.0, 2 * FRICTION * RATE / MASS]) - SPREAD @ np.linalg.inv(kinetic_covariance(t, s2)))
        A = half @ pull @ half
        C = A @ C @ A.T + half @ pull @ noise @ pull.T @ half.T + noise
    return C[0, 0]


VARIANCES = {
    "quarter_turn": quarter_turn,
    "transport_euler": flow(transport),
    "linear_euler": flow(linear),
    "linear_heun": flow(linear, heun=True),
    "oscillation_euler": flow(oscillation),
    "oscillation_heun": flow(oscillation, heun=True),
    "vp_euler": flow(diffusion),
    "vp_euler_quadratic": flow(diffusion, 2),
    "vp_heun_quadratic": flow(diffusion, 2, heun=True),
    "vp_sde": reverse_sde(),
    "vp_sde_quadratic": reverse_sde(2),
    "cld_euler": kinetic_flow(),
    "cld_heun": kinetic_flow(heun=True),
    "cld_sde": kinetic_sde,
    "cld_sscs": kinetic_splitting,
}
EVALUATIONS = {name: 2 if "heun" in name else 1 for name in VARIANCES}

DEVIATIONS, TOLERANCES = (0.1, 0.5, 2.0, 5.0), (1e-2, 1e-3, 1e-4)


def _cells(text):
    return [[float(cell) if cell != "-" else np.inf for cell in part.split("/")] for part in text.split("|")]


# Evaluations from which on KL stays at most 1e-2 / 1e-3 / 1e-4, for deviations .1, .5, 2 and 5, when numbers of steps are looked at on the grid of `COARSE`
COARSE = sorted({*range(1, 32), *(int(32 * 1.12**k) for k in range(38))})
ON_A_COARSE_GRID = {
    "quarter_turn": _cells("3/4/6|2/4/6|2/4/6|2/4/6"),
    "transport_euler": _cells("1/1/1|1/1/1|1/1/1|1/1/1"),
    "linear_euler": _cells("50/156/485|16/50/156|16/50/156|27/88/275"),
    "linear_heun": _cells("18/36/70|2/6/6|6/10/16|14/24/38"),
    "oscillation_euler": _cells("56/175/544|2/8/29|5/12/35|22/70/219"),
    "oscillation_heun": _cells("30/56/112|6/10/18|8/12/20|20/34/56"),
    "vp_euler": _cells("79/246/764|4/5/44|6/15/50|20/70/219"),
    "vp_euler_quadratic": _cells("7/11/17|6/16/50|11/40/124|40/139/433"),
    "vp_heun_quadratic": _cells("10/26/48|6/8/12|4/10/14|14/22/40"),
    "vp_sde": _cells("63/139/345|12/28/79|5/13/44|5/22/79"),
    "vp_sde_quadratic": _cells("23/70/219|12/35/111|8/12/27|6/50/175"),
    "cld_euler": _cells("682/2119/-|387/1346/-|275/855/-|196/682/2119"),
    "cld_heun": _cells("126/222/438|34/44/52|36/56/88|34/54/88"),
    "cld_sde": _cells("111/196/345|35/79/219|10/40/124|10/20/44"),
    "cld_sscs": _cells("246/764/-|25/79/219|14/40/124|70/246/764"),
}
# The same when every number of steps up to 2119 is looked at
EVERY = {
    "quarter_turn": _cells("3/4/6|2/4/6|2/4/6|2/4/6"),
    "transport_euler": _cells("1/1/1|1/1/1|1/1/1|1/1/1"),
    "linear_euler": _cells("47/143/449|16/48/149|16/48/149|27/82/256"),
    "linear_heun": _cells("18/36/66|2/6/6|6/10/16|14/24/38"),
    "oscillation_euler": _cells("52/160/501|2/8/29|5/12/33|22/64/199"),
    "oscillation_heun": _cells("30/56/104|6/10/18|8/12/20|20/34/56"),
    "vp_euler": _cells("76/236/741|4/5/43|6/15/46|20/66/216"),
    "vp_euler_quadratic": _cells("7/11/17|6/16/47|11/36/116|39/127/418"),
    "vp_heun_quadratic": _cells("10/26/48|6/8/12|4/10/14|14/22/40"),
    "vp_sde": _cells("61/129/321|12/28/76|5/13/41|5/22/74"),
    "vp_sde_quadratic": _cells("23/65/201|12/34/105|8/12/27|6/50/164"),
    "cld_euler": _cells("656/2101/-|374/1207/-|256/827/-|190/616/1951"),
    "cld_heun": _cells("122/222/394|34/44/52|36/56/88|34/54/88"),
    "cld_sde": _cells("107/187/344|35/76/203|10/37/124|10/20/43"),
    "cld_sscs": _cells("241/727/-|25/72/219|14/39/115|70/226/720"),
}
