from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest
from nights import PATCH, SLOW, History

from perfci.alerts.errors import AlertsUnreadable
from perfci.alerts.lifecycle import accept, process
from perfci.alerts.model import AlertState, JudgedRun
from perfci.alerts.repository import AlertFile, AlertMemory
from perfci.analysis.decision import Decision
from perfci.analysis.types import Basis, Confirmation


@pytest.fixture
def state():
    history, state = History(), AlertState()
    for slowed in [None] * 9 + [SLOW]:
        run = history.play(*((PATCH,) if slowed else ()), factors=slowed)
        state, _ = process(state, JudgedRun(run, history.judgements(), history.records))
    closed, _ = accept(state, state.alerts[0].id, run.run_id)
    return replace(state, alerts=(*state.alerts, *closed.alerts), invalid_since={"embedded": "x"})


def test_what_re_runs_have_shown_is_kept_with_the_alert(state, tmp_path):
    shown = Confirmation(
        Decision.DIFFERENT, Basis.RERUNS, "confirmed", "r9", "r9", runs=("a", "b"), effect=0.3
    )
    first = state.alerts[0]
    series = tuple(replace(one, confirmation=shown) for one in first.series)
    state = replace(state, alerts=(replace(first, series=series), *state.alerts[1:]))
    keep = AlertFile(tmp_path / "alerts.json")
    keep.save(state)
    assert keep.load() == state
    content = json.loads(keep.path.read_text())
    for one in content["state"]["alerts"][0]["series"]:
        del one["confirmation"]
    keep.path.write_text(json.dumps(content))
    assert {one.confirmation for one in keep.load().alerts[0].series} == {None}, "an older perfci wrote it"


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_what_is_saved_comes_back(state, tmp_path, kind):
    keep = AlertFile(tmp_path / "state" / "alerts.json") if kind == "file" else AlertMemory()
    with keep.exclusive():
        assert keep.load() == AlertState()
        keep.save(state)
        assert keep.load() == state


def test_nothing_but_the_file_and_its_lock_is_left(state, tmp_path):
    keep = AlertFile(tmp_path / "alerts.json")
    with keep.exclusive():
        keep.save(state)
    assert {path.name for path in tmp_path.iterdir()} == {"alerts.json", "alerts.json.lock"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not JSON"),
        ('{"format": 1, "state"', "not JSON"),
        ("[]", "expected format 1, found None"),
        ('{"format": 2, "state": {}}', "expected format 1, found 2"),
        ('{"format": 1}', "state: "),
        ('{"format": 1, "state": {"alerts": [{"id": 3}]}}', "alerts.0"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path, content, reason):
    file = tmp_path / "alerts.json"
    file.write_text(content)
    with pytest.raises(AlertsUnreadable, match=r"alerts\.json") as caught:
        AlertFile(file).load()
    assert reason in str(caught.value)
    assert "move it away" in caught.value.advice
    assert file.read_text() == content


def test_a_file_that_is_a_folder_is_unreadable(tmp_path):
    with pytest.raises(AlertsUnreadable, match="directory"):
        AlertFile(tmp_path).load()


def test_the_file_is_plain_json(state, tmp_path):
    AlertFile(tmp_path / "a.json").save(state)
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["state"]["alerts"][0]["series"][0]["key"]["scenario"].startswith("Neutron")


def test_two_writers_take_turns(tmp_path):
    def add(number):
        keep = AlertFile(tmp_path / "a.json")
        for turn in range(10):
            with keep.exclusive():
                state = keep.load()
                keep.save(replace(state, processed={**state.processed, f"{number}-{turn}": "x"}))

    workers = [threading.Thread(target=add, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(AlertFile(tmp_path / "a.json").load().processed) == 30
