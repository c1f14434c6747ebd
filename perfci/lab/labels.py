"""Which nodes fit, by what is known of them: `model == "r640" and cores >= 32`.

An expression compares a node's `name`, its labels (`node_labels` and `node_facts` in the inventory) and its
recorded facts with texts and numbers, by `== != < <= > >=`, `in [...]`, `not in [...]`, `and`, `or`, `not`
and brackets. Values are texts; compared with a number they are read as one. What a node lacks equals nothing.
"""

from __future__ import annotations

import ast
import operator
from typing import TYPE_CHECKING, Any, NoReturn

from perfci.lab.errors import NodesUnmatched
from perfci.validation import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from perfci.lab.model import Node

LONGEST = 500
"""Characters; a longer expression is a mistake, or an attempt to keep the parser busy."""
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ORDERS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


def check_expression(where: str) -> None:
    """Raise ValueError where this is no expression."""
    _parsed(where)


def matching(nodes: Iterable[Node], where: str) -> frozenset[str]:
    """Return the names of the nodes that an expression is true for.

    Raises NodesUnmatched where there is none, where no node has a label of a name in it, and where a label
    is compared with a number that is none; ValueError where this is no expression.
    """
    tree = _parsed(where)
    nodes = tuple(nodes)
    known = {"name", *(label for node in nodes for label in node.labels)}
    for name in sorted({part.id for part in ast.walk(tree) if isinstance(part, ast.Name)} - known):
        raise NodesUnmatched(where=where, reason=f"no node has a label {name}; {nearest(name, known)}")
    found = set()
    for node in nodes:
        try:
            if _true(tree, {**node.labels, "name": node.name}):
                found.add(node.name)
        except _NoNumber as error:
            raise NodesUnmatched(where=where, reason=f"{error} of {node.name} is no number") from error
    if not found:
        labels = sorted({f"{name}={value}" for node in nodes for name, value in node.labels.items()})
        raise NodesUnmatched(where=where, reason=f"labels there are: {', '.join(labels) or 'none'}")
    return frozenset(found)


class _NoNumber(Exception):
    """A label that is compared with a number is none."""


def _parsed(where: str) -> ast.expr:
    """Return the tree of an expression, made of nothing but the allowed parts."""
    example = 'expected an expression such as model == "r640" and cores >= 32'
    if len(where) > LONGEST:
        msg = f"{example}, of {LONGEST} characters at most; this has {len(where)}"
        raise ValueError(msg)
    try:
        tree = ast.parse(where.strip(), mode="eval").body
        _check(tree)
    except SyntaxError as error:
        msg = f"{example}: {error.msg}"
        raise ValueError(msg) from error
    except (ValueError, RecursionError, MemoryError) as error:
        msg = f"{example}: {error or 'it is nested too deeply'}"
        raise ValueError(msg) from error
    return tree


def _check(part: ast.expr) -> None:
    """Raise ValueError for a part that is not allowed."""
    if isinstance(part, ast.BoolOp):
        for value in part.values:
            _check(value)
    elif isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.Not):
        _check(part.operand)
    elif isinstance(part, ast.Compare):
        _value(part.left)
        for order, right in zip(part.ops, part.comparators, strict=True):
            _check_comparison(order, right)
    elif not isinstance(part, ast.Name):
        _refuse(f"{ast.unparse(part)!r} is neither a label nor a comparison")


def _check_comparison(order: ast.cmpop, right: ast.expr) -> None:
    if isinstance(order, (ast.In, ast.NotIn)):
        if not isinstance(right, (ast.List, ast.Tuple)):
            _refuse("write a list after `in`, such as [1, 2]")
        for element in right.elts:
            _value(element)
    elif type(order) in _COMPARISONS:
        _value(right)
    else:
        _refuse("`is` compares nothing here; use ==")


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)


def _value(part: ast.expr) -> None:
    if isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.USub):
        part = part.operand
        allowed: tuple[type, ...] = (int, float)
    else:
        allowed = (int, float, str)
    if isinstance(part, ast.Name) and str in allowed:
        return
    if not isinstance(part, ast.Constant) or type(part.value) not in allowed:
        msg = f"{ast.unparse(part)!r} is not a label, text or number"
        raise ValueError(msg)


def _true(part: ast.expr, values: Mapping[str, str]) -> bool:
    if isinstance(part, ast.BoolOp):
        combine = all if isinstance(part.op, ast.And) else any
        return combine(_true(value, values) for value in part.values)
    if isinstance(part, ast.UnaryOp):
        return not _true(part.operand, values)
    if isinstance(part, ast.Compare):
        places = [part.left, *part.comparators]
        return all(
            _compares(left, order, right, values)
            for left, order, right in zip(places, part.ops, places[1:], strict=False)
        )
    assert isinstance(part, ast.Name)  # noqa: S101 - _check lets nothing else through
    return bool(values.get(part.id))


def _compares(left: ast.expr, order: ast.cmpop, right: ast.expr, values: Mapping[str, str]) -> bool:
    if isinstance(order, (ast.In, ast.NotIn)):
        assert isinstance(right, (ast.List, ast.Tuple))  # noqa: S101 - as above
        within = any(_compares(left, ast.Eq(), one, values) for one in right.elts)
        return within == isinstance(order, ast.In)
    sides = [_side(left, values), _side(right, values)]
    if None in sides:
        # What a node lacks equals nothing, and is neither more nor less than anything.
        return isinstance(order, ast.NotEq)
    if any(not isinstance(side, str) for side in sides):
        ordered = isinstance(order, _ORDERS)
        for place, (part, side) in enumerate(zip((left, right), sides, strict=True)):
            try:
                sides[place] = float(side)  # type: ignore[arg-type]
            except ValueError:
                if ordered:
                    raise _NoNumber(ast.unparse(part)) from None
                return isinstance(order, ast.NotEq)
    return _COMPARISONS[type(order)](*sides)


def _side(part: ast.expr, values: Mapping[str, str]) -> str | float | None:
    if isinstance(part, ast.Name):
        return values.get(part.id)
    value: str | float = ast.literal_eval(part)
    return value
