"""Files of the last release without a database: everything in them is taken over, once, whatever happens."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from perfci import config
from perfci.alerts.model import Closing, SeriesStatus
from perfci.alerts.outbox import Outbox
from perfci.alerts.repository import AlertTable
from perfci.analysis.decision import Decision
from perfci.database import engine, schema, takeover
from perfci.database.engine import Database, open_database
from perfci.database.takeover import left_aside, take_over
from perfci.lab import owners
from perfci.lab.sql import open_ledger
from perfci.results.deliveries import DeliveryLedger
from perfci.runs.publish.calibration_store import read_calibration
from perfci.runs.state.state_folder import StateFolder
from perfci.runs.state.unreported import left_owing, owing
from perfci.runs.verdicts.confirmation_store import has_asked, read_answers
from perfci.runs.verdicts.judgement_store import read_judgements

RECORDED = Path(__file__).parents[1] / "data" / "state-before-database"
"""A state folder as the release before the database wrote it; lab.sql is a dump of its lab.db."""
RUN, ASKED = "20261109T041500Z-nightly-0009", "20261120T041500Z-nightly-0000"
NAMES = ("alerts.json", "analysis", "calibration", "confirmations", "delivered.json", "outbox", "owed")
FACTS = [table for table in schema.metadata.sorted_tables if table is not schema.imported_file]


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    root = tmp_path / "state"
    shutil.copytree(RECORDED, root)
    dump = root / "lab.sql"
    with closing(sqlite3.connect(root / "lab.db")) as connection:
        connection.executescript(dump.read_text())
    dump.unlink()
    (root / "outbox" / "lock").touch()
    (root / "alerts.json.lock").touch()
    return root


def settings(state_dir: Path) -> config.Settings:
    return config.load(environ={"PERFCI_STATE_DIR": str(state_dir)})


def content(database: Database) -> dict[str, list[tuple]]:
    with database.reading() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(sa.select(table))), key=repr) for table in FACTS
        }


def test_everything_is_taken_over(state_dir: Path) -> None:
    database = open_database(settings(state_dir))
    state = AlertTable(database).load()
    accepted, still_open = state.alerts
    assert (accepted.id, accepted.status, accepted.closing) == (
        "0123456789",
        SeriesStatus.CLOSED,
        Closing.ACCEPTED,
    )
    assert still_open.status is SeriesStatus.OPEN
    assert still_open.series
    assert state.processed == {"embedded/nightly": RUN}
    assert state.invalid_since == {"embedded": RUN}

    outbox = Outbox(database)
    assert {one.id: one.recipients for one in outbox.letters()} == {
        "regression-partly": ("one@example.org",),
        "regression-waiting": ("one@example.org", "two@example.org"),
    }
    assert {one.id: (one.recipients, one.last_error) for one in outbox.refused()} == {
        "failed-refused": (("two@example.org",), "mail server mx:25 refused the mail: 550 no"),
        "regression-partly": (("two@example.org",), "two@example.org: 550 no such user"),
    }
    with database.reading() as connection:
        sent = connection.execute(
            sa.select(schema.letter_recipient).where(schema.letter_recipient.c.state == "sent")
        ).all()
    assert [(row.letter_id, row.address) for row in sent] == [("closed-sent", "one@example.org")]

    assert DeliveryLedger(database).delivered("influx:host:8086/perfci") == {RUN, ASKED}
    assert DeliveryLedger(database).delivered("local:x") == {RUN}
    assert read_judgements(database, RUN)
    (answer,) = read_answers(database, [ASKED, RUN])
    assert answer.confirmation.decision is Decision.DIFFERENT
    assert (answer.old, answer.new, answer.log_factors) == ((0.1,), (0.4,), (6.5,))
    assert has_asked(database, ASKED), "it asked, and got no answer"
    calibration = read_calibration(database, "embedded", "nightly")
    assert calibration is not None
    assert len(calibration.runs) == 10
    assert owing(database, StateFolder(state_dir)) == (RUN,)

    (reservation,) = open_ledger(settings(state_dir)).held()
    assert (reservation.id, reservation.holder, reservation.nodes) == ("4e8c7f24", "ann", ("a",))
    assert [entry.node for entry in open_ledger(settings(state_dir)).quarantined()] == ["b"]
    assert left_aside(database, state_dir) == ()


def test_the_files_are_kept_under_another_name(state_dir: Path) -> None:
    open_database(settings(state_dir))
    left = {path.name for path in state_dir.iterdir() if not path.name.startswith("lab.db")}
    assert left == {f"{name}.migrated" for name in NAMES}
    assert (state_dir / "alerts.json.migrated").read_bytes() == (RECORDED / "alerts.json").read_bytes()


def test_a_run_that_was_owed_is_made_up_for(state_dir: Path) -> None:
    file = state_dir / "owed" / RUN / "progress.json"
    noted = json.loads(file.read_text())
    noted["owner"]["host"] = owners.me().host
    file.write_text(json.dumps(noted))
    state = StateFolder(state_dir)
    (state.archive / RUN).mkdir(parents=True)
    (state.archive / RUN / "run.json").write_text("{}")
    owed = left_owing(open_database(settings(state_dir)), state)
    assert [run.folder for run in owed] == [state.archive / RUN]


def test_taken_over_again_nothing_changes(state_dir: Path, database_url: str) -> None:
    database = Database(database_url)
    take_over(database, state_dir)
    before = content(database)
    assert before["alert"]
    take_over(database, state_dir)
    assert content(database) == before


def test_files_put_back_by_hand_do_not_undo_what_happened_since(state_dir: Path) -> None:
    database = open_database(settings(state_dir))
    with database.transaction() as connection:
        connection.execute(schema.letter.delete())
        connection.execute(schema.alert.delete())
    before = content(database)
    (state_dir / "outbox.migrated").rename(state_dir / "outbox")
    (state_dir / "alerts.json.migrated").rename(state_dir / "alerts.json")
    assert content(open_database(settings(state_dir))) == before
    assert not (state_dir / "outbox").exists()


def test_a_file_that_an_old_perfci_writes_later_is_kept_aside(
    state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = content(open_database(settings(state_dir)))
    (state_dir / "alerts.json").write_text('{"format": 1, "state": {"alerts": []}}')
    assert content(open_database(settings(state_dir))) == before
    assert (state_dir / "alerts.json.changed-later").exists()
    assert "has changed since" in caplog.text


DAMAGE = {
    "alerts.json": "alerts.json.damaged",
    "delivered.json": "delivered.json.damaged",
    "outbox/queue/regression-waiting.json": "outbox.migrated/queue/regression-waiting.json",
    f"analysis/{RUN}.json": f"analysis.migrated/{RUN}.json",
    f"confirmations/{RUN}.json": f"confirmations.migrated/{RUN}.json",
    "calibration/embedded-nightly.json": "calibration.migrated/embedded-nightly.json",
    f"owed/{RUN}/progress.json": f"owed.migrated/{RUN}/progress.json",
}


@pytest.mark.parametrize(
    ("name", "garbage"),
    [(name, garbage) for name in DAMAGE for garbage in ('{"format": 1, "sta', '{"format": 2}')]
    + [("alerts.json", garbage) for garbage in ("", "[3]", "3", "\x00")],
)
def test_a_damaged_file_is_kept_aside_and_named_and_the_others_are_taken_over(
    state_dir: Path, name: str, garbage: str, caplog: pytest.LogCaptureFixture
) -> None:
    (state_dir / name).write_text(garbage)
    database = open_database(settings(state_dir))
    aside = state_dir / DAMAGE[name]
    assert aside.read_text() == garbage
    (told,) = left_aside(database, state_dir)
    assert told.startswith(f"{aside}: ")
    assert str(aside) in caplog.text
    assert not any((state_dir / one).exists() for one in NAMES)
    found = content(database)
    empty = {table for table, rows in found.items() if not rows}
    assert len(empty & {"alert", "delivery", "letter", "judgement", "confirmation", "calibration"}) <= 1
    aside.unlink()
    assert left_aside(database, state_dir) == ()


def test_a_damaged_file_can_be_mended_and_put_back(state_dir: Path) -> None:
    whole = (state_dir / "alerts.json").read_text()
    (state_dir / "alerts.json").write_text(whole[:100])
    database = open_database(settings(state_dir))
    assert AlertTable(database).load().alerts == ()
    (state_dir / "alerts.json.damaged").unlink()
    (state_dir / "alerts.json").write_text(whole)
    assert len(AlertTable(open_database(settings(state_dir))).load().alerts) == 2
    assert left_aside(database, state_dir) == ()


def _die(state_dir: Path, at: int) -> None:
    """Open the database, and be killed at one of its inserts or renames."""
    count = 0

    def counted(whole):
        def call(*arguments):
            nonlocal count
            count += 1
            if count == at:
                os._exit(9)
            return whole(*arguments)

        return call

    takeover._insert = counted(takeover._insert)
    takeover._rename = counted(takeover._rename)
    open_database(settings(state_dir))


def test_killed_anywhere_the_next_command_completes_it(state_dir: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(state_dir, whole)
    wanted = content(open_database(settings(whole)))
    rows = sum(len(rows) for rows in wanted.values())
    context = multiprocessing.get_context("spawn")
    for at in (1, rows // 2, rows - 2, rows, rows + 3, rows + 6):
        copy = tmp_path / f"copy-{at}"
        shutil.copytree(state_dir, copy)
        child = context.Process(target=_die, args=(copy, at))
        child.start()
        child.join(60)
        found = content(open_database(settings(copy)))
        # Where the state folder is, is part of what is owed.
        owed = [(run_id, *rest) for run_id, _, *rest in found.pop("unreported")]
        assert owed == [(run_id, *rest) for run_id, _, *rest in wanted["unreported"]]
        assert found == {name: rows for name, rows in wanted.items() if name != "unreported"}
        left = {path.name for path in copy.iterdir() if not path.name.startswith("lab.db")}
        assert left == {f"{name}.migrated" for name in NAMES}


def _open(state_dir: Path) -> None:
    open_database(settings(state_dir))


def test_many_commands_meet_it_at_once(state_dir: Path) -> None:
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_open, args=(state_dir,)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert len(AlertTable(open_database(settings(state_dir))).load().alerts) == 2
    assert {path.name for path in state_dir.iterdir() if path.suffix == ".migrated"} == {
        f"{name}.migrated" for name in NAMES
    }


def test_a_state_folder_without_such_files_is_not_looked_into(tmp_path: Path) -> None:
    database = open_database(settings(tmp_path))
    assert content(database)["alert"] == []
    assert left_aside(database, tmp_path) == ()
    assert engine.HEAD
