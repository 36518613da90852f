"""Piecewise deterministic processes: paths obey flow, rates and jumps by NumPy's arithmetic, event times pass tests of known level and power, targets are kept."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ensembletheory.laws import Gaussian, GaussianMixture
from ensembletheory.processes import BouncyParticle, ForwardEventChain, RandomisedHmc, ZigZag
from ensembletheory.processes.pdmp.draws import normals, threefry, uniform
from ensembletheory.processes.pdmp.process import _run
from tests.helpers import assert_mean, assert_within_errors
from tests.processes.ks import assert_ks, critical, distance, power

MEAN, PRECISION = np.array([1.0, -2.0]), np.array([[1.0, 0.8], [0.8, 2.0]])
MEAN3, PRECISION3 = np.array([0.5, 0.0, -1.0]), np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.4], [0.0, -0.4, 0.7]])
COVS20 = np.diag(np.linspace(0.5, 2, 20)) + 0.3


@jax.jit
def _targets():
    """Made in one program."""
    plane, space = Gaussian(MEAN, np.linalg.inv(PRECISION)), Gaussian(MEAN3, np.linalg.inv(PRECISION3))
    return plane, space, Gaussian(MEAN, np.array([0.5, 2.0])), Gaussian(np.zeros(20), COVS20), Gaussian([1.0], [[2.0]])


PLANE, SPACE, DIAGONAL, MANY, LINE = _targets()
MIXING, FAR = 0.3, 1e3

PROCESSES = {
    "zigzag": ZigZag(PLANE, horizon=FAR),
    "zigzag, refreshed": ZigZag(DIAGONAL, 0.3, FAR),
    "bouncy": BouncyParticle(PLANE, 0.7, FAR),
    "bouncy in 20 dimensions": BouncyParticle(MANY, 0.7, FAR),
    "hmc": RandomisedHmc(PLANE, 1.3, FAR),
    "event chain": ForwardEventChain(SPACE, MIXING, horizon=FAR),
    "event chain on the sphere": ForwardEventChain(SPACE, MIXING, "sphere", FAR),
    "event chain on the line": ForwardEventChain(LINE, 0.0, "sphere", FAR),
}
KEPT, LOOKED_AT, N = 24, 10, 2048  # events of a path, those of which event times are tested, paths


def precision(process):
    return np.linalg.inv(np.asarray(process.target.cov))


@cache
def skeleton(name, until=FAR):
    """Times, positions and velocities of paths."""
    found = PROCESSES[name].skeleton(jax.random.key(3), N, KEPT, until=until)
    return found, np.asarray(found.times), np.asarray(found.positions), np.asarray(found.velocities)


def oscillated(process, z, v, s):
    """x'' = -S x by eigenvectors of S."""
    w2, Q = np.linalg.eigh(precision(process))
    w, y, u = np.sqrt(w2), z @ Q, v @ Q
    s = np.asarray(s)[..., None]
    return (y * np.cos(w * s) + u / w * np.sin(w * s)) @ Q.T, (u * np.cos(w * s) - w * y * np.sin(w * s)) @ Q.T


NAMES = ["zigzag", "zigzag, refreshed", "bouncy", "hmc", "event chain", "event chain on the sphere"]


@pytest.mark.parametrize("name", NAMES)
def test_paths_follow_the_flow_between_events(name):
    process, (_, t, x, v) = PROCESSES[name], skeleton(name)
    gaps = np.diff(t, axis=1)
    assert np.all(gaps > 0)
    if name == "hmc":
        moved = oscillated(process, x[:, :-1] - MEAN, v[:, :-1], gaps)[0] + MEAN
    else:
        moved = x[:, :-1] + v[:, :-1] * gaps[..., None]
    np.testing.assert_allclose(x[:, 1:], moved, atol=1e-9)


def plain_rates(name, z, v, S):
    """The rates of all clocks."""
    pull = z @ S
    if name.startswith("zigzag"):
        return np.maximum(v * pull, 0) + (0.3 if "refreshed" in name else 0.0)
    bounce = np.maximum(np.sum(v * pull, axis=-1, keepdims=True), 0)
    if name.startswith("event"):
        return bounce
    return np.concatenate([bounce, np.full_like(bounce, 0.7)], axis=-1)


NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)
PANELS = 8


def compensators(name, turned=False):
    """The integrals of all rates between events, by Gauss and Legendre's rule in panels, or for a rate whose slope has the wrong sign."""
    process, (_, t, x, v) = PROCESSES[name], skeleton(name)
    S, total = precision(process), 0.0
    z, v, gaps = (part[:, :LOOKED_AT] for part in (x - np.asarray(process.target.mean), v, np.diff(t, axis=1)))
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        for panel in range(PANELS):
            s = (gaps * (panel + (node + 1) / 2) / PANELS)[..., None]
            total = total + weight / 2 / PANELS * gaps[..., None] * plain_rates(name, z - v * s if turned else z + v * s, v, S)
    return total


@pytest.mark.parametrize("name", ["zigzag", "zigzag, refreshed", "bouncy", "event chain", "event chain on the sphere"])
def test_event_times_by_kolmogorov_and_smirnov(name):
    """By the random change of time the integrals of the whole rate between events are independent draws of Exp(1), of later events too, whose clocks had energy left.

    The level is 1e-4, and the power at least 0.9999 against rates of the wrong slope. That the right clock rings: how often it did, less its compensator, has mean 0.
    """
    parts = compensators(name)
    spent = parts.sum(axis=2)
    exponential = stats.expon.cdf
    assert_ks(spent.ravel(), exponential)
    assert_ks(spent[:, -1], exponential)
    wrong = compensators(name, turned=True).sum(axis=2).ravel()
    gap = distance(wrong, exponential)
    assert gap > critical(spent.size)
    assert power(spent.size, gap - critical(spent.size)) > 0.9999
    rang = rings(name)[:, :LOOKED_AT]
    assert_mean(rang.sum(axis=1) - parts.sum(axis=1), 0.0)
    assert np.all(rang.sum(axis=2) == 1)


def rings(name):
    """Which clock rang at every event, told from the velocities."""
    process, (_, _, x, v) = PROCESSES[name], skeleton(name)
    old, new = v[:, :-1], v[:, 1:]
    if name.startswith("zigzag"):
        assert np.all(abs(new) == 1)
        return (new != old).astype(int)
    if name.startswith("event"):
        return np.ones((*old.shape[:2], 1), int)
    normal = (x[:, 1:] - np.asarray(process.target.mean)) @ precision(process)
    bounced = old - 2 * (np.sum(old * normal, axis=2) / np.sum(normal**2, axis=2))[..., None] * normal
    is_bounce = np.max(abs(bounced - new), axis=2) < 1e-9
    return np.stack([is_bounce, ~is_bounce], axis=2).astype(int)


def test_refreshed_velocities_are_normal():
    for name, events in (("bouncy", rings("bouncy")[..., 1] == 1), ("hmc", np.ones((N, KEPT), bool))):
        new = skeleton(name)[3][:, 1:][events]
        assert_ks(new.ravel(), stats.norm.cdf)
        assert_mean(new[:, 0] * new[:, 1], 0.0)
    gaps = np.diff(skeleton("hmc")[1], axis=1)
    assert_ks(1.3 * gaps.ravel(), stats.expon.cdf)


@pytest.mark.parametrize("name", ["event chain", "event chain on the sphere"])
def test_event_chains_draw_from_the_flux_law(name):
    """v.n becomes -r with the densities r exp(-r^2/2), and 2 r on (0, 1) on the sphere in three dimensions, whatever it was; the rest of v is kept at 7 of 10 events."""
    process, (_, _, x, v) = PROCESSES[name], skeleton(name)
    normal = (x[:, 1:] - MEAN3) @ precision(process)
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    before, after = (np.sum(u * normal, axis=2) for u in (v[:, :-1], v[:, 1:]))
    law = stats.rayleigh.cdf if name == "event chain" else lambda r: np.clip(r, 0, 1) ** 2
    assert np.all(before > 0)
    assert_ks(-after.ravel(), law)
    assert_mean((after - after.mean()) * (before - before.mean()), 0.0)
    rests = [u - along[..., None] * normal for u, along in ((v[:, :-1], before), (v[:, 1:], after))]
    if name != "event chain":
        np.testing.assert_allclose(np.linalg.norm(v, axis=2), 1.0, rtol=1e-12)
        rests = [rest / np.linalg.norm(rest, axis=2, keepdims=True) for rest in rests]
    kept = np.max(abs(rests[0] - rests[1]), axis=2) < 1e-7
    assert_mean(kept.astype(float).ravel(), 1 - MIXING)
    new, frame = rests[1][~kept], np.cross(normal[~kept], [0.3, 0.5, 0.8])
    frame /= np.linalg.norm(frame, axis=1, keepdims=True)
    across = np.sum(new * frame, axis=1)
    assert_ks(across, stats.norm.cdf if name == "event chain" else lambda c: 1 - np.arccos(np.clip(c, -1, 1)) / np.pi)


def averages(process, t, x, v, until):
    """Means over time of x and x^2 of paths that are known by their events: exactly for straight motion, else by the trapezoid rule."""
    if isinstance(process, RandomisedHmc):
        s = np.linspace(0, 1, 1001)[:, None, None]
        gaps = np.diff(t, axis=1)
        points = oscillated(process, (x[:, :-1] - MEAN)[None], v[None, :, :-1], gaps[None] * s)[0] + MEAN
        return [np.sum(np.trapezoid(points**k, s[:, :, :, None], axis=0) * gaps[..., None], axis=1) / until for k in (1, 2)]
    gaps, a, b = np.diff(t, axis=1)[..., None], x[:, :-1], x[:, 1:]
    return np.sum(gaps * (a + b) / 2, axis=1) / until, np.sum(gaps * (a**2 + a * b + b**2) / 3, axis=1) / until


@pytest.mark.parametrize("name", ["zigzag", "bouncy", "hmc", "event chain"])
def test_simulations_are_the_paths_of_skeletons(name):
    """The same key gives the same paths; ends, counts and averages over time follow from the events."""
    process, until = PROCESSES[name], 1.5
    found = process.simulate(jax.random.key(3), N, until=until)
    events, t, x, v = skeleton(name, until)
    np.testing.assert_allclose(t[:, -1], until, rtol=1e-14)
    np.testing.assert_allclose(found.positions, x[:, -1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.velocities, v[:, -1], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(np.asarray(found.events).sum(axis=1), np.sum((np.diff(t, axis=1) > 0) & (t[:, 1:] < until), axis=1))
    some = slice(0, 30 if name == "hmc" else N)
    first, second = averages(process, t[some], x[some], v[some], until)
    np.testing.assert_allclose(np.asarray(found.mean)[some], first, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(np.asarray(found.second_moment)[some], second, rtol=1e-6, atol=1e-8)
    if name in ("zigzag", "hmc"):
        np.testing.assert_allclose(np.asarray(events.at([0.0, until]))[:, 1], found.positions, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(np.asarray(events.at([0.0, until]))[:, 0], x[:, 0], rtol=1e-12)


def test_a_path_does_not_depend_on_the_others_nor_on_chunks():
    """1500 of 2048 lanes, in chunks of 400, of which the last is not full."""
    process, until = PROCESSES["zigzag"], jnp.asarray(1.5)
    x, v = points(process)
    whole = process.run(jax.random.key(1), x, v, until)
    parts = _run(process, jax.random.key(1), jnp.asarray(x[:1500]), jnp.asarray(v[:1500]), until, 400)
    for name in ("positions", "velocities", "events", "mean", "second_moment"):
        np.testing.assert_allclose(getattr(parts, name), np.asarray(getattr(whole, name))[:1500], rtol=1e-12)


UNTIL = 10.0


def points(process, start=None):
    rng = np.random.default_rng(11)
    law = process.target if start is None else start
    v = rng.normal(size=(N, process.dim))
    if isinstance(process, ZigZag):
        v = np.sign(v)
    if isinstance(process, ForwardEventChain) and process.velocities == "sphere":
        v /= np.linalg.norm(v, axis=1, keepdims=True)
    return np.asarray(law.mean) + rng.normal(size=(N, process.dim)) @ np.linalg.cholesky(np.asarray(law.cov)).T, v


def ringing(name, process):
    """The stationary rates of the clocks: E (v.S x)_+ is the mean length of S x times that of (v.n)_+."""
    S = precision(process)
    if name.startswith("zigzag"):
        return np.sqrt(np.diag(S) / (2 * np.pi)) + float(process.refreshment)
    if name == "hmc":
        return np.array([1.3])
    pulls = np.random.default_rng(2).normal(size=(400_000, len(S))) @ np.linalg.cholesky(S).T
    along = {"event chain on the sphere": 1 / 4, "event chain on the line": 1 / 2}.get(name, 1 / np.sqrt(2 * np.pi))
    bounces = np.linalg.norm(pulls, axis=1).mean() * along
    return np.array([bounces, 0.7]) if name.startswith("bouncy") else np.array([bounces])


@pytest.mark.parametrize("name", PROCESSES)
def test_targets_are_kept(name):
    """From the target: means over time of x and x^2, the law at the end, velocities, their independence, and how often clocks ring."""
    process = PROCESSES[name]
    found = process.run(jax.random.key(0), *points(process), UNTIL)
    m, C = np.asarray(process.target.mean), np.asarray(process.target.cov)
    assert_mean(found.mean, m)
    assert_mean(found.second_moment, m**2 + np.diag(C))
    z, v = np.asarray(found.positions) - m, np.asarray(found.velocities)
    assert_mean(z[:, :, None] * z[:, None, :], C)
    assert_mean(z[:, :, None] * v[:, None, :], np.zeros_like(C))
    for i in range(min(process.dim, 3)):
        assert_ks(z[:, i] / np.sqrt(C[i, i]), stats.norm.cdf)
    if isinstance(process, BouncyParticle | RandomisedHmc) or name == "event chain":
        assert_ks(v[:, 0], stats.norm.cdf)
    counts = np.asarray(found.events) / UNTIL
    assert_within_errors(counts.mean(axis=0), np.hypot(counts.std(axis=0, ddof=1) / np.sqrt(N), 1e-3 * ringing(name, process)), ringing(name, process))


@pytest.mark.parametrize("name", ["zigzag", "bouncy", "event chain"])
def test_targets_are_reached_from_afar(name):
    """The slowest of these deviations has fallen below 1e-4 by then; at time 1 the law is still seen to be another."""
    process = PROCESSES[name]
    start = Gaussian(np.asarray(process.target.mean) + 2, 0.01)
    m, C = np.asarray(process.target.mean), np.asarray(process.target.cov)
    begun = points(process, start)
    z = np.asarray(process.run(jax.random.key(4), *begun, 40.0).positions) - m
    assert_mean(z, 0.0)
    assert_mean(z[:, :, None] * z[:, None, :], C)
    early = np.asarray(process.run(jax.random.key(4), *begun, 1.0).positions) - m
    assert np.max(abs(early.mean(axis=0)) / (early.std(axis=0) / np.sqrt(N))) > 10


def test_points_flow_ring_and_jump_as_lanes_do():
    x, v = np.array([0.3, -1.0]), np.array([1.0, -1.0])
    pull = PRECISION @ (x - MEAN)
    zigzag, refreshed, bouncy, hmc = (PROCESSES[name] for name in ("zigzag", "zigzag, refreshed", "bouncy", "hmc"))

    @jax.jit
    def of_points(x, v, key):
        flows = [(*zigzag.flow(x, v, 0.5), *hmc.flow(x, v, -0.7))]
        rates = [process.rates(x, v) for process in (zigzag, refreshed, bouncy, hmc)]
        return flows, rates, (zigzag.jump(key, x, v, 1), bouncy.jump(key, x, v, 0), bouncy.reflect(x, v), bouncy.jump(key, x, v, 1))

    [flows], rates, (flipped, bounced, reflected, drawn) = of_points(x, v, jax.random.key(0))
    for found, expected in zip(flows, (x + v / 2, v, *oscillated(hmc, x - MEAN, v, -0.7)), strict=True):
        np.testing.assert_allclose(found, expected + (MEAN if found is flows[2] else 0), rtol=1e-10)
    plain = (np.maximum(v * pull, 0), np.maximum(v * (x - MEAN) / [0.5, 2.0], 0) + 0.3, [max(v @ pull, 0), 0.7], [1.3])
    for found, expected in zip(rates, plain, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(flipped, [1.0, 1.0])
    np.testing.assert_allclose(reflected, v - 2 * (v @ pull) / (pull @ pull) * pull, rtol=1e-12)
    np.testing.assert_allclose(bounced, reflected, rtol=1e-12)
    assert np.all(np.asarray(drawn) != v)
    assert np.all(np.asarray(drawn) != np.asarray(reflected))


def test_threefry_gives_the_words_that_its_authors_publish():
    """The known answers of Random123 for 20 rounds."""
    answers = [(0, 0, 0, 0, 0x6B200159, 0x99BA4EFE), (*[0xFFFFFFFF] * 4, 0x1CB996FC, 0xBB002BE7), (0x13198A2E, 0x03707344, 0x243F6A88, 0x85A308D3, 0xC4923A9C, 0x483DF7A0)]
    keys = [np.array([row[k] for row in answers], np.uint32) for k in range(4)]
    high, low = jax.jit(threefry)((keys[0], keys[1]), keys[2], keys[3])
    np.testing.assert_array_equal(high, [row[4] for row in answers])
    np.testing.assert_array_equal(low, [row[5] for row in answers])


def test_uniform_numbers_never_reach_the_ends():
    ends = np.array([0, 2**32 - 1], np.uint32)
    double, single = jax.jit(lambda words: [uniform((words, words), jnp.dtype(kind)) for kind in ("float64", "float32")])(ends)
    np.testing.assert_array_equal(double, [2.0**-53, 1 - 2.0**-53])
    np.testing.assert_array_equal(single, np.array([2.0**-24, 1 - 2.0**-24], np.float32))


def test_normals_are_normal():
    u = np.random.default_rng(1).uniform(size=(4, 5000))
    z = np.asarray(jax.jit(normals, static_argnums=1)(u, 3))
    r = np.sqrt(-2 * np.log(u[:2]))
    np.testing.assert_allclose(z, [r[0] * np.cos(2 * np.pi * u[2]), r[1] * np.cos(2 * np.pi * u[3]), r[0] * np.sin(2 * np.pi * u[2])], rtol=1e-9, atol=1e-12)
    for row in z:
        assert_ks(row, stats.norm.cdf)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ZigZag(PLANE, -0.1), "`refreshment`: got -0.1; expected a rate >= 0"),
        (lambda: BouncyParticle(PLANE, 0.0), "`refreshment`: got 0; expected a rate > 0. Bounces alone keep |v|"),
        (lambda: RandomisedHmc(PLANE, 0.0), "`refreshment`: got 0; expected a rate > 0. The flow alone keeps the energy"),
        (lambda: BouncyParticle(PLANE, -1.0), "`refreshment`: got -1"),
        (lambda: ForwardEventChain(PLANE, 0.0), "`mixing`: got 0; expected a rate > 0. Events alone keep the plane"),
        (lambda: ForwardEventChain(PLANE, 1.5), "`mixing`: got 1.5; expected a probability"),
        (lambda: ForwardEventChain(PLANE, 0.5, "cube"), "`velocities`: got 'cube'"),
        (lambda: ZigZag(GaussianMixture([1.0], [[0.0]], [[1.0]])), "`target`: got GaussianMixture; expected a Gaussian"),
        (lambda: ZigZag(PLANE, [0.1, 0.2]), "`refreshment`: got shape (2,); expected one number"),
        (lambda: ZigZag(PLANE, horizon=0.0), "horizon"),
        (lambda: PROCESSES["zigzag"].simulate(jax.random.key(0), 0), "`n`: got 0"),
        (lambda: PROCESSES["zigzag"].simulate(jax.random.key(0), 5, until=2e3), "`until`: got 2000"),
        (lambda: PROCESSES["zigzag"].simulate(jax.random.key(0), 5, SPACE), "`start`: got dimension 3; expected dimension 2"),
        (lambda: PROCESSES["zigzag"].run(jax.random.key(0), np.zeros((3, 2)), np.zeros((4, 2))), "`velocities`: got shapes (3, 2)"),
        (lambda: PROCESSES["zigzag"].skeleton(jax.random.key(0), 5, 0), "`events`: got 0"),
        (lambda: skeleton("zigzag")[0].at([500.0]), "`times`: got 500"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises((ValueError, TypeError)) as error:
        make()
    assert message in str(error.value)
