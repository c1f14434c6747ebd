"""Whether a change can have an effect at all: its files as git has them now, and the code in them.

A suspect was found by the names of its files. Before it is blamed git is asked once more: what touches
tests or documents alone, or nothing, or comments alone, can't be the culprit.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING

from perfci.changes.suspects import kind_of, why_left_out

if TYPE_CHECKING:
    from perfci.changes.git import Repository
    from perfci.changes.model import Change
    from perfci.changes.suspects import Installed

COMMENTS = "comments and the layout of code"
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def why_without_effect(repository: Repository, change: Change, installed: Installed) -> str | None:
    """Return why a change of the repository's project can't be the culprit; None where it can.

    Raises GitTooSlow, and GitFailed where the repository has not got its commits.
    """
    if change.parent is None:
        return None
    files = files_between(repository, change.parent, change.commit)
    left = why_left_out(replace(change, files=files), installed)
    if left is not None:
        return str(left)
    kept = [one for one in files if kind_of(one) is None]
    if all(_is_same_code(repository, change.parent, change.commit, one) for one in kept):
        return COMMENTS
    return None


def files_between(repository: Repository, old: str, new: str) -> tuple[str, ...]:
    """Return the files that differ between two commits."""
    printed = repository.run("diff-tree", "-r", "--name-only", "--no-renames", "-z", old, new, "--")
    return tuple(one for one in printed.split("\0") if one)


def _is_same_code(repository: Repository, old: str, new: str, file: str) -> bool:
    if not file.endswith(".py"):
        return False
    before, after = repository.text(old, file), repository.text(new, file)
    if before is None or after is None:
        return False
    try:
        return _code(before) == _code(after)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _code(text: str) -> str:
    """Return Python's reading of a file without comments, layout and docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
