"""Rows for schemas that are only known by reflection: every key holds, and the same seed gives the same rows."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from facts import FACTS
from rows import Facts, Generator, Reference, SchemaUnknown, unique_keys

SCHEMA = """
CREATE TABLE projects (id VARCHAR(36) NOT NULL PRIMARY KEY, name VARCHAR(64) NOT NULL, UNIQUE (name));
CREATE TABLE groups (id INTEGER PRIMARY KEY, name VARCHAR(20));
CREATE TABLE servers (
  id INTEGER PRIMARY KEY, uuid VARCHAR(36) NOT NULL, created_at DATETIME, deleted INTEGER, deleted_at DATETIME,
  project_id VARCHAR(36) NOT NULL REFERENCES projects (id), parent_id INTEGER REFERENCES servers (id),
  root_id INTEGER NOT NULL REFERENCES servers (id), group_id INTEGER REFERENCES groups (id),
  state VARCHAR(10), metadata TEXT, enabled BOOLEAN, share FLOAT, cost NUMERIC(5, 2), data BLOB, born DATE, at TIME,
  UNIQUE (uuid)
);
CREATE TABLE bindings (
  server_id INTEGER NOT NULL REFERENCES servers (id), project_id VARCHAR(36) NOT NULL REFERENCES projects (id),
  PRIMARY KEY (server_id, project_id)
);
CREATE TABLE details (server_uuid VARCHAR(36) NOT NULL PRIMARY KEY REFERENCES servers (uuid), text VARCHAR(255));
CREATE TABLE trusts (server_id INTEGER NOT NULL REFERENCES servers (id), impersonation SMALLINT NOT NULL,
  UNIQUE (server_id, impersonation));
CREATE TABLE allocations (id INTEGER PRIMARY KEY, consumer VARCHAR(36) NOT NULL);
"""


NOTHING = Facts()


@pytest.fixture
def engine():
    made = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    with made.connect() as connection:
        connection.execute(sa.text("PRAGMA foreign_keys = ON"))
        for statement in SCHEMA.split(";"):
            connection.execute(sa.text(statement))
        connection.commit()
    yield made
    made.dispose()


def fill(engine, tables, size, *, seed=1, deleted=0.3, facts=NOTHING):
    metadata = sa.MetaData()
    metadata.reflect(bind=engine)
    generator = Generator(metadata, facts, seed=seed, deleted=deleted)
    with engine.connect() as connection:
        return generator.fill(connection, generator.plan(tables, size))


def rows(engine, query):
    with engine.connect() as connection:
        return connection.execute(sa.text(query)).fetchall()


def test_keys_and_references_hold_and_parents_are_made(engine):
    counts = fill(engine, {"servers": 1, "bindings": 2, "details": 1}, 200)
    # Nobody asked for projects; a tenth of the size is enough of them. Groups may be missing, so they are.
    assert counts == {"projects": 20, "servers": 200, "bindings": 400, "details": 200}
    assert rows(engine, "PRAGMA foreign_key_check") == []
    assert rows(
        engine, "SELECT count(*) FROM servers WHERE group_id IS NOT NULL OR parent_id IS NOT NULL"
    ) == [(0,)]
    assert rows(engine, "SELECT count(*) FROM servers WHERE root_id = id") == [(200,)]
    assert rows(engine, "SELECT count(DISTINCT project_id) FROM servers") == [(20,)]


def test_the_share_of_soft_deleted_rows_is_as_asked(engine):
    fill(engine, {"servers": 1}, 2000, deleted=0.3)
    ((gone, dated, own),) = rows(
        engine, "SELECT sum(deleted != 0), count(deleted_at), sum(deleted = id) FROM servers"
    )
    assert gone == dated == own
    assert 500 < gone < 700


def test_a_table_never_has_more_rows_than_its_keys_allow(engine):
    counts = fill(engine, {"projects": 0.01, "servers": 0.02, "bindings": 1}, 100)
    assert (counts["projects"], counts["servers"], counts["bindings"]) == (1, 2, 2)


def test_a_small_number_in_a_key_stays_small(engine):
    fill(engine, {"servers": 1, "trusts": 1}, 500)
    ((largest, rows_),) = rows(engine, "SELECT max(impersonation), count(*) FROM trusts")
    assert (largest < 128, rows_) == (True, 500)


def test_the_same_seed_gives_the_same_rows_and_another_one_others(engine):
    def content(seed):
        fill(engine, {"servers": 1, "bindings": 1}, 50, seed=seed)
        metadata = sa.MetaData()
        metadata.reflect(bind=engine)
        tables = [metadata.tables[name] for name in ("projects", "servers", "bindings")]
        with engine.connect() as connection:
            found = [connection.execute(table.select()).fetchall() for table in tables]
            for table in reversed(tables):
                connection.execute(table.delete())
            connection.commit()
        return found

    first = content(1)
    assert content(1) == first
    assert content(2) != first


def test_what_the_schema_does_not_say_comes_as_facts(engine):
    facts = Facts(
        references={"allocations": (Reference(("consumer",), "servers", ("uuid",), optional=False),)},
        values={"servers": {"state": "ACTIVE"}},
    )
    counts = fill(engine, {"allocations": 1}, 100, facts=facts)
    assert counts == {"projects": 10, "servers": 10, "allocations": 100}
    lost = "SELECT count(*) FROM allocations WHERE consumer NOT IN (SELECT uuid FROM servers)"
    assert rows(engine, lost) == [(0,)]
    assert rows(engine, "SELECT DISTINCT state FROM servers") == [("ACTIVE",)]


def test_a_table_that_is_not_there_is_named(engine):
    with pytest.raises(SchemaUnknown, match="no table flavours"):
        fill(engine, {"servers": 1, "flavours": 1}, 10)


def test_unique_keys_are_found_in_all_their_forms(engine):
    metadata = sa.MetaData()
    metadata.reflect(bind=engine)
    assert unique_keys(metadata.tables["bindings"]) == {frozenset({"server_id", "project_id"})}
    assert unique_keys(metadata.tables["servers"]) == {frozenset({"id"}), frozenset({"uuid"})}


def test_facts_refer_to_what_they_name():
    for facts in FACTS.values():
        for references in facts.references.values():
            assert all(len(one.columns) == len(one.referred) for one in references)
