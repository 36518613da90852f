"""The exact law of a sampler is the law of its draws, for every scheme; changing any coefficient of a step changes both; densities of flows integrate to one."""

import ast
import dataclasses
import inspect
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.samplers import (
    AdaptiveLangevinCorrector,
    AnalyticDpm,
    Ddim,
    Ddpm,
    EdmHeun,
    Euler,
    EulerMaruyama,
    ExponentialIntegrator,
    Heun,
    LangevinCorrector,
    Midpoint,
    Rk4,
    Sampler,
    angle_grid,
    edm_grid,
    padded,
    quadratic_grid,
    uniform_grid,
)
from tests.helpers import assert_mean, spd

VP, LINEAR = et.processes.VariancePreserving(), et.processes.LinearInterpolant()
RNG = np.random.default_rng(0)
MEMBERS = [et.Gaussian(RNG.normal(size=2), spd(RNG, 2)) for _ in range(2)]
MIXTURE = et.GaussianMixture([0.4, 0.6], [[-1.5], [1.0]], [[0.3], [0.5]])
START = et.Gaussian([0.3, -0.2], [[1.2, 0.3], [0.3, 0.8]])
GRID = uniform_grid(VP, 25, 1e-3)
SCHEMES = {
    "euler-maruyama": EulerMaruyama(),
    "exponential": ExponentialIntegrator(),
    "ddpm": Ddpm(),
    "ddim": Ddim(),
    "ancestral": Ddim(eta=0.7),
    "analytic-dpm": AnalyticDpm(VP, MEMBERS[0], GRID, eta=0.8),
    "langevin": LangevinCorrector(EulerMaruyama(), step_size=0.02, steps=2),
    "euler": Euler(),
    "midpoint": Midpoint(),
    "heun": Heun(),
    "rk4": Rk4(),
    "edm-heun": EdmHeun(),
}


def sampler_of(name, grid=GRID):
    """With the field of a member that does not commute with the start; for Euler-Maruyama, of two that do not commute with each other either."""
    scheme = SCHEMES[name]
    fields = [getattr(VP, scheme.takes)(member) for member in MEMBERS]
    return Sampler(VP, et.MeanField(fields) if name == "euler-maruyama" else fields[0], scheme, grid)


@pytest.mark.parametrize("name", SCHEMES)
def test_law_is_the_law_of_the_draws(name):
    """Mean and all second moments of 100,000 draws at five standard errors: a variance off by 3.6 % is seen with probability 0.999."""
    sampler = sampler_of(name)
    law, draws = sampler.law(START), np.asarray(sampler.sample(jax.random.key(1), 100_000, START))
    centred = draws - np.asarray(law.mean)
    assert_mean(draws, law.mean)
    assert_mean(centred[:, :, None] * centred[:, None, :], law.cov)


class _Weighted(ast.NodeTransformer):
    """Multiplies every summand, and every number or base of a product, quotient or power, by a coefficient c[i] of its own."""

    def __init__(self):
        self.places = []

    def _weigh(self, operand):
        self.places.append(ast.unparse(operand))
        return ast.BinOp(ast.parse(f"c[{len(self.places) - 1}]", mode="eval").body, ast.Mult(), operand)

    def visit_BinOp(self, node):
        self.generic_visit(node)
        sides = ("left",) if isinstance(node.op, ast.Pow) else ("left", "right")
        for side in sides:
            operand = getattr(node, side)
            if isinstance(node.op, ast.Add | ast.Sub | ast.Pow) or isinstance(operand, ast.Constant):
                setattr(node, side, self._weigh(operand))
        return node

    def visit_Call(self, node):
        return node if ast.unparse(node.func) == "jnp.sign" else self.generic_visit(node)  # only whether there is a step, not its length


def weighted(step):
    """The step, and what of its schemes' module it shares with others, as source with coefficients c; and the places where they stand."""
    scope, weigh = vars(sys.modules[step.__module__]), _Weighted()
    functions = [step, *(scope[name] for name in ("towards", "posterior_variance") if name in scope)]
    trees = [weigh.visit(ast.parse(textwrap.dedent(inspect.getsource(function)))) for function in functions]
    return "\n".join(ast.unparse(ast.fix_missing_locations(tree)) for tree in trees), weigh.places


class _Affine(et.Field):
    def __call__(self, t, x):
        return 0.4 - (0.5 + t) * x


def with_step(scheme, step):
    """A copy of the scheme that steps otherwise."""
    changed = object.__new__(type("Changed", (type(scheme),), {"step": step, "__module__": __name__}))
    for field in dataclasses.fields(scheme):
        object.__setattr__(changed, field.name, getattr(scheme, field.name))
    return changed


@pytest.mark.verify
@pytest.mark.parametrize("name", [name for name in SCHEMES if name != "ddim"])
def test_changing_any_coefficient_of_the_step_changes_law_and_draws(name):
    scheme, start, grid = SCHEMES[name], et.Gaussian([0.3], 0.9), np.asarray(GRID)[10:13]
    source, places = weighted(type(scheme).step)

    def moments(one):
        law = one.law(start)
        return jnp.concatenate([law.mean, law.cov[0]])

    def outcome(c):
        names = dict(vars(sys.modules[type(scheme).step.__module__]), c=c)
        exec(source, names)
        sampler = Sampler(VP, _Affine(), with_step(scheme, names["step"]), grid)
        return moments(sampler), sampler.sample(jax.random.key(0), 2, start)[:, 0]

    coefficients = 1 + 0.01 * np.eye(len(places) + 1, len(places), k=-1)
    original, (laws, draws) = jax.jit(lambda c: (moments(Sampler(VP, _Affine(), scheme, grid)), jax.vmap(outcome)(c)))(coefficients)
    np.testing.assert_allclose(laws[0], original, rtol=1e-12)
    for place, law, drawn in zip(places, laws[1:], draws[1:], strict=True):
        assert np.max(np.abs(law - laws[0])) > 1e-6, place
        assert np.max(np.abs(drawn - draws[0])) > 1e-6, place


def test_laws_along_the_axes_are_those_of_full_matrices():
    """The same run coordinate by coordinate and with matrices, from a Gaussian and from a mixture."""
    variances = np.array([0.5, 2.0])
    sampler = Sampler(VP, VP.score(et.Gaussian([1.0, -1.0], variances)), EulerMaruyama(), GRID)
    full = sampler.kernel(2)
    for start in (et.Gaussian([0.2, 0.1], [0.9, 1.3]), et.GaussianMixture([0.3, 0.7], [[0.0, 1.0], [2.0, 0.0]], [[0.5, 1.0], [0.2, 0.4]])):
        law = sampler.law(start)
        np.testing.assert_allclose(law.mean, full.push(start).mean, atol=1e-13)
        np.testing.assert_allclose(law.cov, full.push(start).cov, atol=1e-13)
    coupled = Sampler(VP, VP.score(MEMBERS[0]), EulerMaruyama(), GRID)
    np.testing.assert_allclose(coupled.law(et.standard_normal(2)).cov, coupled.kernel(2).push(et.standard_normal(2)).cov, atol=1e-14)
    with pytest.raises(ValueError, match="off its linearisation"):
        coupled.coordinatewise_kernel(2)


def test_steps_of_length_zero_change_nothing():
    short, long = sampler_of("langevin"), sampler_of("langevin", padded(GRID, 40))
    np.testing.assert_allclose(long.law(START).cov, short.law(START).cov, rtol=1e-12)


def test_grids():
    np.testing.assert_allclose(uniform_grid(VP, 4, 0.2), [1.0, 0.8, 0.6, 0.4, 0.2])
    np.testing.assert_allclose(quadratic_grid(VP, 2, 0.2), [1.0, 0.4, 0.2])
    coarse = [80, 57.586, 40.7856, 28.3746, 19.3525, 12.9101, 8.40094, 5.31519, 3.25682]
    levels = np.array([*coarse, 1.92334, 1.08817, 0.585348, 0.296442, 0.139516, 0.0599473, 0.0229345, 0.00752802, 0.002])
    times = np.asarray(edm_grid(VP, 18))
    np.testing.assert_allclose(np.sqrt(np.expm1(0.1 * times + 19.9 * times**2 / 2)), [*levels, 0.0], rtol=5e-6)  # s/a of VP, against Karras et al.'s levels
    angles = np.arctan(np.sqrt(np.expm1(0.1 * (t := np.asarray(angle_grid(VP, 5, 0.01))) + 19.9 * t**2 / 2)))
    np.testing.assert_allclose(np.diff(angles), np.diff(angles)[0], rtol=1e-9)
    np.testing.assert_allclose(t[[0, -1]], [1.0, 0.01])
    np.testing.assert_array_equal(padded([1.0, 0.5, 0.0], 5), [1.0, 1.0, 1.0, 0.5, 0.0])


def test_log_prob_of_an_affine_flow_is_that_of_its_law():
    sampler, x = sampler_of("heun"), RNG.normal(size=(3, 2))
    np.testing.assert_allclose(sampler.log_prob(x), sampler.law(et.standard_normal(2)).log_prob(x), atol=1e-11)


def test_log_prob_of_a_mixture_flow_is_the_density_of_its_draws():
    sampler = Sampler(LINEAR, LINEAR.velocity(MIXTURE), Heun(), uniform_grid(LINEAR, 40))
    grid = np.linspace(-8, 8, 1601)[:, None]
    density = np.exp(sampler.log_prob(grid))
    assert density.sum() * 0.01 == pytest.approx(1.0, abs=1e-9)
    draws = np.asarray(sampler.sample(jax.random.key(2), 50_000, et.standard_normal(1)))
    for power in (1, 2, 3):
        assert_mean(draws**power, [(density * grid[:, 0] ** power).sum() * 0.01])
    assert np.max(np.abs(density - np.exp(MIXTURE.log_prob(grid)))) < 2e-3  # the discretisation error that is left


ADAPTIVE = AdaptiveLangevinCorrector(EulerMaruyama())


def test_the_adaptive_corrector_moves_towards_the_law_it_corrects():
    """From a law that is too narrow, one corrected step ends closer in variance than the predictor alone."""
    data, start, grid = et.standard_normal(4), et.Gaussian(np.zeros(4), 0.25), [0.5, 0.5 - 1e-6]
    plain, corrected = (
        np.asarray(Sampler(VP, VP.score(data), scheme, grid).sample(jax.random.key(0), 20_000, start)).var()
        for scheme in (EulerMaruyama(), AdaptiveLangevinCorrector(EulerMaruyama(), snr=0.4, steps=3))
    )
    assert plain == pytest.approx(0.25, rel=0.05)
    assert corrected > 0.5


def test_steps_that_are_not_affine_are_refused_by_name():
    for field, scheme in ((VP.score(MIXTURE), EulerMaruyama()), (VP.velocity(MIXTURE), Heun()), (VP.score(et.Gaussian([0.0], 2.0)), ADAPTIVE)):
        with pytest.raises(ValueError, match=f"{type(scheme).__name__} with .*off its linearisation"):
            Sampler(VP, field, scheme, GRID).law(et.standard_normal(1))


class _Longer(et.Field):
    def __call__(self, t, x):
        return jnp.concatenate([x, x])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Sampler(VP, VP.score(MIXTURE), EulerMaruyama(), [0.0, 1.0]), "`grid`.*decreasing times"),
        (lambda: Sampler(VP, VP.score(MIXTURE), EulerMaruyama(), [2.0, 0.0]), "`grid`.*from 2"),
        (lambda: Sampler(VP, VP.score(MIXTURE), EulerMaruyama(), [1.0]), "`grid`.*at least two"),
        (lambda: sampler_of("euler-maruyama").log_prob([0.0, 0.0]), "`scheme`.*EulerMaruyama.*deterministic"),
        (lambda: Sampler(VP, VP.velocity(MIXTURE), EulerMaruyama(), GRID), "`field`.*a velocity; expected a score.*convert"),
        (lambda: Sampler(VP, VP.score(MIXTURE), Ddpm(), uniform_grid(VP, 19)), "`grid`.*20 nodes.*beta of 1.05"),
        (lambda: Sampler(LINEAR, LINEAR.score(MIXTURE), Ddpm(), uniform_grid(LINEAR, 5, 0.1)), "`process`.*preserves variance"),
        (lambda: Sampler(LINEAR, VP.score(MIXTURE), EulerMaruyama(), GRID), "`field`.*another process.*VariancePreserving.*LinearInterpolant"),
        (lambda: Sampler(VP, _Longer(), Euler(), GRID).sample(jax.random.key(0), 2, START), r"`field`.*\(4,\).*\(2,\)"),
        (lambda: Sampler(VP, VP.score(MEMBERS[0]), EulerMaruyama(), GRID).law(et.standard_normal(3)), r"`field`.*\(3,\)"),
        (lambda: LangevinCorrector(Euler(), 0.1), "`predictor`.*takes a velocity"),
        (lambda: LangevinCorrector(EulerMaruyama(), -0.1), "`step_size, steps`.*-0.1"),
        (lambda: AdaptiveLangevinCorrector(EulerMaruyama(), snr=0.0), "`snr, steps`.*0 and 1"),
        (lambda: edm_grid(VP, 5, largest=200.0), "`angle`.*200.*to 152"),
        (lambda: padded([1.0, 0.5, 0.0], 2), "`nodes`.*2.*at least 3"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()


def test_a_run_that_leaves_the_finite_numbers_says_where():
    atoms = et.FiniteLaw([[0.0, 1.0], [2.0, 0.0]])
    with pytest.raises(FloatingPointError, match=r"Heun left the finite numbers at step 3 of 4, from time 0.25 to 0\."):
        Sampler(VP, VP.velocity(atoms), Heun(), uniform_grid(VP, 4)).sample(jax.random.key(0), 2, START)
    wild = Sampler(VP, VP.score(MEMBERS[0]), LangevinCorrector(EulerMaruyama(), 1e30), GRID)
    with pytest.raises(FloatingPointError, match="LangevinCorrector left the finite numbers at step"):
        wild.law(START)
