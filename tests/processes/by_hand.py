"""Second routes in NumPy: coefficients of the SDEs as their papers print them, and fields of noised mixtures from Bayes' rule."""

import numpy as np
import scipy.integrate
import scipy.stats


def noised_fields(weights, means, covs, a, variance, x):
    """Log-density, score, E[X_0 | x] and E[Z | x] of a X_0 + sqrt(variance) Z at one point, for X_0 a mixture; covariances may be zero."""
    d = len(x)
    seen = [(a * m, a**2 * S + variance * np.eye(d)) for m, S in zip(means, covs, strict=True)]
    logs = np.log(weights) + [scipy.stats.multivariate_normal(m, C).logpdf(x) for m, C in seen]
    r = np.exp(logs - np.logaddexp.reduce(logs))
    pulls = [np.linalg.solve(C, x - m) for m, C in seen]
    denoised = sum(r[k] * (means[k] + a * covs[k] @ pulls[k]) for k in range(len(r)))
    score = -sum(r[k] * pulls[k] for k in range(len(r)))
    return np.logaddexp.reduce(logs), score, denoised, -np.sqrt(variance) * score


def solved(f, g2, start, times):
    """a_t and s_t^2 from dX = f X dt + g dW, by integrating (log a)' = f and (s^2)' = 2 f s^2 + g^2 from time 0."""
    answer = scipy.integrate.solve_ivp(lambda t, y: [f(t), 2 * f(t) * y[1] + g2(t)], (0.0, times[-1]), [0.0, start], t_eval=times, rtol=1e-11, atol=1e-14, method="DOP853")
    return np.exp(answer.y[0]), answer.y[1]
