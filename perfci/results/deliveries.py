"""Which archived runs a store has: a small JSON file, `{"influx:host:8086/perfci": ["run id", ...]}`."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from perfci.results.errors import DeliveriesUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class DeliveryLedger:
    """The deliveries that were completed. A run is entered after the store took it, never before.

    A ledger that is lost or can't be read counts as empty: runs are then delivered again, which changes
    nothing in a store. Raises DeliveriesUnavailable where the file can't be written or another process has
    it locked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def delivered(self, store: str) -> frozenset[str]:
        """Return the ids of the runs that a store (its `identity`) has."""
        return frozenset(self._read().get(store, ()))

    def add(self, store: str, run_id: str) -> None:
        """Enter a run; on return it is on the disk."""
        entries = self._read()
        entries[store] = sorted({*entries.get(store, ()), run_id})
        self._write(entries)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from delivering at the same time; the lock ends with the process."""
        lock = self.path.with_name(f"{self.path.name}.lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise DeliveriesUnavailable(path=lock, reason=error.strerror or str(error)) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise DeliveriesUnavailable(path=self.path, reason="another process is delivering") from error
        finally:
            os.close(handle)

    def _read(self) -> dict[str, list[str]]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(found, dict):
            return {}
        return {
            store: [run for run in runs if isinstance(run, str)]
            for store, runs in found.items()
            if isinstance(runs, list)
        }

    def _write(self, entries: dict[str, list[str]]) -> None:
        scratch = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with scratch.open("w", encoding="utf-8") as target:
                json.dump(entries, target, indent=1, sort_keys=True)
                target.flush()
                os.fsync(target.fileno())
            scratch.replace(self.path)
        except OSError as error:
            raise DeliveriesUnavailable(path=self.path, reason=error.strerror or str(error)) from error
