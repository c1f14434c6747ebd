"""Which runs still owe their verdict and mail, so that what a kill cut short is made up for once.

A run is entered when it begins. It is crossed out in the transaction that puts its mail into the outbox. One
whose process died in between, or whose verdict could not be made, is judged by the next start, from its archive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from perfci.database.schema import unreported
from perfci.lab import owners
from perfci.lab.model import Owner
from perfci.runs.state.archive import run_folders
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.run_folder import unfinished

if TYPE_CHECKING:
    from perfci.database.engine import Database
    from perfci.runs.state.state_folder import StateFolder


def owe(database: Database, state: StateFolder, run_id: str) -> None:
    """Note that this process is to see to a run's verdict and mail."""
    me = owners.me()
    with database.transaction() as connection:
        connection.execute(unreported.delete().where(unreported.c.run_id == run_id))
        connection.execute(
            unreported.insert().values(
                run_id=run_id,
                state_dir=str(state.root),
                owner_host=me.host,
                owner_boot=me.boot,
                owner_pid=me.pid,
                owner_started_ticks=me.started_ticks,
            )
        )


def settle(database: Database, run_id: str) -> None:
    """Mark a run as reported; no effect if it already is."""
    with database.transaction() as connection:
        connection.execute(unreported.delete().where(unreported.c.run_id == run_id))


def owing(database: Database, state: StateFolder) -> tuple[str, ...]:
    """Return the ids of this state folder's runs that are not reported yet, also those of living processes."""
    mine = unreported.c.state_dir == str(state.root)
    with database.reading() as connection:
        return tuple(sorted(connection.scalars(sa.select(unreported.c.run_id).where(mine))))


def being_reported(database: Database, state: StateFolder) -> tuple[str, ...]:
    """Return the ids of the runs that are not reported yet and whose process lives."""
    noted = _noted(database, state)
    gone = owners.dead(noted.values())
    return tuple(sorted(run_id for run_id, owner in noted.items() if owner not in gone))


def left_owing(database: Database, state: StateFolder) -> list[ArchivedRun]:
    """Return the archived runs whose process died before their verdict was out, oldest first.

    A run that died before it was archived owes nothing but its end, which `recover` archives.
    """
    noted = _noted(database, state)
    gone = owners.dead(noted.values())
    dead = {run_id for run_id, owner in noted.items() if owner in gone}
    # In this order: a run that another process archives between the two is in both, and not in none.
    waiting = {folder.run_id for folder in unfinished(state.runs)}  # they can't be archived now
    archived = [ArchivedRun(folder) for folder in run_folders(state.archive) if folder.name in dead]
    for run_id in dead - {run.run_id for run in archived} - waiting:
        settle(database, run_id)
    return archived


def _noted(database: Database, state: StateFolder) -> dict[str, Owner]:
    mine = sa.select(unreported).where(unreported.c.state_dir == str(state.root))
    with database.reading() as connection:
        return {row["run_id"]: _owner(row) for row in connection.execute(mine).mappings()}


def _owner(row: sa.RowMapping) -> Owner:
    return Owner(row["owner_host"], row["owner_boot"], row["owner_pid"], row["owner_started_ticks"])
