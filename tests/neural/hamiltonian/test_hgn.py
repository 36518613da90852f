"""Hamiltonian generative networks: structure for any weights, the bound again in NumPy and below the exact evidence, and training from random starts."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensembletheory import structures
from ensembletheory.fields import Field
from ensembletheory.laws import Gaussian
from ensembletheory.neural import FreeTwinLearner, HgnLearner, Pendulum, Recipe, fit_ensemble, member, roll_outs
from ensembletheory.neural.data import as_data
from ensembletheory.neural.hamiltonian.hamiltonian_flow import FixedKinetic
from ensembletheory.neural.hamiltonian.hgn import FrameBound, FrameModel, FreeMotion, parameters
from ensembletheory.neural.hamiltonian.pendulum import pictures
from ensembletheory.samplers import Leapfrog, Midpoint
from tests.helpers import assert_mean, assert_within_errors

SIDE, FRAMES, STEP, NOISE = 8, 6, 0.5, 0.1
PIXELS = SIDE**2
HGN = HgnLearner(PIXELS, STEP, latent=1, seen=3, width=8, depth=1, batch=16)
TWIN = FreeTwinLearner(HGN)
POINTS = np.random.default_rng(0).normal(size=(3, 2))


def sequences(seed, n):
    """Pictures of a pendulum and noise, one sequence a row."""
    rng = np.random.default_rng(seed)
    q = Pendulum().sequences(jax.random.key(seed), 64, STEP * np.arange(FRAMES))[:n, :, 0]
    return np.asarray(pictures(q, SIDE)).reshape(n, -1) + NOISE * rng.normal(size=(n, FRAMES * PIXELS))


@pytest.fixture(scope="module")
def rows():
    return sequences(0, 64)


@pytest.fixture(scope="module")
def trained(rows):
    """Three members from random starts."""
    learner = HgnLearner(PIXELS, STEP, seen=3, width=16, depth=1, batch=16)
    return fit_ensemble(jax.random.key(2), learner, rows, 3, Recipe(steps=400, chunk=400, learning_rate=1e-2, ema_decay=0.95))


@pytest.fixture(scope="module")
def started(rows):
    """A model of each kind before training."""
    law = as_data(rows)
    return eqx.filter_jit(lambda key: (HGN.initialise(key, law), TWIN.initialise(key, law)))(jax.random.key(4))


def with_weights(model, seed, scale):
    """The model with its motion and the last layer of its encoder drawn anew."""
    rng = np.random.default_rng(seed)

    def drawn(leaf):
        return jnp.asarray(scale * rng.normal(size=leaf.shape)) if leaf.ndim == 2 else leaf

    encoder = 0.1 * rng.normal(size=model.encoder.layers[-1].shape)
    encoder[2:, -1] += 1.5  # deviations around 0.6
    encoder = jnp.asarray(encoder)
    return eqx.tree_at(lambda m: (m.motion, m.encoder.layers[-1]), model, (jax.tree.map(drawn, model.motion), encoder))


@eqx.filter_jit
def defects(model, points):
    """Off symplecticity and volume after three steps; off the start after three steps there and back; the points themselves."""

    def there(z):
        return model.motion.roll(z, STEP, 3)[-1]

    back = jax.vmap(lambda z: model.motion.roll(there(z), -STEP, 3)[-1])(points)
    return structures.symplectic_defect(there, points), structures.volume_defect(there, points), jnp.max(jnp.abs(back - points)), jax.vmap(there)(points)


# ---------------------------------------------------------------- motion
@settings(max_examples=10)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.1, 1.5))
def test_leapfrog_is_symplectic_and_undone_whatever_the_weights(started, seed, scale):
    symplectic, volume, undone, ends = defects(with_weights(started[0], seed, scale), POINTS)
    assert symplectic < 1e-12
    assert volume < 1e-10
    assert undone < 1e-11 * (1 + np.max(np.abs(ends))) * (1 + scale) ** 6  # rounding grows by at most the norm of the steps


def test_the_twin_is_neither(started):
    for seed in range(3):
        symplectic, volume, undone, _ = defects(with_weights(started[1], seed, 0.7), POINTS)
        assert min(symplectic, volume, undone) > 1e-5


class Backward(Field):
    """A velocity in the time of samplers, which run to 0."""

    motion: FreeMotion

    def __call__(self, t, x):
        return -self.motion.velocity(x)


def test_steps_are_those_of_the_general_schemes(started):
    hgn, twin = started
    H, none = hgn.motion.hamiltonian, jnp.zeros((0, 2))

    @eqx.filter_jit
    def by_schemes(z, h):
        return Leapfrog().step(H, H.gradient(), h, 0 * h, z, none), Midpoint().step(H, Backward(twin.motion), h, 0 * h, z, none)

    for z in POINTS[:2]:
        expected = by_schemes(jnp.asarray(z), jnp.asarray(STEP))
        for model, point in zip(started, expected, strict=True):
            np.testing.assert_allclose(rolled(model, z, 2)[1], point, rtol=1e-12)


def test_energy_is_kept_up_to_the_square_of_the_step(started):
    """Over a fixed time, the largest error of H falls by 4 when the step is halved."""
    model = with_weights(started[0], 1, 0.8)

    @eqx.filter_jit
    def error(h, steps):
        path = model.motion.roll(jnp.asarray(POINTS[0]), h, steps)
        return jnp.max(jnp.abs(jax.vmap(model.motion.hamiltonian.energy)(path) - model.motion.hamiltonian.energy(path[0])))

    errors = [float(error(h, round(2.0 / h))) for h in (0.02, 0.01)]
    assert errors[0] > 1e-9
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


rolled = eqx.filter_jit(lambda model, z, frames: model.roll(jnp.asarray(z), frames))


# ---------------------------------------------------------------- the bound, again in NumPy
def perceptron(network, x, activation):
    """Rows of outputs for rows of inputs."""
    *hidden, last = (np.asarray(layer) for layer in network.layers)
    for layer in hidden:
        x = activation(x @ layer[:, :-1].T + layer[:, -1])
    return x @ last[:, :-1].T + last[:, -1]


def silu(x):
    return x / (1 + np.exp(-x))


def slope(energy, x):
    """Of x^2 / 2 and one hidden layer of softplus units a_i softplus(w_i x + b_i), at many x on the line."""
    W, a = (np.asarray(layer) for layer in energy.correction.network.layers)
    return x + (1 / (1 + np.exp(-(x[:, None] * W[:, 0] + W[:, 1])))) @ (a[0, :-1] * W[:, 0])


def fits(model, row, z):
    """The log-density of the frames given each of many z_0."""
    (q, p), H = np.array(z).T, model.motion.hamiltonian
    total = np.zeros(len(q))
    for frame in row.reshape(-1, PIXELS):
        mean = np.asarray(model.mean) + float(model.scale) * perceptron(model.decoder, q[:, None], silu)
        total += np.sum(-((frame - mean) ** 2) / (2 * float(model.noise) ** 2) - np.log(2 * np.pi * float(model.noise) ** 2) / 2, axis=1)
        p = p - STEP / 2 * slope(H.potential, q)
        q = q + STEP * slope(H.kinetic, p)
        p = p - STEP / 2 * slope(H.potential, q)
    return total


def encoded(model, row):
    seen = (row[: 3 * PIXELS].reshape(3, -1) - np.asarray(model.mean)) / float(model.scale)
    mean, log_width = np.split(perceptron(model.encoder, seen.reshape(1, -1), silu)[0], 2)
    return mean, np.exp(log_width - 2)


def weights_and_bound(model, row):
    """By Gauss-Hermite over the encoder the bound, and by the trapezoid rule over phase space the evidence and the divergence of the encoder from the posterior."""
    centre, width = encoded(model, row)
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
    weights = np.outer(weights, weights).ravel() / (2 * np.pi)
    bound = weights @ fits(model, row, centre + width * grid) - np.sum(centre**2 + width**2 - 1 - 2 * np.log(width)) / 2
    axis = np.linspace(-7, 7, 101)
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    joint = fits(model, row, z) - np.sum(z**2, axis=1) / 2 - np.log(2 * np.pi)
    evidence = joint.max() + np.log(np.sum(np.exp(joint - joint.max())) * (axis[1] - axis[0]) ** 2)
    own = -np.sum(((z - centre) / width) ** 2, axis=1) / 2 - np.sum(np.log(width)) - np.log(2 * np.pi)
    gap = np.sum(np.exp(own) * (own - joint + evidence)) * (axis[1] - axis[0]) ** 2
    return bound, evidence, gap


def test_bound_evidence_and_gap(started, rows):
    """ELBO = log p - KL(encoder || posterior), all three by their own integrals, and the estimate within its error."""
    for seed in range(2):
        model = with_weights(started[0], seed, 0.5)
        bound, evidence, gap = weights_and_bound(model, rows[seed])
        assert gap > 0.1
        assert bound == pytest.approx(evidence - gap, abs=1e-6 * abs(evidence))
        estimate = model.elbo(jax.random.key(seed), rows[seed], 512)
        assert_within_errors(estimate.value, estimate.error, bound)


def test_the_loss_is_minus_the_bound_a_pixel(started, rows):
    """The divergence times beta; with two rows of data the divergence drawn is the mean over 16 draws of two numbers."""
    law = as_data(rows[:2])
    losses = eqx.filter_jit(lambda model, key: [eqx.tree_at(lambda loss: loss.beta, HGN.loss(law), jnp.asarray(beta))(model, key) for beta in (0.0, 1.0, 3.0)])
    fit, one, three = (float(loss) for loss in losses(started[0], jax.random.key(0)))
    assert three - fit == pytest.approx(3 * (one - fit), rel=1e-9)
    divergences = [np.sum(c**2 + w**2 - 1 - 2 * np.log(w)) / 2 for c, w in (encoded(started[0], row) for row in rows[:2])]
    drawn = (one - fit) * rows.shape[1]
    assert any(drawn == pytest.approx(np.mean([divergences[0]] * k + [divergences[1]] * (16 - k)), rel=1e-9) for k in range(17))


def test_opposite_points_show_the_same_frames(started, rows):
    """The gauge z -> -z, of energies, encoder and decoder at once, changes neither bound nor roll-out."""
    model = started[0]

    def flipped(network, layer, rows=slice(None), columns=slice(None)):
        matrix = np.array(network.layers[layer])
        matrix[rows, columns] *= -1
        return jnp.asarray(matrix)

    H = model.motion.hamiltonian
    turned = eqx.tree_at(
        lambda m: [
            m.motion.hamiltonian.potential.correction.network.layers[0],
            m.motion.hamiltonian.kinetic.correction.network.layers[0],
            m.encoder.layers[-1],
            m.decoder.layers[0],
        ],
        model,
        [
            flipped(H.potential.correction.network, 0, columns=0),
            flipped(H.kinetic.correction.network, 0, columns=0),
            flipped(model.encoder, -1, rows=slice(2)),
            flipped(model.decoder, 0, columns=0),
        ],
    )
    first, second = (np.asarray(predicted(m, rows[0])) for m in (model, turned))
    np.testing.assert_allclose(first, second, rtol=1e-11)
    bounds = [m.elbo(jax.random.key(0), rows[0], 512) for m in (model, turned)]  # equal in law: draws change their signs
    assert_within_errors(bounds[0].value, bounds[0].error + bounds[1].error, bounds[1].value)


predicted = eqx.filter_jit(lambda model, row: model.predict(row, 2 * FRAMES))


def test_draws_have_the_means_and_variances_of_the_model(started):
    model = with_weights(started[0], 5, 0.5)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    (q, p), weights = np.stack(np.meshgrid(nodes, nodes, indexing="ij")).reshape(2, -1), np.outer(weights, weights).ravel() / (2 * np.pi)
    H = model.motion.hamiltonian
    p = p - STEP / 2 * slope(H.potential, q)
    means = [np.asarray(model.mean) + float(model.scale) * perceptron(model.decoder, x[:, None], silu) for x in (q, q + STEP * slope(H.kinetic, p))]
    draws = np.asarray(model.sample(jax.random.key(0), 4096, 2)).reshape(4096, 2, PIXELS)
    for t, mean in enumerate(means):
        assert_mean(draws[:, t], weights @ mean)
        assert_mean(draws[:, t] ** 2, weights @ mean**2 + float(model.noise) ** 2)


# ---------------------------------------------------------------- training and ensembles
def test_training_from_random_starts_learns_more_than_the_mean_frame_and_no_more_than_the_noise(trained, rows):
    """A pixel: the loss of independent normal pixels with the moments of the data above, the entropy of the noise below, which no model beats on new data."""
    alone = np.log(2 * np.pi * np.e * np.var(rows.reshape(-1, PIXELS), axis=0)).mean() / 2
    assert np.all(np.asarray(trained.losses)[:, -50:].mean(axis=1) < alone)
    for k in range(3):
        bounds = np.array([float(member(trained.average, k).elbo(jax.random.key(k), row, 64).value) for row in sequences(7, 8)]) / rows.shape[1]
        assert bounds.mean() <= -np.log(2 * np.pi * np.e * NOISE**2) / 2 + 5 * bounds.std(ddof=1) / 8**0.5


def test_roll_outs_are_the_predictions_of_the_members(trained, rows):
    frames = np.asarray(roll_outs(trained.average, jnp.asarray(rows[:4]), 2 * FRAMES))
    assert frames.shape == (3, 4, 2 * FRAMES, PIXELS)
    for k in range(3):
        np.testing.assert_allclose(frames[k, 1], predicted(member(trained.average, k), rows[1]), rtol=1e-9)


# ---------------------------------------------------------------- sizes and refusals
def test_frames_are_centred_and_scaled_by_the_law(started, rows):
    frames = rows.reshape(-1, PIXELS)
    scale = np.sqrt(np.mean((frames - frames.mean(axis=0)) ** 2))
    for model in started:
        np.testing.assert_allclose(model.mean, frames.mean(axis=0), rtol=1e-12)
        assert float(model.scale) == pytest.approx(scale, rel=1e-10)
    normal = Gaussian(rows.mean(axis=0), np.var(rows, axis=0))
    assert float(eqx.filter_jit(HGN.initialise)(jax.random.key(0), normal).scale) == pytest.approx(scale, rel=1e-10)


@pytest.mark.parametrize(("latent", "width", "depth"), [(1, 8, 1), (1, 24, 2), (3, 32, 2)])
def test_the_twin_has_as_many_parameters(latent, width, depth):
    learner = HgnLearner(PIXELS, STEP, latent=latent, width=width, depth=depth)
    energy = (latent + 1) * width + (depth - 1) * (width + 1) * width + width + 1
    n, wide = 2 * latent, FreeTwinLearner(learner).width
    counts = [(n + 1) * w + (depth - 1) * (w + 1) * w + n * (w + 1) for w in (wide - 1, wide, wide + 1)]
    assert abs(counts[1] - 2 * energy) == min(abs(count - 2 * energy) for count in counts)
    assert abs(counts[1] / (2 * energy) - 1) < 0.05


def test_parameters_are_counted(started):
    hgn, twin = started
    assert (parameters(hgn.motion), parameters(twin.motion)) == (2 * (2 * 8 + 9), 3 * 10 + 2 * 11)
    assert parameters(hgn) == 50 + 16 * (3 * PIXELS + 1) + 4 * 17 + 16 * 2 + PIXELS * 17 + 1  # and the noise
    assert parameters(FixedKinetic(np.ones(()))) == 1
    assert isinstance(twin, FrameModel)


def begun(learner, numbers):
    """A model for sequences of so many numbers; nothing is compiled."""
    return eqx.filter_eval_shape(learner.initialise, jax.random.key(0), as_data(np.random.default_rng(0).normal(size=(5, numbers))))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HgnLearner(4, STEP, latent=5), "`latent`: got 5 positions for 4 pixels"),
        (lambda: HgnLearner(4, 0.0), "`step and beta`: got 0.0 and 1.0"),
        (lambda: HgnLearner(4, STEP, seen=0), "`seen`: got 0"),
        (lambda: HgnLearner(4, STEP, width=0), "`width`: got 0"),
        (lambda: HgnLearner(4, STEP, depth=-1), "`depth`: got -1"),
        (lambda: FrameBound(None, batch=0), "`batch`: got 0"),
        (lambda: begun(HGN, 100), "`data`: got sequences of 100 numbers"),
        (lambda: begun(TWIN, 2 * PIXELS), "`data`: .*at least 3 frames"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_sequences_that_are_none_are_refused(started):
    for row in (np.zeros(PIXELS * 2), np.zeros(PIXELS * 3 + 1), np.zeros((3, PIXELS))):
        with pytest.raises(ValueError, match="`row`: got shape"):
            started[0].elbo(jax.random.key(0), row)


def test_counts_that_are_none_are_refused(started):
    row, key = np.zeros(PIXELS * 3), jax.random.key(0)
    for call, name in (
        (lambda: started[0].elbo(key, row, 1), "samples"),
        (lambda: started[0].predict(row, 0), "frames"),
        (lambda: started[0].sample(key, 2, 0), "frames"),
        (lambda: started[0].sample(key, 0, 2), "n"),
    ):
        with pytest.raises(ValueError, match=f"`{name}`: got"):
            call()
