"""The mutants of a module: copies in which one thing is changed."""

from __future__ import annotations

import ast
import hashlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.plugins import get_operator, operator_names
from parso.python.tree import Name
from parso.tree import search_ancestor

_REPLACED = {
    "ReplaceBinaryOperator": "Add_Sub Sub_Add Mul_Add Div_Mul FloorDiv_Mul Mod_Mul Pow_Mul"
    " RShift_LShift LShift_RShift BitOr_BitAnd BitAnd_BitOr BitXor_BitAnd",
    "ReplaceComparisonOperator": "Eq_NotEq NotEq_Eq Lt_LtE Lt_GtE LtE_Lt LtE_Gt"
    " Gt_GtE Gt_LtE GtE_Gt GtE_Lt Is_IsNot IsNot_Is",
}
AROUND = 8
_CHOSEN = {f"core/{kind}_{pair}" for kind, pairs in _REPLACED.items() for pair in pairs.split()}


@dataclass(frozen=True)
class Mutant:
    """A module in which one thing is changed."""

    module: Path
    source: str
    change: str
    """The lines that differ, for people: "12: a < b  →  a <= b"."""
    key: str
    """What tells it from the other mutants of the module."""


class StatementRemoved(Operator):  # type: ignore[misc]
    """Removes a call or an assignment that stands alone: a sync, a check, a note."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if getattr(node, "type", "") == "simple_stmt" and _acts(node.children[0]):
            yield node.start_pos, node.children[0].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.children[0] = Name("pass", node.start_pos, node.get_first_leaf().prefix)
        return node

    @classmethod
    def examples(cls) -> Iterable[Example]:
        return (Example("f()\nx = 1\n", "pass\nx = 1\n"),)


def operators() -> list[Operator]:
    """What makes mutants. Of the pairs of operators that Cosmic Ray exchanges, those that people
    confuse: most others are a TypeError, or for bits that do not meet the same."""
    names = [
        name
        for name in operator_names()
        if name in _CHOSEN or not name.removeprefix("core/").startswith(tuple(_REPLACED))
    ]
    classes = (*map(get_operator, names), StatementRemoved)
    return [operator() for operator in classes if not operator.arguments()]


def _acts(node: Any) -> bool:
    is_in_function = search_ancestor(node, "funcdef") is not None
    return is_in_function and node.type in ("atom_expr", "power", "expr_stmt")


class _Plain(ast.NodeTransformer):
    """Removes what has no effect at run time."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.Assign | None:
        return None if _is_typing(node.targets[0]) else node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        test = node.test.operand if isinstance(node.test, ast.UnaryOp) else node.test
        return None if _is_typing(test) else self.generic_visit(node)


def _is_typing(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "TYPE_CHECKING"


def meaning(source: str) -> str | None:
    """What a module does, to compare it; None if it is not valid Python."""
    try:
        return ast.dump(_Plain().visit(ast.parse(source)))
    except SyntaxError:
        return None


def mutants(module: Path) -> list[Mutant]:
    """All mutants of a module that are not obviously equivalent to it."""
    source = module.read_text()
    tree = get_ast(source)
    seen = {None, meaning(source)}
    found = []
    for operator in operators():
        count = sum(len([*operator.mutation_positions(node)]) for node in ast_nodes(tree))
        for occurrence in range(count):
            changed = mutate_code(source, operator, occurrence)
            if changed is not None and (means := meaning(changed)) not in seen:
                seen.add(means)
                found.append(mutant(module, source, changed))
    random.Random(module.name).shuffle(found)
    return found


def mutant(module: Path, source: str, changed: str) -> Mutant:
    """The mutant of this text. Its key is the lines around the change, so that it stays known
    where another part of the module is edited."""
    old, new = source.splitlines(), changed.splitlines()
    first = next(n for n, (a, b) in enumerate(zip([*old, ""], [*new, ""], strict=False)) if a != b)
    rest = 0
    while rest < min(len(old), len(new)) - first and old[-1 - rest] == new[-1 - rest]:
        rest += 1
    was, now = (" ".join(map(str.strip, t[first : len(t) - rest])) for t in (old, new))
    around = new[max(0, first - AROUND) : len(new) - rest + AROUND]
    key = hashlib.sha256("\n".join(around).encode()).hexdigest()[:16]
    return Mutant(module, changed, f"{first + 1}: {was}  →  {now or '(nothing)'}", key)
