"""One look per meaning: a method has the same colour, marker and line in every figure.

Methods carry the colours of Okabe and Ito ("Color universal design", 2008), which stay apart for colour-blind readers, members are grey, and what a loss does
as an ensemble grows carries three colours of Tol's muted scheme. Marker and line differ as well, so that a black and white print can still be read.
"""

from typing import NamedTuple

from matplotlib.typing import LineStyleType

__all__ = ["LOOKS", "Look"]


class Look(NamedTuple):
    """How one meaning is drawn, and what a legend calls it."""

    color: str
    marker: str
    linestyle: LineStyleType
    label: str


LOOKS = {
    "target": Look("#000000", "s", "-", "target"),
    "member": Look("#B8B8B8", ".", (0, (1, 2)), "one member"),
    "average": Look("#7F7F7F", "x", "--", "member average"),
    "best": Look("#4D4D4D", "v", ":", "best member"),
    "linear": Look("#0072B2", "o", "-", "linear pool"),
    "log": Look("#D55E00", "D", "-", "log pool"),
    "barycenter": Look("#009E73", "^", (0, (5, 1)), "$W_2$ barycenter"),
    "mean_score_sde": Look("#E69F00", "P", (0, (3, 1, 1, 1)), "mean score, SDE"),
    "mean_score_ode": Look("#56B4E9", "h", "-.", "mean score, ODE"),
    "churn": Look("#CC79A7", "*", (0, (4, 1, 1, 1, 1, 1)), "mean score, churned"),
    "superdiff_and": Look("#4A1486", "d", (0, (3, 1, 1, 1, 1, 1)), "SuperDiff, and"),
    "feynman_kac": Look("#054907", "p", "-", "mean score with weights"),
    "resampled": Look("#FF66CC", "v", (0, (4, 1)), "weights and resampling"),
    "parameters": Look("#B2182B", "$A$", (0, (9, 3)), "averaged covariances"),
    "falls": Look("#332288", "o", "-", "loss falls"),
    "turns": Look("#999933", "D", "-.", "loss falls, then rises"),
    "rises": Look("#882255", "^", "--", "loss rises"),
    "independent_errors": Look("#117733", "p", (0, (1, 1)), "independent errors"),
    "random_labels": Look("#AA4499", "X", (0, (6, 2)), "copy with random labels"),
    "initialisation": Look("#0B3C6F", "<", (0, (2, 2)), "other initialisation"),
    "snapshot": Look("#44AA99", ">", (0, (2, 1)), "snapshot in training"),
    "perturbed": Look("#CC6677", "8", (0, (3, 3)), "perturbed copy"),
    "tree": Look("#7A5C00", "d", (0, (4, 2)), "decision tree"),
    "elbo": Look("#8C510A", "H", (0, (7, 2)), "ELBO"),
    "iwae": Look("#35978F", "1", (0, (8, 1, 1, 1)), "IWAE"),
    "kl": Look("#004488", "1", (0, (7, 1)), "KL divergence"),
    "fisher": Look("#BB5566", "2", (0, (1, 2, 4, 2)), "Fisher divergence"),
    "fisher_bound": Look("#DDAA33", "3", (0, (2, 3)), "bound on it"),
    "integrated": Look("#4477AA", "+", (0, (5, 3)), "half its integral over noise levels"),
    "regular": Look("#228833", "4", (0, (8, 2)), "regular point"),
    "singular": Look("#66508C", "|", (0, (5, 1, 1, 1, 1, 1)), "singular point"),
    "not_identified": Look("#EE6677", "_", (0, (1, 3)), "equal laws on other orbits (control)"),
    "euler": Look("#3377CC", "s", (0, (6, 1)), "Euler"),
    "midpoint": Look("#E07A5F", "v", (0, (3, 1)), "midpoint"),
    "heun": Look("#00876C", "D", (0, (4, 1, 1, 1)), "Heun"),
    "rk4": Look("#99004F", "o", (0, (9, 1)), "Runge-Kutta 4"),
    "euler_maruyama": Look("#EE3377", "<", (0, (1, 1, 3, 1)), "Euler-Maruyama"),
    "exponential_integrator": Look("#8A63D2", "p", (0, (5, 2)), "exponential integrator"),
    "ddpm": Look("#A6611A", ">", (0, (2, 1, 1, 1)), "DDPM"),
    "forward_sde": Look("#8DB600", "+", (0, (12, 1)), "forward SDE"),
    "reverse_sde": Look("#F08A00", "x", (0, (3, 2)), "reverse SDE"),
    "probability_flow": Look("#0000C8", "h", (0, (14, 1)), "probability flow"),
    "diffusion_path": Look("#8E5EA2", "^", (0, (6, 1, 1, 1)), "diffusion path"),
    "transport_path": Look("#2C8C99", "P", (0, (10, 2)), "OT path"),
    "matched_gaussian": Look("#2166AC", "*", (0, (11, 1)), "Gaussian of the same moments"),
    "isotropic_gaussian": Look("#BF812D", "X", (0, (4, 3)), "isotropic Gaussian"),
    "score_loss": Look("#5D3A9B", "s", (0, (4, 1)), "score-matching loss"),
    "frechet": Look("#C23B22", "^", "-", "squared Fréchet distance"),
    "kl_bound": Look("#6B1F2A", "s", (0, (2, 1)), "Song's bound"),
    "benton_bound": Look("#7B6FD0", "D", (0, (5, 1, 2, 1)), "Benton's bound"),
    "albergo_bound": Look("#0F7173", "v", (0, (7, 1, 1, 1)), "Albergo's bound"),
    "bootstrap_fits": Look("#1B7837", "o", (0, (13, 2)), "bootstrap fits"),
    "commuting": Look("#3F3F74", "s", (0, (6, 3)), "any, commuting"),
    "not_commuting": Look("#E8698D", "2", (0, (2, 4)), "any, not commuting"),
    "rule": Look("#5F5A8C", "o", (0, (1, 4)), "other rules"),
    "sscs": Look("#5B0F6B", "o", (0, (15, 1)), "SSCS"),
    "baoab": Look("#00501E", "D", (0, (15, 1, 1, 1)), "BAOAB"),
    "obabo": Look("#7FB800", "^", (0, (15, 2, 2, 2)), "OBABO"),
    "reversible": Look("#6E6E6E", "s", (0, (16, 1)), "reversible"),
    "any_skew": Look("#5AA0D0", "X", (0, (16, 2)), "any antisymmetric part"),
    "fastest_skew": Look("#002F6C", "D", (0, (16, 1, 1, 1)), "fastest antisymmetric part"),
    "one_direction": Look("#C1440E", "P", (0, (16, 2, 2, 2)), "noise in one direction"),
    "mean_field_encoder": Look("#8A1253", "D", (0, (17, 1)), "mean-field encoder"),
    "full_encoder": Look("#1F6F54", "8", (0, (17, 2)), "full encoder"),
    "reverse_fit": Look("#D98324", "<", (0, (17, 1, 1, 1)), "mean-field, reverse KL"),
    "kept_covariance": Look("#54494B", ">", (0, (17, 2, 2, 2)), "data covariance kept"),
    "oscillation": Look("#C2185B", "o", (0, (18, 1)), "oscillation"),
    "quarter_turn": Look("#B3001B", "o", (0, (23, 1)), "Hamiltonian, leapfrog"),
    "trained_leapfrog": Look("#FF7F50", "*", (0, (23, 2)), "leapfrog, trained through it"),
    "scalar_mass": Look("#7A1F3D", "1", (0, (23, 1, 1, 1)), "Hamiltonian, one mass"),
    "straight_lines": Look("#0A7E8C", "s", (0, (20, 1)), "flow matching, OT"),
    "independent_flow": Look("#3A6EA5", "8", (0, (20, 2)), "flow matching"),
    "independent_flow_heun": Look("#9BC1E6", "D", (0, (20, 1, 1, 1)), "flow matching, Heun"),
    "diffusion_flow": Look("#3D5A00", "3", (0, (21, 1)), "VP flow, Euler"),
    "diffusion_flow_heun": Look("#A2C523", "X", (0, (21, 2)), "VP flow, Heun"),
    "diffusion_sde": Look("#E0A100", "<", (0, (21, 1, 1, 1)), "VP reverse SDE"),
    "kinetic_flow": Look("#8C7AE6", ">", (0, (22, 1)), "critically damped, flow"),
    "prior_units": Look("#F2A6B3", "p", (0, (22, 2)), "Hamiltonian, prior's units"),
    "telegraph": Look("#B5179E", "$t$", (0, (19, 1)), "telegraph, reversed jumps"),
    "kac_flow": Look("#00798C", "$f$", (0, (19, 2)), "telegraph, flow"),
    "zig_zag": Look("#D1495B", "$z$", (0, (19, 1, 1, 1)), "zig-zag"),
    "randomised_hmc": Look("#2E4057", "$h$", (0, (19, 2, 2, 2)), "randomised HMC"),
    "rarely_refreshed": Look("#9E7BB5", "$r$", (0, (24, 1)), "refreshed rarely"),
    "refreshed": Look("#2E7D32", "$1$", (0, (24, 2)), "refreshed at the oscillator's rate"),
    "best_refreshed": Look("#B71C1C", "$b$", (0, (24, 1, 1, 1)), "refreshed at the best rate"),
    "often_refreshed": Look("#F57C00", "$o$", (0, (24, 2, 2, 2)), "refreshed often"),
    "critical_langevin": Look("#37474F", "$l$", (0, (25, 1)), "Langevin, critical friction"),
    "first_moments": Look("#1565C0", "$m$", (0, (25, 2)), "means"),
    "second_moments": Look("#AD1457", "$v$", (0, (25, 1, 1, 1)), "variances"),
    "fourth_powers": Look("#00838F", "$4$", (0, (25, 2, 2, 2)), "fourth powers"),
    "one_leapfrog_step": Look("#5E2750", "s", (0, (23, 1)), "1 step"),
    "two_leapfrog_steps": Look("#B0578D", "D", (0, (23, 2)), "2 steps"),
    "four_leapfrog_steps": Look("#E58FB1", "^", (0, (23, 1, 1, 1)), "4 steps"),
    "odd_steps": Look("#2F5D50", "p", (0, (23, 2, 2, 2)), "odd number of steps"),
    "gaussian_encoder": Look("#6C757D", "X", (0, (26, 1)), "best Gaussian encoder"),
    "distance_one": Look("#C9A227", "o", (0, (26, 2)), "modes 1 apart"),
    "distance_two": Look("#A65E2E", "s", (0, (26, 1, 1, 1)), "modes 2 apart"),
    "distance_three": Look("#7B2D26", "^", (0, (26, 2, 2, 2)), "modes 3 apart"),
    "distance_four": Look("#3B0D11", "D", (0, (27, 1)), "modes 4 apart"),
    "monte_carlo": Look("#222222", "o", "none", "Monte Carlo"),
}
