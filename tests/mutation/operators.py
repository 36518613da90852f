"""Small mistakes of the kind that formulas suffer: a sign, a factor 2, a transposed matrix, swapped arguments, a dropped term.

Each operator maps an expression to the expressions that stand for it in a mutant. Only the bodies of functions are mutated, and in them neither error messages nor
annotations nor subscripts, where a mistake is one of Python, not of mathematics.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["OPERATORS", "Mutant", "mutants"]

BARRED = (ast.Raise, ast.JoinedStr, ast.Subscript, ast.arg, ast.Import, ast.ImportFrom)
ERRORS = {"refuse", "TypeError", "ValueError", "RuntimeError"}
INTERCHANGEABLE = {"maximum", "minimum", "logaddexp", "max", "min", "dot"}
NOT_MATHEMATICS = {"isinstance", "issubclass", "getattr", "hasattr", "range", "zip", "as_floats", "checked_point", "refuse_singular"}


@dataclass(frozen=True)
class Mutant:
    """A module with one expression changed."""

    operator: str
    function: str
    line: int
    before: str
    after: str
    source: str

    @property
    def name(self) -> str:
        """What a list of survivors calls it: independent of line numbers."""
        return f"{self.function}: {self.operator}: {self.before} -> {self.after}"


def sign(node: ast.expr) -> Iterator[ast.expr]:
    """a + b and a - b for each other, and -a without its minus."""
    match node:
        case ast.BinOp(left, ast.Add(), right):
            yield ast.BinOp(left, ast.Sub(), right)
        case ast.BinOp(left, ast.Sub(), right):
            yield ast.BinOp(left, ast.Add(), right)
        case ast.UnaryOp(ast.USub(), operand) if not isinstance(operand, ast.Constant):
            yield operand


def factor(node: ast.expr) -> Iterator[ast.expr]:
    """Twice the constant in a product, a quotient or a power."""
    match node:
        case ast.BinOp(left, ast.Mult() | ast.Div() | ast.Pow() as operation, ast.Constant(value)) if _is_number(value):
            yield ast.BinOp(left, operation, ast.Constant(2 * value))
        case ast.BinOp(ast.Constant(value), ast.Mult() | ast.Div() as operation, right) if _is_number(value):
            yield ast.BinOp(ast.Constant(2 * value), operation, right)


def transposed(node: ast.expr) -> Iterator[ast.expr]:
    """A for A.T."""
    match node:
        case ast.Attribute(value, "T"):
            yield value


def swapped(node: ast.expr) -> Iterator[ast.expr]:
    """f(b, a) for f(a, b)."""
    match node:
        case ast.Call(function, [first, second, *rest], keywords) if _orderly(function, first, second):
            yield ast.Call(function, [second, first, *rest], keywords)


def _orderly(function: ast.expr, first: ast.expr, second: ast.expr) -> bool:
    """Whether the order of a function's first two arguments is a matter of mathematics."""
    if _called(function) in INTERCHANGEABLE | NOT_MATHEMATICS or {type(first), type(second)} & {ast.Starred, ast.Lambda}:
        return False
    return ast.unparse(first) != ast.unparse(second)


def dropped(node: ast.expr) -> Iterator[ast.expr]:
    """A sum or difference without one of its terms."""
    match node:
        case ast.BinOp(left, ast.Add(), right):
            yield left
            yield right
        case ast.BinOp(left, ast.Sub(), right):
            yield left
            yield ast.UnaryOp(ast.USub(), right)


OPERATORS: dict[str, Callable[[ast.expr], Iterator[ast.expr]]] = {o.__name__: o for o in (sign, factor, transposed, swapped, dropped)}


def mutants(source: str) -> Iterator[Mutant]:
    """All mutants of a module, in the order of its lines."""
    tree = ast.parse(source)
    for function in _functions(tree):
        for parent, field, position, node in _expressions(function):
            for name, operator in OPERATORS.items():
                for replacement in operator(node):
                    yield Mutant(name, function.name, node.lineno, ast.unparse(node), ast.unparse(replacement), _with(tree, parent, field, position, node, replacement))


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Functions and methods of a module; what they define inside belongs to them."""
    for node in tree.body:
        for member in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(member, ast.FunctionDef):
                yield member


def _expressions(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.expr]]:
    """Every expression below `node` that may be mutated, and where it hangs: (parent, field, position in a list or None, expression)."""
    for field, value in ast.iter_fields(node):
        if field in ("decorator_list", "returns", "annotation", "args") and not isinstance(node, ast.Call):
            continue
        for position, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or isinstance(child, BARRED) or (isinstance(child, ast.Call) and _called(child.func) in ERRORS):
                continue
            if isinstance(child, ast.expr):
                yield node, field, position, child
            yield from _expressions(child)


def _with(tree: ast.Module, parent: ast.AST, field: str, position: int | None, old: ast.expr, new: ast.expr) -> str:
    """The source of `tree` with `new` in the place of `old`; the tree is left as it was."""

    def put(node):
        if position is None:
            setattr(parent, field, node)
        else:
            getattr(parent, field)[position] = node

    put(new)
    source = ast.unparse(ast.fix_missing_locations(tree))
    put(old)
    return source


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
