"""Splittings against the same kicks and drifts in NumPy: orders, stability limits, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from ensembletheory.fields import Field
from ensembletheory.processes import OrnsteinUhlenbeck, QuadraticHamiltonian, SeparableHamiltonian
from ensembletheory.samplers import Leapfrog, Sampler, Splitting, blanes_moan4, mclachlan2, suzuki4, uniform_grid, yoshida4, yoshida6

SCHEMES = {"leapfrog": Leapfrog(), "mclachlan2": mclachlan2(), "yoshida4": yoshida4(), "suzuki4": suzuki4(), "blanes_moan4": blanes_moan4(), "yoshida6": yoshida6()}
ORDERS = {"leapfrog": 2, "mclachlan2": 2, "yoshida4": 4, "suzuki4": 4, "blanes_moan4": 4, "yoshida6": 6}
START = np.array([0.7, -1.1])


def step(scheme, q, p, h, force=np.sin, speed=lambda p: p + p**3 / 4):
    """One step for V = -cos q and K = p^2 / 2 + p^4 / 16, which are both not quadratic."""
    p = p - scheme.kicks[0] * h * force(q)
    for a, b in zip(scheme.kicks[1:], scheme.drifts, strict=True):
        q = q + b * h * speed(p)
        p = p - a * h * force(q)
    return q, p


def run(scheme, n, time=2.0):
    q, p = START
    for _ in range(n):
        q, p = step(scheme, q, p, time / n)
    return np.array([q, p])


EXACT = solve_ivp(lambda _, z: [z[1] + z[1] ** 3 / 4, -np.sin(z[0])], (0, 2), START, method="DOP853", rtol=1e-13, atol=1e-14).y[:, -1]


@pytest.mark.parametrize("name", SCHEMES)
def test_orders(name):
    """The order that the words give is the slope of the error between 32 and 64 steps of a drift each, within a fifth."""
    scheme, order = SCHEMES[name], ORDERS[name]
    assert scheme.order == order
    assert scheme.evaluations == len(scheme.drifts)
    coarse, fine = (np.linalg.norm(run(scheme, n) - EXACT) for n in (16, 32))
    assert np.log2(coarse / fine) == pytest.approx(order, abs=0.25)


def test_errors_at_equal_cost_are_ordered_as_published():
    """Per evaluation of the force: McLachlan's two drifts beat leapfrog, and Blanes and Moan's six beat Yoshida's three."""
    errors = {name: np.linalg.norm(run(SCHEMES[name], 240 // len(SCHEMES[name].drifts)) - EXACT) for name in SCHEMES}
    assert errors["mclachlan2"] < errors["leapfrog"] / 1.9
    assert errors["blanes_moan4"] < errors["yoshida4"] / 50


@pytest.mark.parametrize("name", SCHEMES)
def test_stability_limits(name):
    """The spectral radius of a step on an oscillator is 1 on a grid up to the limit, and more just beyond."""

    def radius(wh):
        columns = [step(SCHEMES[name], *e, wh, force=lambda q: q, speed=lambda p: p) for e in np.eye(2)]
        return np.max(abs(np.linalg.eigvals(np.array(columns).T)))

    limit = SCHEMES[name].stability_limit
    assert max(radius(wh) for wh in np.linspace(0.01, 1, 60) * 0.9999 * limit) < 1 + 1e-9
    assert radius(limit * 1.001) > 1 + 1e-3
    assert {"leapfrog": 2.0, "yoshida4": 1.5734}.get(name, limit) == pytest.approx(limit, abs=1e-4)


def test_steps_are_those_kicks_and_drifts_and_are_undone():
    hamiltonian = SeparableHamiltonian(lambda q: -jnp.sum(jnp.cos(q)), lambda p: jnp.sum(p**2 / 2 + p**4 / 16), horizon=2.0)
    scheme, field = blanes_moan4(), hamiltonian.gradient()
    stepped = jax.jit(lambda t, s, z: scheme.step(hamiltonian, field, t, s, z, jnp.zeros((0, 2))))
    there = stepped(1.5, 1.1, START)
    np.testing.assert_allclose(there, step(scheme, *START, 0.4), rtol=1e-13)
    np.testing.assert_allclose(stepped(1.1, 1.5, there), START, rtol=1e-13)


def test_kernels_of_samplers_are_products_of_steps():
    rng = np.random.default_rng(1)
    A = rng.normal(size=(2, 2))
    K, M = A @ A.T + 0.2 * np.eye(2), np.array([0.5, 2.0])
    hamiltonian = QuadraticHamiltonian(M, K, [1.0, 2.0], horizon=0.8)
    sampler = Sampler(hamiltonian, hamiltonian.gradient(), Leapfrog(), uniform_grid(hamiltonian, 4))
    kick, drift = np.eye(4), np.eye(4)
    kick[2:, :2], drift[:2, 2:] = -0.1 * K, 0.2 * np.diag(1 / M)
    exact = np.linalg.matrix_power(kick @ drift @ kick, 4)
    kernel = sampler.kernel(4)
    np.testing.assert_allclose(kernel.A, exact, rtol=1e-12, atol=1e-13)
    centre = np.array([1.0, 2.0, 0.0, 0.0])
    np.testing.assert_allclose(kernel.b, centre - exact @ centre, rtol=1e-12)


def sampler_of(hamiltonian, scheme, steps):
    return Sampler(hamiltonian, hamiltonian.gradient(), scheme, np.linspace(1.0, 0.0, steps + 1))


def test_unstable_steps_are_refused_with_the_limit_and_allowed_on_request():
    fast = QuadraticHamiltonian(2.0, 200.0)  # frequency 10
    with pytest.raises(ValueError, match="`grid`: got a step of 0.5, .* frequency 10: .* 5; .* stability limit 2. Steps below 0.2 are stable; Leapfrog with unstable=True"):
        sampler_of(fast, Leapfrog(), 2)
    with pytest.raises(ValueError, match="stability limit 1.5734"):
        sampler_of(fast, yoshida4(), 6)
    with pytest.raises(ValueError, match="stability limit 2"):
        sampler_of(fast, Leapfrog(), 5)  # the limit itself: parabolic
    sampler_of(fast, Leapfrog(), 6)
    sampler_of(fast, Leapfrog(unstable=True), 2)
    sampler_of(fast, yoshida4(unstable=True), 6)
    sampler_of(QuadraticHamiltonian(1.0, -50.0), Leapfrog(), 1)  # grows, but so does the exact flow


class Nowhere(Field):
    """A gradient of no process."""

    @property
    def kind(self):
        return "gradient"

    def __call__(self, t, x):
        return x


def test_refusals():
    with pytest.raises(ValueError, match=r"`process`: got a QuadraticHamiltonian whose H is no V\(q\) \+ K\(p\)"):
        sampler_of(QuadraticHamiltonian([1.0, 1.0], 1.0, coupling=[[0.0, 1.0], [0.0, 0.0]]), Leapfrog(), 4)
    plain = QuadraticHamiltonian(1.0, 1.0)
    with pytest.raises(ValueError, match="`field`: got a velocity; expected a gradient"):
        Sampler(plain, plain.velocity(), Leapfrog(), [1.0, 0.0])
    with pytest.raises(ValueError, match="`process`: got OrnsteinUhlenbeck; expected a Hamiltonian"):
        Sampler(OrnsteinUhlenbeck(), Nowhere(), Leapfrog(), [1.0, 0.0])
    for kicks, drifts, message in (
        ([0.5, 0.5], [0.5, 0.5], "got 2 and 2; expected one kick more than drifts"),
        ([0.3, 0.7], [1.0], "`kicks`: got .*; expected a palindrome"),
        ([0.25, 0.5, 0.25], [0.6, 0.4], "`drifts`: got .*; expected a palindrome"),
        ([0.4, 0.4], [1.0], "`kicks`: got coefficients that sum to 0.8"),
    ):
        with pytest.raises(ValueError, match=message):
            Splitting(kicks, drifts)


def test_positions_first():
    """Without kicks at the ends it is a drift that comes first."""
    scheme = Splitting([0.0, 1.0, 0.0], [0.5, 0.5])
    assert scheme.order == 2
    assert scheme.stability_limit == pytest.approx(2.0)
