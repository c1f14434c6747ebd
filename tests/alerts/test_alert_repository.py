from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa
from nights import PATCH, SLOW, History

from perfci.alerts.errors import AlertsUnreadable
from perfci.alerts.lifecycle import accept, process
from perfci.alerts.model import AlertState, JudgedRun
from perfci.alerts.repository import AlertMemory, AlertTable
from perfci.analysis.decision import Decision
from perfci.analysis.types import Basis, Confirmation
from perfci.database import schema
from perfci.database.engine import Database


@pytest.fixture(scope="module")
def state():
    history, state = History(), AlertState()
    for slowed in [None] * 9 + [SLOW]:
        run = history.play(*((PATCH,) if slowed else ()), factors=slowed)
        state, _ = process(state, JudgedRun(run, history.judgements(), history.records))
    closed, _ = accept(state, state.alerts[0].id, run.run_id)
    again = replace(closed.alerts[0], id="0123456789")
    return replace(state, alerts=(*state.alerts, again), invalid_since={"embedded": "x"})


@pytest.fixture
def database(database_url):
    return Database(database_url)


def test_what_re_runs_have_shown_is_kept_with_the_alert(state, database):
    shown = Confirmation(
        Decision.DIFFERENT, Basis.RERUNS, "confirmed", "r9", "r9", runs=("a", "b"), effect=0.3
    )
    first = state.alerts[0]
    series = tuple(replace(one, confirmation=shown) for one in first.series)
    state = replace(state, alerts=(replace(first, series=series), *state.alerts[1:]))
    keep = AlertTable(database)
    keep.save(state)
    assert keep.load() == state


def test_an_alert_without_confirmations_is_one_of_an_older_perfci(state, tmp_path):
    database = Database(f"sqlite:///{tmp_path}/lab.db")
    keep = AlertTable(database)
    keep.save(state)
    content = document(database, state.alerts[0].id)
    for one in content["series"]:
        del one["confirmation"]
    write_document(database, state.alerts[0].id, json.dumps(content))
    assert {one.confirmation for one in keep.load().alerts[0].series} == {None}


@pytest.mark.parametrize("kind", ["table", "memory"])
def test_what_is_saved_comes_back(state, database, kind):
    keep = AlertTable(database) if kind == "table" else AlertMemory()
    with keep.exclusive():
        assert keep.load() == AlertState()
        keep.save(state)
        assert keep.load() == state
    changed = replace(state.alerts[0], quiet=1)
    for after in (replace(state, alerts=(changed, state.alerts[1])), state, AlertState()):
        keep.save(after)
        assert keep.load() == after


def test_the_order_of_the_alerts_is_kept(state, database):
    keep = AlertTable(database)
    alerts = tuple(replace(state.alerts[0], id=name) for name in "cab")
    keep.save(replace(state, alerts=alerts))
    keep.save(replace(state, alerts=(alerts[0], replace(alerts[1], quiet=1), alerts[2])))
    assert [alert.id for alert in keep.load().alerts] == ["c", "a", "b"]


def test_an_error_while_it_is_held_saves_nothing(state, database):
    keep = AlertTable(database)

    def fail():
        with keep.exclusive():
            keep.save(state)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert keep.load() == AlertState()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not JSON"),
        ('{"id": "', "not JSON"),
        ("[]", "document: "),
        ('{"id": 3}', "id: "),
        ("{}", "id: "),
    ],
)
def test_a_damaged_alert_is_named_with_what_is_wrong(state, tmp_path, content, reason):
    database = Database(f"sqlite:///{tmp_path}/lab.db")
    AlertTable(database).save(state)
    write_document(database, state.alerts[0].id, content)
    with pytest.raises(AlertsUnreadable, match=state.alerts[0].id) as caught:
        AlertTable(database).load()
    assert reason in str(caught.value)
    assert "backup" in caught.value.advice


def test_an_alert_is_plain_json(state, tmp_path):
    database = Database(f"sqlite:///{tmp_path}/lab.db")
    AlertTable(database).save(state)
    content = document(database, state.alerts[0].id)
    assert content["series"][0]["key"]["scenario"].startswith("Neutron")


def test_two_writers_take_turns(database):
    def add(number):
        keep = AlertTable(database)
        for turn in range(10):
            with keep.exclusive():
                state = keep.load()
                keep.save(replace(state, processed={**state.processed, f"{number}-{turn}": "x"}))

    workers = [threading.Thread(target=add, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(AlertTable(database).load().processed) == 30


def document(database, alert_id):
    with database.reading() as connection:
        wanted = sa.select(schema.alert.c.document).where(schema.alert.c.id == alert_id)
        return json.loads(connection.scalar(wanted))


def write_document(database, alert_id, content):
    with database.transaction() as connection:
        mine = schema.alert.c.id == alert_id
        connection.execute(schema.alert.update().where(mine).values(document=content))
