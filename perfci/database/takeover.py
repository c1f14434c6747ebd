"""Taking over what the last release without a database kept in files of the state folder.

All files go into the database in one transaction; only after its commit are they renamed to `NAME.migrated`.
A kill at any moment leaves files that are taken over by the next command, or files that are known to be in
the database and only have to be renamed. A file that can't be read is kept aside and named: in the log, and
by `perfci status` for as long as it is there.

The formats are those of that release and never change; its `lab.db` is adopted by the migrations.
"""

from __future__ import annotations

import hashlib
import json
import logging
import socket
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from perfci.database import schema
from perfci.files import move
from perfci.parsing import json_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from perfci.database.engine import Database

MIGRATED = ".migrated"
DAMAGED = ".damaged"
CHANGED = ".changed-later"
_REFUSED = ".refused"
_logger = logging.getLogger(__name__)


class _Damaged(Exception):
    """A file is not what that release wrote."""


@dataclass
class _Found:
    """What one file or folder holds: rows for the tables, and what could not be read."""

    rows: list[tuple[sa.Table, dict[str, Any]]] = field(default_factory=list)
    problems: list[tuple[Path, str]] = field(default_factory=list)


def take_over(database: Database, root: Path) -> None:
    """Move what the files under a state folder hold into the database. Does nothing where there are none.

    Raises DatabaseUnavailable, and OSError where a file can't be read at all.
    """
    present = [name for name in _READERS if (root / name).exists()]
    if not present:
        return
    with database.transaction() as connection:
        # Another process may have been first while this one waited for the transaction.
        targets = [
            (root / name, _taken(connection, root / name)) for name in present if (root / name).exists()
        ]
    for path, suffix in targets:
        _rename(path, suffix)


def left_aside(database: Database, root: Path) -> tuple[str, ...]:
    """Return what could not be taken over and still lies under a state folder, one line for each file."""
    with database.reading() as connection:
        rows = connection.execute(sa.select(schema.imported_file)).all()
    problems = [
        pair for row in rows if row.path.startswith(f"{_key(root)}/") for pair in json_value(row.problems)
    ]
    return tuple(f"{root / name}: {reason}" for name, reason in problems if (root / name).exists())


def _taken(connection: sa.Connection, path: Path) -> str:
    """Enter what one file or folder holds, and return what its name gets appended."""
    table, digest = schema.imported_file, _digest(path)
    known = connection.execute(sa.select(table).where(table.c.path == _key(path))).one_or_none()
    if known is not None and known.digest == digest:
        return MIGRATED  # a kill came between the commit and the renaming
    if known is not None and not json_value(known.problems):
        _logger.warning("%s was taken over before and has changed since: it is kept aside, not read", path)
        return CHANGED
    found = _READERS[path.name](path)
    suffix = DAMAGED if path.is_file() and found.problems else MIGRATED
    aside = path.with_name(path.name + suffix)
    problems = [
        (str((aside / file.relative_to(path)).relative_to(path.parent)), reason)
        for file, reason in found.problems
    ]
    for target, row in found.rows:
        _insert(connection, target, row)
    for name, reason in problems:
        _logger.warning("not taken over, kept in %s: %s", path.parent / name, reason)
    connection.execute(table.delete().where(table.c.path == _key(path)))
    connection.execute(table.insert().values(path=_key(path), digest=digest, problems=json.dumps(problems)))
    return suffix


def _insert(connection: sa.Connection, table: sa.Table, row: dict[str, Any]) -> None:
    """Insert a row, unless one with its key is there: what the database knows is newer."""
    mine = [column == row[column.name] for column in table.primary_key]
    if connection.execute(sa.select(*table.primary_key).where(*mine)).first() is None:
        connection.execute(table.insert().values(row))


def _rename(path: Path, suffix: str) -> None:
    number, target = 1, path.with_name(path.name + suffix)
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}{suffix}-{number}")
    try:
        move(path, target)
    except FileNotFoundError:
        return  # another process renamed it
    lock = target / "lock" if target.is_dir() else path.with_name(f"{path.name}.lock")
    lock.unlink(missing_ok=True)


def _key(path: Path) -> str:
    return f"{socket.gethostname()}:{path.absolute()}"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(str(file.relative_to(path)).encode() + b"\0")
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _json(file: Path) -> Any:
    try:
        return json_value(file.read_bytes())
    except ValueError as error:
        raise _Damaged(f"not JSON: {error}") from error


def _each(
    folder: Path, pattern: str, read: Callable[[Path], Iterator[tuple[sa.Table, dict[str, Any]]]]
) -> _Found:
    """Read every file of a folder; one that is damaged does not keep the others out."""
    found = _Found()
    for file in sorted(folder.glob(pattern)):
        if file.is_file() and not file.name.startswith("."):
            _read_into(found, file, read)
    return found


def _read_into(
    found: _Found, file: Path, read: Callable[[Path], Iterator[tuple[sa.Table, dict[str, Any]]]]
) -> None:
    try:
        found.rows += list(read(file))
    except (_Damaged, KeyError, TypeError, ValueError, AttributeError) as error:
        found.problems.append((file, str(error) if isinstance(error, _Damaged) else repr(error)))


def _single(read: Callable[[Path], Iterator[tuple[sa.Table, dict[str, Any]]]]) -> Callable[[Path], _Found]:
    def reader(file: Path) -> _Found:
        found = _Found()
        _read_into(found, file, read)
        return found

    return reader


def _alerts(file: Path) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
    content = _json(file)
    if content["format"] != 1:
        raise _Damaged(f"expected format 1, found {content['format']}")
    state = content["state"]
    for position, alert in enumerate(state["alerts"]):
        names = {name: str(alert[name]) for name in ("id", "lab", "job", "status")}
        yield schema.alert, {**names, "position": position, "document": json.dumps(alert)}
    for place, run_id in state["processed"].items():
        yield schema.alert_progress, {"place": place, "run_id": str(run_id)}
    for lab, since in state["invalid_since"].items():
        yield schema.lab_unfit, {"lab": lab, "since": str(since)}


def _delivered(file: Path) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
    for store, run_ids in _json(file).items():
        for run_id in run_ids:
            yield schema.delivery, {"store": store, "run_id": str(run_id)}


def _outbox(folder: Path) -> _Found:
    """Read the letters; one that was refused for some of its recipients lay in two of the folders."""
    found = _Found()
    for place, state in (("queue", "waiting"), ("failed", "refused"), ("sent", "sent")):
        part = _each(folder / place, "*.json", lambda file, state=state: _letter(file, state))  # type: ignore[misc]
        found.rows += part.rows
        found.problems += part.problems
    found.problems += [(file, "not a letter") for file in sorted((folder / "failed").glob(f"*{DAMAGED}"))]
    return found


def _letter(file: Path, state: str) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
    letter = _json(file)
    queued_at = datetime.fromisoformat(letter["queued_at"])
    letter_id = str(letter["id"]).removesuffix(_REFUSED)
    changed_at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    yield (
        schema.letter,
        {
            "id": letter_id,
            "sender": str(letter["sender"]),
            "message": str(letter["message"]),
            "queued_at": queued_at,
            "attempts": int(letter["attempts"]),
        },
    )
    for position, address in enumerate(letter["recipients"]):
        yield (
            schema.letter_recipient,
            {
                "letter_id": letter_id,
                "address": str(address),
                "position": position,
                "state": state,
                "last_error": "" if state == "sent" else str(letter["last_error"]),
                "changed_at": changed_at,
            },
        )


def _judgements(file: Path) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
    content = _json(file)
    if not isinstance(content, list):
        raise _Damaged("not a list of judgements")
    yield schema.judgement, {"run_id": file.stem, "document": zlib.compress(json.dumps(content).encode())}


def _answers(file: Path) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
    content = _json(file)
    if content["format"] != 1:
        raise _Damaged(f"expected format 1, found {content['format']}")
    documents = [json.dumps(answer) for answer in content["answers"]]
    yield schema.confirmation_round, {"run_id": file.stem}
    for position, document in enumerate(documents):
        yield schema.confirmation, {"run_id": file.stem, "position": position, "document": document}


def _calibration(file: Path) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
    content = _json(file)
    names = {"lab": str(content["lab"]), "job": str(content["job"])}
    yield schema.calibration, {**names, "document": json.dumps(content)}


def _owed(file: Path) -> Iterator[tuple[sa.Table, dict[str, Any]]]:
    content = _json(file)
    owner = content["owner"]
    yield (
        schema.unreported,
        {
            "run_id": file.parent.name,
            "state_dir": str(file.parent.parent.parent),
            "owner_host": str(owner["host"]),
            "owner_boot": str(owner["boot"]),
            "owner_pid": int(owner["pid"]),
            "owner_started_ticks": int(owner["started_ticks"]),
        },
    )


_READERS: dict[str, Callable[[Path], _Found]] = {
    "alerts.json": _single(_alerts),
    "delivered.json": _single(_delivered),
    "outbox": _outbox,
    "analysis": lambda folder: _each(folder, "*.json", _judgements),
    "confirmations": lambda folder: _each(folder, "*.json", _answers),
    "calibration": lambda folder: _each(folder, "*.json", _calibration),
    "owed": lambda folder: _each(folder, "*/progress.json", _owed),
}
"""What that release kept, by its name under the state folder. Its replays, a cache, are not taken over."""
