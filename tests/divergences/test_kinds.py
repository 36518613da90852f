"""How exact each divergence is for each pair of laws in dimensions 1, 2 and 3: a table, so that a closed form cannot quietly become Monte Carlo.

c closed form, q quadrature, e enclosure, m Monte Carlo (which needs a key), i infinite, x refused by name; there are no grid laws in dimension 3.
"""

import equinox as eqx
import jax
import numpy as np
import pytest

import ensembletheory as et
from tests.divergences.laws import COLUMNS, pair

LETTERS = {"c": "closed_form", "q": "quadrature", "e": "enclosure", "m": "monte_carlo"}
#                         GG GM MG MM   GR RG MR RM RR   GF FG MF FM RF FR   FF
TABLE = {
    "kl": {
        1: "               c  q  q  q    q  q  q  q  q    i  i  i  i  i  i    c",
        2: "               c  q  q  q    q  q  q  q  q    i  i  i  i  i  i    c",
        3: "               c  m  m  m    -  -  -  -  -    i  i  i  i  -  -    c",
    },
    "w1": {
        1: "               c  q  q  q    q  q  q  q  q    c  c  c  c  q  q    c",
        2: "               e  e  e  e    e  e  e  e  e    e  e  e  e  e  e    c",
        3: "               e  e  e  e    -  -  -  -  -    e  e  e  e  -  -    c",
    },
    "w2": {
        1: "               c  q  q  q    q  q  q  q  q    c  c  c  c  q  q    c",
        2: "               c  e  e  e    e  e  e  e  e    e  e  e  e  e  e    c",
        3: "               c  e  e  e    -  -  -  -  -    e  e  e  e  -  -    c",
    },
    "mw2": {
        1: "               c  c  c  c    x  x  x  x  x    c  c  c  c  x  x    c",
        2: "               c  c  c  c    x  x  x  x  x    c  c  c  c  x  x    c",
        3: "               c  c  c  c    -  -  -  -  -    c  c  c  c  -  -    c",
    },
    "jensen_shannon": {
        1: "               q  q  q  q    q  q  q  q  q    c  c  c  c  c  c    c",
        2: "               q  q  q  q    q  q  q  q  q    c  c  c  c  c  c    c",
        3: "               m  m  m  m    -  -  -  -  -    c  c  c  c  -  -    c",
    },
    "hellinger_squared": {
        1: "               c  q  q  q    q  q  q  q  q    c  c  c  c  c  c    c",
        2: "               c  q  q  q    q  q  q  q  q    c  c  c  c  c  c    c",
        3: "               c  m  m  m    -  -  -  -  -    c  c  c  c  -  -    c",
    },
    "total_variation": {
        1: "               c  q  q  q    q  q  q  q  q    c  c  c  c  c  c    c",
        2: "               q  q  q  q    q  q  q  q  q    c  c  c  c  c  c    c",
        3: "               m  m  m  m    -  -  -  -  -    c  c  c  c  -  -    c",
    },
    "chi_squared": {
        1: "               c  q  c  q    x  x  x  x  x    i  i  i  i  i  i    c",
        2: "               c  q  c  q    x  x  x  x  x    i  i  i  i  i  i    c",
        3: "               c  m  c  m    -  -  -  -  -    i  i  i  i  -  -    c",
    },
    "fisher_divergence": {
        1: "               c  q  q  q    q  q  q  q  q    x  x  x  x  x  x    x",
        2: "               c  q  q  q    q  q  q  q  q    x  x  x  x  x  x    x",
        3: "               c  m  m  m    -  -  -  -  -    x  x  x  x  -  -    x",
    },
    "l2_squared": {
        1: "               c  c  c  c    q  q  q  q  q    x  x  x  x  x  x    x",
        2: "               c  c  c  c    q  q  q  q  q    x  x  x  x  x  x    x",
        3: "               c  c  c  c    -  -  -  -  -    x  x  x  x  -  -    x",
    },
    "mmd_squared": {
        1: "               c  c  c  c    x  x  x  x  x    c  c  c  c  x  x    c",
        2: "               c  c  c  c    x  x  x  x  x    c  c  c  c  x  x    c",
        3: "               c  c  c  c    -  -  -  -  -    c  c  c  c  -  -    c",
    },
    "frechet_distance": {
        1: "               c  c  c  c    c  c  c  c  c    c  c  c  c  c  c    c",
        2: "               c  c  c  c    c  c  c  c  c    c  c  c  c  c  c    c",
        3: "               c  c  c  c    -  -  -  -  -    c  c  c  c  -  -    c",
    },
}


def kind(divergence, p, q, **options):
    """What the answer would be, without compiling it."""
    return eqx.filter_eval_shape(divergence, p, q, **options).kind


@pytest.mark.parametrize(("d", "letter"), [(1, "q"), (2, "e"), (3, "e")])
def test_a_squared_distance_is_as_exact_as_the_distance(d, letter):
    assert kind(et.w2_squared, *pair("GG", d)) == "closed_form"
    assert kind(et.w2_squared, *pair("MM", d)) == LETTERS[letter]


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("d", [1, pytest.param(2, marks=pytest.mark.verify), 3])
def test_kinds(name, d):
    divergence, letters = getattr(et, name), TABLE[name][d].split()
    assert len(letters) == len(COLUMNS)
    for column, letter in zip(COLUMNS, letters, strict=True):
        if letter == "-":
            continue
        p, q = pair(column, d)
        if letter == "x":
            with pytest.raises(TypeError, match=f"{type(p).__name__} and {type(q).__name__} in dimension {d}"):
                kind(divergence, p, q)
        elif letter == "i":
            assert divergence(p, q).kind == "closed_form", column
            assert float(divergence(p, q)) == np.inf, column
        elif letter == "m":
            with pytest.raises(ValueError, match=f"`key`.*None.*dimension {d}"):
                kind(divergence, p, q)
            assert kind(divergence, p, q, key=jax.random.key(0), samples=10) == "monte_carlo", column
        else:
            assert kind(divergence, p, q) == LETTERS[letter], column


def test_the_table_holds_every_divergence_of_the_public_face():
    public = {name for name in vars(et.divergences) if getattr(et, name, None) is getattr(et.divergences, name) and callable(getattr(et, name))}
    assert public == {*TABLE, "w2_squared", "empirical_w2"}


@pytest.mark.parametrize("name", [name for name in TABLE if "q" in TABLE[name][1] and not name.startswith("w")])
def test_asking_for_draws_gives_monte_carlo_unless_there_is_a_closed_form(name):
    options = {"key": jax.random.key(0), "samples": 10}
    for column, letter in zip(COLUMNS[:4], TABLE[name][1].split()[:4], strict=True):
        if letter in "cq":
            assert kind(getattr(et, name), *pair(column, 1), **options) == {"c": "closed_form", "q": "monte_carlo"}[letter]


def test_total_variation_of_equal_covariances_is_a_closed_form_in_every_dimension():
    for d in (2, 3):
        p, _ = pair("GG", d)
        assert et.total_variation(p, et.Gaussian(p.mean + 0.3, p.cov)).kind == "closed_form"
