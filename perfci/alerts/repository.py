"""Where alerts are kept: in the controller's database, or in memory."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

from perfci.alerts.errors import AlertsUnreadable
from perfci.alerts.model import Alert, AlertState
from perfci.database import schema
from perfci.parsing import json_value

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from perfci.database.engine import Database

_ALERT = TypeAdapter(Alert)


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


class AlertTable:
    """Keeps alerts in the database. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self) -> AlertState:
        """Return the state. Raises AlertsUnreadable where an alert is damaged."""
        with self._database.reading() as connection:
            alerts = connection.execute(
                sa.select(schema.alert.c.id, schema.alert.c.document).order_by(schema.alert.c.position)
            ).all()
            processed = connection.execute(sa.select(schema.alert_progress)).all()
            unfit = connection.execute(sa.select(schema.lab_unfit)).all()
        return AlertState(
            alerts=tuple(_alert(row.id, row.document) for row in alerts),
            processed={row.place: row.run_id for row in processed},
            invalid_since={row.lab: row.since for row in unfit},
        )

    def save(self, state: AlertState) -> None:
        """Replace the state; alerts that did not change are not written again."""
        rows = [_row(position, alert) for position, alert in enumerate(state.alerts)]
        with self._database.transaction() as connection:
            known = {row["id"]: dict(row) for row in connection.execute(sa.select(schema.alert)).mappings()}
            changed = [row for row in rows if known.get(row["id"]) != row]
            gone = [row["id"] for row in changed] + sorted(known.keys() - {row["id"] for row in rows})
            connection.execute(schema.alert.delete().where(schema.alert.c.id.in_(gone)))
            _insert(connection, schema.alert, changed)
            connection.execute(schema.alert_progress.delete())
            places = [{"place": place, "run_id": run_id} for place, run_id in state.processed.items()]
            _insert(connection, schema.alert_progress, places)
            connection.execute(schema.lab_unfit.delete())
            unfit = [{"lab": lab, "since": since} for lab, since in state.invalid_since.items()]
            _insert(connection, schema.lab_unfit, unfit)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the only transaction that writes: what is done inside is committed together, or not at all."""
        with self._database.transaction():
            yield


def _insert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(table.insert(), rows)


def _row(position: int, alert: Alert) -> dict[str, Any]:
    document = json.dumps(_ALERT.dump_python(alert, mode="json"))
    return {
        "id": alert.id,
        "position": position,
        "lab": alert.lab,
        "job": alert.job,
        "status": str(alert.status),
        "document": document,
    }


def _alert(alert_id: str, document: str) -> Alert:
    try:
        return _ALERT.validate_python(json_value(document))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise AlertsUnreadable(alert=alert_id, reason=f"{where}: {first['msg']}") from error
    except ValueError as error:
        raise AlertsUnreadable(alert=alert_id, reason=f"not JSON: {error}") from error
