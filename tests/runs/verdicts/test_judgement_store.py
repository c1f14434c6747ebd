"""What was said of a run: it comes back to the last bit, and takes little room."""

from __future__ import annotations

import random
import zlib

import pytest
import sqlalchemy as sa

from perfci.analysis.decision import Decision
from perfci.analysis.types import Basis, ChangeKind, Confirmation, Judgement, Outcome
from perfci.database import schema
from perfci.database.engine import Database
from perfci.results.model import Metric, SeriesKey
from perfci.runs.verdicts.judgement_store import (
    JudgementDamaged,
    keep_judgements,
    read_judgements,
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


@pytest.mark.parametrize("document", [b"", b"garbage", zlib.compress(b"{"), zlib.compress(b'[{"key": 1}]')])
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
