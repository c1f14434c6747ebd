"""Canaries: fixed workloads beside OpenStack, run before and after the load on every node."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from perfci.results.errors import CanariesError
from perfci.results.files import Amount, FromFile, Name, parse, place, read_bytes, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_BEFORE, _AFTER = "-before", "-after"


class _Canary(FromFile):
    unit: Literal["seconds"]
    values: Annotated[list[Amount], Field(min_length=1)]


class _File(FromFile):
    node: Name
    canaries: Annotated[dict[Name, _Canary], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class NodeCanaries:
    """One node's canaries in one run: the median of each in seconds, by its name.

    `before` or `after` is empty where that round was not run.
    """

    node: str
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)


def read_canaries(folder: Path) -> tuple[NodeCanaries, ...]:
    """Read `<node>-before.json` and `<node>-after.json` of all nodes; empty where the folder is missing.

    Raises CanariesError where a file is not of that form, or is another node's.
    """
    rounds: dict[str, dict[str, Mapping[str, float]]] = {}
    for suffix in (_BEFORE, _AFTER):
        for path in sorted(folder.glob(f"*{suffix}.json")):
            node = path.stem.removesuffix(suffix)
            rounds.setdefault(node, {})[suffix] = _medians(path, node)
    return tuple(
        NodeCanaries(node, found.get(_BEFORE, {}), found.get(_AFTER, {}))
        for node, found in sorted(rounds.items())
    )


def _medians(path: Path, node: str) -> dict[str, float]:
    content = parse(read_bytes(path, CanariesError), _File, path=path, error=CanariesError)
    if content.node != node:
        raise CanariesError(
            path=path,
            place=place(("node",)),
            found=f"got {shown(content.node)}",
            expected=f"{node!r}, as in the file's name",
        )
    return {name: median(canary.values) for name, canary in content.canaries.items()}
