"""The operators of the mutation run: what they change, and what they leave alone."""

import ast

import pytest

from tests.mutation.operators import mutants

SOURCE = '''
"""Adds a + b."""
BOX = 2 * 3

def f(a, b: "n+1" = None):
    """a + b."""
    if a[0 + 1] < 0:
        refuse("a", f"{a - b}", "more", "Give more.")
        raise ValueError(a - b)
    return 0.5 * g(a.T, b) - h(*a, b)

class C:
    def method(self):
        return isinstance(self, C) and -self.x
'''
EXPECTED = {
    ("f", "sign", "0.5 * g(a.T, b) - h(*a, b)", "0.5 * g(a.T, b) + h(*a, b)"),
    ("f", "dropped", "0.5 * g(a.T, b) - h(*a, b)", "0.5 * g(a.T, b)"),
    ("f", "dropped", "0.5 * g(a.T, b) - h(*a, b)", "-h(*a, b)"),
    ("f", "factor", "0.5 * g(a.T, b)", "1.0 * g(a.T, b)"),
    ("f", "swapped", "g(a.T, b)", "g(b, a.T)"),
    ("f", "transposed", "a.T", "a"),
    ("method", "sign", "-self.x", "self.x"),
}


def test_they_change_the_terms_of_formulas_and_nothing_else():
    assert {(m.function, m.operator, m.before, m.after) for m in mutants(SOURCE)} == EXPECTED


@pytest.mark.parametrize("mutant", list(mutants(SOURCE)), ids=lambda mutant: f"{mutant.operator}-{mutant.after}")
def test_a_mutant_differs_from_its_module_in_one_place(mutant):
    assert mutant.after in mutant.source
    assert mutant.source != ast.unparse(ast.parse(SOURCE))
    assert ast.unparse(ast.parse(SOURCE)).replace(mutant.before, mutant.after, 1) == mutant.source


def test_lines_are_those_of_the_module():
    lines = SOURCE.splitlines()
    assert all(m.before.split("(")[0] in lines[m.line - 1] for m in mutants(SOURCE))
