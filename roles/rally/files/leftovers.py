"""What a task leaves in the cloud: found by comparing with what there was, and removed.

It knows nothing of Rally: an Inventory lists and removes. So it is tested without a cloud.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = (
    "server",
    "floating IP",
    "router",
    "port",
    "network",
    "security group",
    "image",
    "user",
    "project",
)
"""All that is looked at, in the order in which it can be removed."""

_ROUNDS = 3

Things = dict[tuple[str, str], str]
"""Names by kind and id."""


class InventoryFailed(Exception):
    """The cloud could not be asked; the text says what and why."""


class Inventory(Protocol):
    """What there is in a cloud."""

    def list(self, kind: str) -> dict[str, str]:
        """Return the names of all things of a kind by id, in all projects; raises InventoryFailed."""
        ...

    def remove(self, kind: str, thing: str) -> None:
        """Remove one thing, by id, and all that keeps it from being removed; raises InventoryFailed."""
        ...


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that a task left; `error` says why it could not be removed, empty where it was."""

    kind: str
    id: str
    name: str
    error: str = ""


class Leftovers:
    """Compares the cloud with what it held before the first task."""

    def __init__(
        self, inventory: Inventory, *, sleep: Callable[[float], None], settle_seconds: float = 3.0
    ) -> None:
        self._inventory = inventory
        self._sleep = sleep
        self._settle_seconds = settle_seconds
        self._before: Things | None = None
        self._why_unknown = "nobody has looked"

    def remember(self) -> None:
        """Take what there is now for the cloud's own; raises InventoryFailed."""
        try:
            self._before = self._everything()
        except InventoryFailed as error:
            self._why_unknown = str(error)
            raise

    def sweep(self) -> list[Leftover]:
        """Return what is there beyond that, after it was removed; raises InventoryFailed.

        What is still being removed is no leftover: only what two looks a while apart both find. What can't
        be removed is told once, and then counts as the cloud's own.
        """
        if self._before is None:
            raise InventoryFailed(f"not known what there was before the first task: {self._why_unknown}")
        found = self._new()
        if not found:
            return []
        self._sleep(self._settle_seconds)
        again = self._new()
        stayed = {key: name for key, name in found.items() if key in again}
        kept = self._remove(stayed)
        self._before |= {key: stayed[key] for key in kept}
        return [Leftover(*key, name, kept.get(key, "")) for key, name in stayed.items()]

    def _everything(self) -> Things:
        return {(kind, thing): name for kind in KINDS for thing, name in self._inventory.list(kind).items()}

    def _new(self) -> Things:
        before = self._before or {}
        return {key: name for key, name in self._everything().items() if key not in before}

    def _remove(self, things: Things) -> dict[tuple[str, str], str]:
        """Remove things in a few rounds, as some are in the way of others; return what stays, and why."""
        left = dict.fromkeys(things, "it is still there")
        for _ in range(_ROUNDS):
            for key in left:
                try:
                    self._inventory.remove(*key)
                except InventoryFailed as error:
                    left[key] = str(error)
            if left:
                self._sleep(self._settle_seconds)
                present = self._new()
                left = {key: why for key, why in left.items() if key in present}
        return left
