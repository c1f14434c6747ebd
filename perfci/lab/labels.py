"""Which nodes a job may take, by what their inventory says of them: `model == "r640" and rack != "3"`.

The expressions are Jinja's, over a node's `name` and its labels (`node_labels` in the inventory).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import TemplateError
from jinja2.sandbox import SandboxedEnvironment

from perfci.lab.errors import NodesUnmatched

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perfci.lab.model import Node


def check_expression(where: str) -> None:
    """Raise ValueError where this is no expression."""
    try:
        SandboxedEnvironment().compile_expression(where)
    except TemplateError as error:
        msg = f'expected an expression such as model == "r640" and rack != "3": {error}'
        raise ValueError(msg) from error


def matching(nodes: Iterable[Node], where: str) -> frozenset[str]:
    """Return the names of the nodes that an expression is true for; a label that a node lacks equals nothing.

    Raises NodesUnmatched where there is none, and ValueError where this is no expression.
    """
    check_expression(where)
    holds = SandboxedEnvironment().compile_expression(where)
    nodes = tuple(nodes)
    try:
        found = frozenset(node.name for node in nodes if holds({**node.labels, "name": node.name}))
    except (TemplateError, TypeError) as error:
        raise NodesUnmatched(where=where, reason=f"it can't be worked out: {error}") from error
    if not found:
        labels = sorted({f"{name}={value}" for node in nodes for name, value in node.labels.items()})
        raise NodesUnmatched(where=where, reason=f"labels there are: {', '.join(labels) or 'none'}")
    return found
