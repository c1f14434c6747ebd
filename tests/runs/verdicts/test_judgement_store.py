"""What was said of a run: it comes back to the last bit, and takes little room."""

from __future__ import annotations

import json
import random
import zlib
from dataclasses import asdict, replace

import pytest
import sqlalchemy as sa

from perfci.analysis.decision import Decision
from perfci.analysis.types import Basis, ChangeKind, Confirmation, Judgement, Outcome
from perfci.database import schema
from perfci.database.engine import Database
from perfci.results.model import Metric, SeriesKey
from perfci.runs.verdicts.judgement_store import (
    JudgementDamaged,
    judged_runs,
    judgement_digests,
    keep_judgements,
    read_judgements,
    read_outcomes,
    unreadable,
)

RUN = "20261121T041500Z-nightly-0001"
MOST_BYTES_A_SERIES = 300
"""3 MB for a night of 10,000 series."""


@pytest.fixture
def database(tmp_path):
    return Database(f"sqlite:///{tmp_path}/lab.db")


def judgement(number, **changed):
    draw = random.Random(number)  # noqa: S311
    floats = ("location", "baseline_location", "effect", "low", "high", "mde", "p_value", "q_value")
    return Judgement(
        key=SeriesKey(
            "embedded", "nightly", f"Neutron.{number % 40}", "299aff44", str(number), Metric.SECONDS
        ),
        run_id=RUN,
        outcome=Outcome.NO_CHANGE,
        reason="its interval holds zero",
        baseline=tuple(f"2026{month:02}01T041500Z-nightly-{month:04}" for month in range(1, 13)) * 4,
        **{name: draw.random() for name in floats},
        **changed,
    )


def test_judgements_come_back_to_the_last_bit(database_url):
    database = Database(database_url)
    shown = Confirmation(
        Decision.DIFFERENT, Basis.RERUNS, "confirmed", RUN, RUN, runs=("a", "b"), effect=0.1 + 0.2
    )
    said = (judgement(1), judgement(2, kind=ChangeKind.TAIL, since=RUN, confirmation=shown))
    keep_judgements(database, RUN, said)
    assert read_judgements(database, RUN) == said
    keep_judgements(database, RUN, said[:1])
    assert read_judgements(database, RUN) == said[:1]
    assert read_judgements(database, "another") == ()


def test_a_night_of_many_series_takes_little_room(database):
    said = [judgement(number) for number in range(1000)]
    keep_judgements(database, RUN, said)
    with database.reading() as connection:
        size = connection.scalar(sa.select(sa.func.length(schema.judgement.c.document)))
    assert size < MOST_BYTES_A_SERIES * len(said)


def test_rows_of_older_versions_can_be_read(database):
    said = (judgement(1), replace(judgement(2), outcome=Outcome.REGRESSION), judgement(3))
    document = zlib.compress(json.dumps([asdict(one) for one in said]).encode())
    keep_judgements(database, RUN, [])
    with database.transaction() as connection:
        connection.execute(schema.judgement.update().values(document=document))
    assert read_judgements(database, RUN) == said
    assert read_outcomes(database, [RUN]) == {RUN: {Outcome.NO_CHANGE: 2, Outcome.REGRESSION: 1}}


def test_outcomes_are_counted_and_only_the_head_of_a_row_is_read_for_that(database):
    keep_judgements(database, RUN, [judgement(n) for n in range(400)])
    keep_judgements(database, "other", [replace(judgement(1), outcome=Outcome.KNOWN)])
    with database.transaction() as connection:
        row = schema.judgement.c.run_id == RUN
        half = sa.func.substr(schema.judgement.c.document, 1, 4000)
        connection.execute(schema.judgement.update().where(row).values(document=half))
    assert read_outcomes(database, [RUN, "other", "never judged"]) == {
        RUN: {Outcome.NO_CHANGE: 400},
        "other": {Outcome.KNOWN: 1},
    }


def test_a_digest_is_that_of_the_judgements_and_only_the_head_of_a_row_is_read_for_it(database):
    said = [judgement(n) for n in range(400)]
    for run, judgements in ((RUN, said), ("same", said), ("other", said[1:])):
        keep_judgements(database, run, judgements)
    before = judgement_digests(database, [RUN, "same", "other", "never judged"])
    assert before[RUN] == before["same"] != before["other"]
    assert before.keys() == judged_runs(database, [RUN, "same", "other", "never judged"])
    with database.transaction() as connection:
        half = sa.func.substr(schema.judgement.c.document, 1, 4096)
        connection.execute(schema.judgement.update().values(document=half))
    assert judgement_digests(database, before) == before


def test_a_row_of_an_earlier_release_has_a_digest_of_all_that_is_in_it(database):
    rows = {RUN: b'{"format": 2, "outcomes": {}}\n{"runs": []}', "list": b"[]", "listed": b'[{"key": 1}]'}
    for run, packed in rows.items():
        keep_judgements(database, run, [])
        with database.transaction() as connection:
            mine = schema.judgement.c.run_id == run
            connection.execute(schema.judgement.update().where(mine).values(document=zlib.compress(packed)))
    found = judgement_digests(database, rows)
    assert len(set(found.values())) == len(rows)
    assert judgement_digests(database, rows) == found


@pytest.mark.parametrize("packed", [b'{"outcomes": {"bad": 1}}\n', b'{"outcomes": 3}\n', b"[]\n", b"{}"])
def test_a_damaged_head_is_an_error(database, packed):
    keep_judgements(database, RUN, [])
    with database.transaction() as connection:
        connection.execute(schema.judgement.update().values(document=zlib.compress(packed)))
    with pytest.raises(JudgementDamaged, match=RUN):
        read_outcomes(database, [RUN])


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"garbage",
        zlib.compress(b"{"),
        zlib.compress(b'[{"key": 1}]'),
        zlib.compress(b'{"format": 2}'),
        zlib.compress(b'{"format": 2}\n{"runs": [], "baselines": [[0]], "judgements": []}'),
        zlib.compress(
            b'{"format": 2}\n{"runs": ["a"], "baselines": [], "judgements": [{"key": [], "run_id": 0}]}'
        ),
        zlib.compress(b'{"format": 2}\n{"runs": ["a"], "baselines": [], "judgements": [1]}'),
    ],
)
def test_damaged_judgements_are_an_error_and_are_found(database, document):
    keep_judgements(database, "whole", [judgement(1)])
    keep_judgements(database, RUN, [judgement(1)])
    with database.transaction() as connection:
        mine = schema.judgement.c.run_id == RUN
        connection.execute(schema.judgement.update().where(mine).values(document=document))
    with pytest.raises(JudgementDamaged, match=RUN) as caught:
        read_judgements(database, RUN)
    assert f"perfci analyse {RUN}" in caught.value.advice
    assert unreadable(database, ["missing", "whole", RUN]) == ("missing", RUN)
