"""What nights have decided: it comes back as it was kept, by job, oldest first."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from perfci.database import schema
from perfci.database.engine import Database
from perfci.results.model import CodeUnderTest, RunRecord, Validity
from perfci.runs.verdicts.facts_store import FactsUnreadable, keep_facts, read_facts

WHEN = datetime(2026, 11, 20, tzinfo=UTC)


def record(run_id, job="nightly"):
    code = CodeUnderTest("c", ())
    return RunRecord(run_id, "embedded", job, "embedded", WHEN, WHEN, "e", code, Validity(valid=True))


def test_facts_come_back_by_job_oldest_first(database_url):
    database = Database(database_url)
    for number in (2, 1):
        keep_facts(database, record(f"r{number}"), {"format": 1, "effect": 0.1 + number, "none": None})
    keep_facts(database, record("r3", "upgrade"), {"format": 1})
    found = read_facts(database, "embedded", "nightly")
    assert found == {
        "r1": {"format": 1, "effect": 1.1, "none": None},
        "r2": {"format": 1, "effect": 2.1, "none": None},
    }
    assert list(found) == ["r1", "r2"]
    keep_facts(database, record("r1"), {"format": 1, "found": 2})
    assert read_facts(database, "embedded", "nightly")["r1"] == {"format": 1, "found": 2}
    assert read_facts(database, "embedded", "none") == {}


def test_damaged_facts_are_an_error(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/lab.db")
    keep_facts(database, record("r1"), {"format": 1})
    with database.transaction() as connection:
        connection.execute(schema.night_facts.update().values(document=b"garbage"))
    with pytest.raises(FactsUnreadable, match="r1"):
        read_facts(database, "embedded", "nightly")
