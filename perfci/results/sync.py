"""Delivering archived runs to a store, each once in effect.

A run is written first and entered into the ledger after. Killed in between, the next time writes it
again, which changes nothing, because writing a run is idempotent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfci.results.archive import read_archive, run_folders
from perfci.results.errors import ResultFileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from perfci.results.deliveries import DeliveryLedger
    from perfci.results.stores.base import Store


@dataclass(frozen=True, slots=True)
class Synced:
    """What one call of `sync` did: the runs delivered, and the errors of those that can't be read."""

    delivered: tuple[str, ...]
    unreadable: tuple[ResultFileError, ...]


def pending(archive: Path, store: Store, ledger: DeliveryLedger) -> tuple[str, ...]:
    """Return the ids of archived runs that a store does not have yet, oldest first."""
    known = ledger.delivered(store.identity)
    return tuple(folder.name for folder in run_folders(archive) if folder.name not in known)


def sync(
    archive: Path,
    store: Store,
    ledger: DeliveryLedger,
    *,
    on_delivered: Callable[[str], None] = lambda _run_id: None,
) -> Synced:
    """Deliver what is pending, oldest first, and return what was done.

    A run that can't be read is passed over, and tried again next time. Errors of the store go through;
    what was delivered before is entered. Raises DeliveriesUnavailable too.
    """
    delivered, unreadable = [], []
    with ledger.locked():
        for run_id in pending(archive, store, ledger):
            try:
                results = read_archive(archive / run_id)
            except ResultFileError as error:
                unreadable.append(error)
                continue
            store.write(results)
            ledger.add(store.identity, run_id)
            delivered.append(run_id)
            on_delivered(run_id)
    return Synced(tuple(delivered), tuple(unreadable))
