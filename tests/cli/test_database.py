"""`perfci database`, and what `perfci status` says of it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from typer.testing import CliRunner

from perfci import config
from perfci.alerts.model import AlertState
from perfci.alerts.repository import AlertTable
from perfci.cli.access import lab_services
from perfci.cli.main import app
from perfci.database.engine import HEAD, Database, look_at
from perfci.database.errors import DatabaseTooNew, DatabaseUnavailable

STATE = AlertState(processed={"embedded/nightly": "r1"}, invalid_since={"embedded": "r1"})


@pytest.fixture
def services(tmp_path, monkeypatch):
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)
    services = lab_services()
    services.alerts.save(STATE)
    return services


def run(*arguments, code=0):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, done.output
    return done


def test_the_tables_are_shown_with_their_rows(services):
    shown = run("database", "show").stdout
    assert f"sqlite:///{services.state.root}/lab.db, schema revision {HEAD}" in shown
    rows = [line.split("\t") for line in shown.splitlines()]
    assert ["alert_progress", "1"] in [row[:2] for row in rows]
    assert [row[0] for row in rows if row[-1] == "made again"] == ["judgement", "verdict_cache"]
    assert json.loads(run("database", "show", "--json").stdout)["rows"]["lab_unfit"] == 1


def test_a_backup_is_a_whole_database(services, tmp_path):
    file = tmp_path / "backup.db"
    with services.database.transaction():
        run("database", "backup", str(file))
    assert AlertTable(Database(f"sqlite:///{file}")).load() == STATE
    refused = run("database", "backup", str(file), code=3)
    assert "it exists already" in refused.stderr
    assert "can't write a backup" in run("database", "backup", str(tmp_path / "none" / "x.db"), code=3).stderr


def test_everything_is_copied_into_an_empty_database(services, database_url, tmp_path):
    target = database_url.replace("lab.db", "other.db")
    copied = json.loads(run("database", "copy", target, "--json").stdout)["rows"]
    assert copied == json.loads(run("database", "show", "--json").stdout)["rows"]
    assert AlertTable(Database(target)).load() == STATE
    assert "already has rows" in run("database", "copy", target, code=2).stderr


def test_status_names_the_database_and_what_was_not_taken_over(services):
    (services.state.root / "alerts.json").write_text("{")
    shown = run("status").stdout
    assert f"database  sqlite:///{services.state.root}/lab.db" in shown
    assert f"aside     {services.state.root}/alerts.json.damaged: not JSON" in shown


def test_the_doctor_looks_at_the_database_and_changes_nothing(tmp_path):
    settings = config.load(environ={"PERFCI_STATE_DIR": str(tmp_path)})
    assert look_at(settings).endswith("lab.db; the first command makes it")
    assert list(tmp_path.iterdir()) == []
    with closing(sqlite3.connect(tmp_path / "lab.db")) as old:
        old.execute("CREATE TABLE schema_version (version INTEGER NOT NULL)")
    assert f"the next command migrates it to schema revision {HEAD}" in look_at(settings)
    Database(settings.database_url)
    assert look_at(settings).endswith(f"schema revision {HEAD}")
    with closing(sqlite3.connect(tmp_path / "lab.db")) as newer, newer:
        newer.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseTooNew, match="9999"):
        look_at(settings)
    (tmp_path / "lab.db").write_bytes(b"no database at all, but long enough to be one" * 100)
    with pytest.raises(DatabaseUnavailable, match="not a database"):
        look_at(settings)
