"""Every group, action and quotient metric obeys all its axioms; alignment is the minimum over all elements by brute force."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

from ensembletheory.identifiability import Action, Monomial, Orthogonal, Permutations, PositiveMonomial, Product, Scalings, SignedPermutations, Signs
from ensembletheory.identifiability.axioms import action_defects, group_defects, metric_defects

PRODUCT = Product((Signs(1), SignedPermutations(2)))
GROUPS = [*(kind(3) for kind in (Permutations, Signs, SignedPermutations)), PRODUCT, *(kind(3) for kind in (Orthogonal, Scalings, Monomial, PositiveMonomial))]
FINITE = GROUPS[:4]
ROUNDING = 1e-12
RNG = np.random.default_rng(0)


def key(n):
    return jax.random.key(n)


def some(group, n=4):
    return [group.random(key(k)) for k in range(n)]


def loadings(n=4, shape=(4, 3)):
    return [RNG.normal(size=shape) for _ in range(n)]


def mixtures(n=4, K=3):
    return [{"weights": RNG.dirichlet(np.ones(K)), "means": RNG.normal(size=(K, 2)), "covs": RNG.normal(size=(K, 2, 2))} for _ in range(n)]


def segments(n=4):
    return [{"mixing": RNG.normal(size=(4, 3)), "variances": RNG.uniform(0.5, 2, (2, 3)), "noise": np.asarray(RNG.uniform())} for _ in range(n)]


RESCALED = ({"mixing": 1, "variances": 1, "noise": None}, {"mixing": 1, "variances": -2, "noise": 1})
ACTIONS = [(Action(group), loadings) for group in GROUPS]
ACTIONS += [(Action(group, 0), mixtures) for group in (Permutations(3), SignedPermutations(3))]
ACTIONS += [(Action(group, *RESCALED), segments) for group in (Permutations(3), Scalings(3), Monomial(3), PositiveMonomial(3))]
NAMES = [f"{action.group}-{draw.__name__}" for action, draw in ACTIONS]


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_group_axioms(group):
    defects = group_defects(group, some(group))
    assert set(defects) == {"closure", "associativity", "identity", "inverse"}
    assert max(defects.values()) < ROUNDING, defects


@pytest.mark.parametrize(("action", "draw"), ACTIONS, ids=NAMES)
def test_action_axioms(action, draw):
    defects = action_defects(action, some(action.group), draw())
    assert set(defects) == {"identity", "compatibility"}
    assert max(defects.values()) < ROUNDING, defects


@pytest.mark.parametrize(("action", "draw"), ACTIONS, ids=NAMES)
def test_quotient_metric_axioms(action, draw):
    defects = metric_defects(action, some(action.group), draw())
    assert set(defects) == {"non-negative", "symmetry", "separation", "triangle", "invariance"}
    assert max(defects.values()) < 1e-7, defects  # distances of 0 are known to the root of rounding


def test_the_axioms_can_fail():
    class Halved(Permutations):
        """No group: products leave it."""

        def random(self, key):
            return super().random(key) / 2

    class Backwards(Action):
        """A right action: compatible with products only in the wrong order."""

        def act(self, g, parameters):
            return super().act(g.T, parameters)

    class Raw(Action):
        """No section: min |a - g b| over signs of columns is no metric on orbits of scalings."""

        def section(self, parameters):
            return parameters

    assert group_defects(Halved(3), some(Halved(3)))["closure"] == 1
    assert action_defects(Backwards(Orthogonal(3)), some(Orthogonal(3)), loadings())["compatibility"] > 0.1
    assert metric_defects(Raw(Scalings(3)), some(Scalings(3)), loadings())["invariance"] > 0.1


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_membership_is_seen(group):
    assert group.contains(group.identity)
    assert all(group.contains(g) for g in some(group))
    assert not group.contains(np.full((3, 3), 0.5))
    assert not group.contains(np.eye(2))
    assert not group.contains(np.diag([1.0, 1.0, 0.0]))
    assert group.contains(np.diag([1.0, -1.0, 1.0])) == (not isinstance(group, Permutations | PositiveMonomial))
    assert group.contains(np.diag([1.0, 2.0, 1.0])) == isinstance(group, Scalings | Monomial)


@pytest.mark.parametrize(("group", "order"), list(zip(FINITE, (6, 8, 48, 16), strict=True)), ids=map(str, FINITE))
def test_finite_groups_list_all_elements_once_and_multiply_within(group, order):
    elements = list(group.elements())
    table = {g.tobytes() for g in elements}
    assert (len(elements), len(table), group.order) == (order, order, order)
    assert {(g @ h + 0.0).tobytes() for g, h in itertools.product(elements, repeat=2)} == table
    np.testing.assert_array_equal(elements[0], np.eye(3))


def test_a_product_is_block_diagonal_and_its_parts_act_alone():
    mixed = Product((Permutations(2), Scalings(1), Monomial(2)))
    g = mixed.random(key(0))
    assert [block.shape for block in mixed.split(g)] == [(2, 2), (1, 1), (2, 2)]
    np.testing.assert_array_equal(mixed.join(mixed.split(g)), g)
    np.testing.assert_allclose(mixed.inverse(g) @ g, np.eye(5), atol=1e-15)
    assert mixed.compact_part == Product((Permutations(2), Signs(1), SignedPermutations(2)))
    assert PRODUCT.compact_part is PRODUCT
    assert (mixed.order, PRODUCT.order, str(PRODUCT)) == (np.inf, 16, "Signs(1) x SignedPermutations(2)")
    beside = np.eye(3)[[1, 0, 2]]
    assert SignedPermutations(3).contains(beside)
    assert not PRODUCT.contains(beside)
    assert not Product((Orthogonal(2), Signs(1))).monomial
    odd, even = RNG.normal(size=(2, 3, 3))
    best = max(PRODUCT.elements(), key=lambda h: np.sum(odd * h + even * abs(h)))
    np.testing.assert_array_equal(PRODUCT.nearest(odd, even), best)


def test_orbits_are_all_images():
    a = np.array([[1.0, 2.0]])
    assert sorted(map(tuple, (image[0] for image in Action(SignedPermutations(2)).orbit(a)))) == sorted(
        {(s * x, t * y) for s in (1, -1) for t in (1, -1) for x, y in ((1.0, 2.0), (2.0, 1.0))}
    )
    with pytest.raises(ValueError, match=r"`group`: got Orthogonal, which is infinite; expected a finite group"):
        next(Action(Orthogonal(2)).orbit(a))
    assert len(list(Orthogonal(1).elements())) == 2


@pytest.mark.parametrize("group", FINITE, ids=str)
@settings(max_examples=15)
@given(data=st.data())
def test_alignment_is_the_minimum_over_all_elements(group, data):
    numbers = st.lists(st.integers(-4, 4), min_size=24, max_size=24)
    a, b = np.asarray(data.draw(numbers), dtype=float).reshape(2, 4, 2 + 1)
    brute = min(np.linalg.norm(a - b @ g.T) for g in group.elements())
    assert Action(group).distance(a, b) == pytest.approx(brute, abs=1e-12)


def test_alignment_of_mixtures_matches_whole_components():
    for a, b in itertools.combinations(mixtures(K=3), 2):
        images = [{name: part[list(order)] for name, part in b.items()} for order in itertools.permutations(range(3))]
        brute = min(np.sqrt(sum(np.sum((a[name] - image[name]) ** 2) for name in a)) for image in images)
        assert Action(Permutations(3), 0).distance(a, b) == pytest.approx(brute, rel=1e-12)


def test_alignment_with_rescaled_variances_is_the_minimum_over_signed_permutations():
    """Columns of length one, variances times squared lengths, then brute force over signs and orders."""

    def normalised(a):
        lengths = np.linalg.norm(a["mixing"], axis=0)
        return {"mixing": a["mixing"] / lengths, "variances": a["variances"] * lengths**2, "noise": a["noise"]}

    for a, b in itertools.combinations(segments(3), 2):
        x, y = normalised(a), normalised(b)
        candidates = []
        for order, signs in itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)):
            columns = y["mixing"][:, list(order)] * signs
            parts = (x["mixing"] - columns, x["variances"] - y["variances"][:, list(order)], x["noise"] - y["noise"])
            candidates.append(np.sqrt(sum(np.sum(part**2) for part in parts)))
        assert Action(Monomial(3), *RESCALED).distance(a, b) == pytest.approx(min(candidates), rel=1e-12)


@settings(max_examples=15)
@given(st.lists(st.integers(-4, 4), min_size=12, max_size=12))
def test_procrustes_is_the_bures_distance(entries):
    """Of W W^T and V V^T, of rank 2 in three dimensions, by SciPy's root of the covariances."""
    W, V = np.asarray(entries, dtype=float).reshape(2, 3, 2) / 2
    W, V = W + np.eye(3)[:, :2], V + 2 * np.eye(3)[:, 1:]
    eigenvalues, vectors = linalg.eigh(W @ W.T)
    root = (vectors * np.sqrt(np.maximum(eigenvalues, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(linalg.eigvalsh(root @ V @ V.T @ root), 0)).sum()
    squared = np.trace(W @ W.T) + np.trace(V @ V.T) - 2 * cross
    assert Action(Orthogonal(2)).distance(W, V) ** 2 == pytest.approx(squared, abs=2e-6)


def test_alignment_undoes_a_rotation_with_either_sheet():
    W, action = RNG.normal(size=(4, 3)), Action(Orthogonal(3))
    for sheet in (1.0, -1.0):
        Q = Orthogonal(3).random(key(5)) * [1, 1, 1]
        Q = Q * np.array([1, 1, sheet * np.sign(np.linalg.det(Q))])
        g = action.align(W, action.act(Q, W))
        assert np.linalg.det(Q) == pytest.approx(sheet)
        np.testing.assert_allclose(g, Q.T, atol=1e-12)


def test_haar_measure():
    """Entries of a Haar orthogonal matrix in three dimensions are uniform on [-1, 1], and both sheets are equally likely; permutations are uniform."""
    keys = jax.random.split(key(0), 600)
    draws = np.stack([Orthogonal(3).random(k) for k in keys])
    for i, j in ((0, 0), (2, 1), (0, 2)):
        assert stats.kstest(draws[:, i, j], stats.uniform(-1, 2).cdf).pvalue > 1e-6
    assert stats.binomtest(int(np.sum(np.linalg.det(draws) > 0)), 600).pvalue > 1e-6
    signed = [SignedPermutations(2).random(k).tobytes() for k in keys]
    assert stats.chisquare(np.unique(signed, return_counts=True)[1]).pvalue > 1e-6
    assert len(set(signed)) == 8


def test_jax_arrays_stay_and_can_be_traced():
    W, Q = jnp.asarray(RNG.normal(size=(4, 3))), Orthogonal(3).random(key(1))
    moved = Action(Orthogonal(3)).act(Q, W)
    assert isinstance(moved, jax.Array)
    np.testing.assert_allclose(moved, np.asarray(W) @ Q.T, atol=1e-15)
    np.testing.assert_allclose(jax.jit(lambda a: Action(Orthogonal(3)).act(Q, a))(W), moved, atol=1e-15)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Permutations(0), "`size`: got 0; expected at least 1"),
        (lambda: Product(()), "`size`: got 0; expected at least 1"),
        (lambda: Action(Orthogonal(2), -1, -2), r"`powers`: got -2; expected 1, for Orthogonal\(2\)"),
        (lambda: Action(Orthogonal(2)).act(np.eye(2), np.zeros((2, 3))), r"`parameters`: got an array of shape \(2, 3\) with axis -1; expected length 2"),
        (lambda: Action(Orthogonal(2), 1).act(np.eye(2), np.zeros(2)), r"`parameters`: got an array of shape \(2,\) with axis 1"),
        (lambda: Action(Orthogonal(2)).distance(np.zeros((3, 2)), np.zeros((4, 2))), r"`b`: got arrays of shapes \[\(4, 2\)\]; expected \[\(3, 2\)\]"),
        (lambda: Action(Scalings(2)).distance(np.eye(2), np.zeros((2, 2))), "`parameters`: got a column of zeros"),
    ],
)
def test_mistakes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
