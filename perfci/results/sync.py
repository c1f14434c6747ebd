"""Delivering archived runs to a store, each once in effect.

A run is written first and entered into the ledger after. Killed in between, the next time writes it
again, which changes nothing, because writing a run is idempotent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perfci.results.archive import read_archive, run_folders
from perfci.results.errors import ResultFileError, RunRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from perfci.results.deliveries import DeliveryLedger
    from perfci.results.model import RunResults
    from perfci.results.stores.base import Store


@dataclass(frozen=True, slots=True)
class Synced:
    """What one call of `sync` did.

    `delivered` are the runs that the store took, `unreadable` the errors of those that can't be read,
    `refused` those of runs that the store refused now. `left` are the runs that it refused earlier, with its
    words: they were not tried.
    """

    delivered: tuple[str, ...]
    unreadable: tuple[ResultFileError, ...]
    refused: tuple[RunRefused, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)


def pending(archive: Path, store: Store, ledger: DeliveryLedger) -> tuple[str, ...]:
    """Return the ids of archived runs that a store does not have yet and did not refuse, oldest first."""
    known = ledger.delivered(store.identity) | ledger.refused(store.identity).keys()
    return tuple(folder.name for folder in run_folders(archive) if folder.name not in known)


def sync(
    archive: Path,
    store: Store,
    ledger: DeliveryLedger,
    *,
    read: Callable[[Path], RunResults] = read_archive,
    on_delivered: Callable[[str], None] = lambda _run_id: None,
) -> Synced:
    """Deliver what is pending, oldest first, and return what was done.

    `read` reads an archive folder. A run that can't be read is passed over, and tried again next time. A run
    that the store refuses for what is in it is passed over, too, and entered as refused: it is tried again
    after `DeliveryLedger.forget`. Other errors of the store go through; what was delivered before is
    entered. Raises DeliveriesUnavailable too.
    """
    delivered, unreadable, refused = [], [], []
    with ledger.locked():
        left = ledger.refused(store.identity)
        for run_id in pending(archive, store, ledger):
            try:
                results = read(archive / run_id)
            except ResultFileError as error:
                unreadable.append(error)
                continue
            try:
                store.write(results)
            except RunRefused as error:
                ledger.refuse(store.identity, run_id, str(error))
                refused.append(error)
                continue
            ledger.add(store.identity, run_id)
            delivered.append(run_id)
            on_delivered(run_id)
    return Synced(tuple(delivered), tuple(unreadable), tuple(refused), left)
