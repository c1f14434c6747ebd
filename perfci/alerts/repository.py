"""Where alerts are kept: a JSON file, or memory.

Notifications are put into the outbox *before* the state is saved. A process that dies in between works
the run out again with the same notification ids, and the outbox knows those.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from pydantic import TypeAdapter, ValidationError

from perfci.alerts.errors import AlertsUnreadable
from perfci.alerts.model import AlertState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

FORMAT = 1
_STATE = TypeAdapter(AlertState)


class AlertRepository(Protocol):
    """Keeps the state of the alerts."""

    def load(self) -> AlertState:
        """Return the state; an empty one where none was saved. Raises AlertsUnreadable."""

    def save(self, state: AlertState) -> None:
        """Keep the state; afterwards a reader sees the old or the new one, never a half."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Let one process at a time load, change and save."""


class AlertMemory:
    """Keeps alerts as long as the process lives."""

    def __init__(self, state: AlertState | None = None) -> None:
        self._state = state or AlertState()

    def load(self) -> AlertState:
        """Return the state."""
        return self._state

    def save(self, state: AlertState) -> None:
        """Keep the state."""
        self._state = state

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Nobody else can see this memory."""
        yield


class AlertFile:
    """Keeps alerts in one JSON file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> AlertState:
        """Return the state. Raises AlertsUnreadable where the file is damaged or of a newer perfci."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return AlertState()
        except OSError as error:
            raise AlertsUnreadable(file=self.path, reason=error.strerror) from error
        except ValueError as error:
            raise AlertsUnreadable(file=self.path, reason=f"not JSON: {error}") from error
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            raise AlertsUnreadable(file=self.path, reason=f"expected format {FORMAT}, found {found}")
        try:
            return _STATE.validate_python(content.get("state"))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "state"
            raise AlertsUnreadable(file=self.path, reason=f"{where}: {first['msg']}") from error

    def save(self, state: AlertState) -> None:
        """Replace the file in one step."""
        content = {"format": FORMAT, "state": _STATE.dump_python(state, mode="json")}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with scratch.open("w", encoding="utf-8") as target:
            json.dump(content, target, indent=1)
            target.write("\n")
            target.flush()
            os.fsync(target.fileno())
        scratch.replace(self.path)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait until no other process changes the alerts."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f"{self.path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
