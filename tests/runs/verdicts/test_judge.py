"""What a run's verdict follows from: histories, facts and answers; never from a cache."""

from __future__ import annotations

import archives
import pytest

from perfci import config
from perfci.alerts.lifecycle import accept, process
from perfci.alerts.model import AlertState, JudgedRun
from perfci.analysis.decision import Decision
from perfci.analysis.types import Basis, Confirmation, Outcome
from perfci.database import schema
from perfci.results.archive import read_archive
from perfci.results.model import Metric
from perfci.runs.jobs.procedures import KnownChange
from perfci.runs.verdicts import judge as judging
from perfci.runs.verdicts.confirmation_store import Answer, write_answers
from perfci.runs.verdicts.facts_store import FactsUnreadable, read_facts
from perfci.runs.verdicts.judge import judge_after_reruns, judge_run
from perfci.runs.verdicts.lab_services import LabServices
from perfci.runs.verdicts.verdict_cache import CacheRow, forget_all

WINDOW = 12
STEP = 10
SLOW = {"factor": 1.5, "code": "bbbbbbbbbbbb"}


@pytest.fixture
def controller(tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "HISTORY_RUNS", WINDOW)
    return LabServices(config.load(environ={"PERFCI_STATE_DIR": str(tmp_path)}))


@pytest.fixture
def play(controller):
    """Play one night; return its record and what the whole iteration's timing came out as."""

    def night(number, *, lost=True, **how):
        results = read_archive(archives.night(controller.state.archive, number, **how))
        controller.local.write(results)
        if lost:
            forget_all(controller.database)
        return results.record, judge_run(controller, results.record)

    return night


def timing(found):
    return next(one for one in found[1] if (one.key.action, one.key.metric) == ("total", Metric.SECONDS))


def nights(play, first, last, **how):
    return [play(number, **how) for number in range(first, last + 1)]


def test_a_change_older_than_the_window_stays_open_and_closes_without_any_cache(play):
    nights(play, 1, STEP - 1)
    slow = nights(play, STEP, STEP + WINDOW + 6, **SLOW)
    assert {timing(one).outcome for one in slow[1:]} == {Outcome.REGRESSION}
    assert {timing(one).since for one in slow[1:]} == {slow[0][0].run_id}
    fixed = nights(play, STEP + WINDOW + 6 + 1, STEP + WINDOW + 6 + 3)
    over = timing(fixed[-1])
    assert (over.outcome in {Outcome.NO_CHANGE, Outcome.TOO_NOISY}, over.since) == (True, None)
    assert abs(over.effect) < 0.1


def test_with_and_without_a_cache_it_is_the_same(play, controller, monkeypatch):
    monkeypatch.setattr(judging, "HISTORY_RUNS", 40)  # more than a baseline has
    for number in range(1, 26):
        how = SLOW if STEP <= number < 20 else {}
        record, kept = play(number, lost=False, **how)
        forget_all(controller.database)
        assert judge_run(controller, record) == kept
        assert judge_run(controller, record) == kept, "the cache that this made"


def test_a_night_that_is_judged_again_writes_no_state(play, controller, monkeypatch):
    """Once more after its re-runs: all that is known of the nights before it is there already."""
    nights(play, 1, STEP, lost=False)
    written = []
    real = CacheRow.keep
    monkeypatch.setattr(
        CacheRow, "keep", lambda self, content: (written.append(content), real(self, content))
    )
    record, found = play(STEP + 1, lost=False, **SLOW)
    assert len(written) == 1
    assert judge_run(controller, record) == found
    assert len(written) == 1
    forget_all(controller.database)
    assert judge_run(controller, record) == found
    assert len(written) == 2


ANSWERS = {
    "nobody asked": (Decision.UNKNOWN, Basis.NOTHING),
    "the same code": (Decision.UNKNOWN, Basis.SAME_CODE),
    "too few runs": (Decision.UNKNOWN, Basis.RERUNS),
    "slower": (Decision.DIFFERENT, Basis.RERUNS),
    "the same": (Decision.SAME, Basis.RERUNS),
}


@pytest.mark.parametrize(
    ("answer", "known"), [*((answer, False) for answer in ANSWERS), ("nobody asked", True)]
)
def test_after_its_re_runs_a_night_is_judged_as_from_the_beginning(
    play, controller, monkeypatch, answer, known
):
    """The history is read again only where re-runs could tell something."""
    nights(play, 1, STEP - 1)
    if known:
        exceptions = {"exceptions": (KnownChange(action="total", bug="https://bugs.launchpad.net/bugs/1"),)}
        real_job = LabServices.job
        monkeypatch.setattr(
            LabServices, "job", lambda self, run: real_job(self, run).model_copy(update=exceptions)
        )
    found = nights(play, STEP, STEP + 2, **SLOW)[-1]
    first = timing(found)
    assert first.outcome is (Outcome.KNOWN if known else Outcome.REGRESSION)
    decision, basis = ANSWERS[answer]
    asked = Confirmation(decision, basis, answer, asked=first.run_id, since=first.since, effect=0.5)
    write_answers(controller.database, first.run_id, [Answer(first.key, asked)])
    forget_all(controller.database)
    expected = judge_run(controller, found[0])
    assert expected != found[1]
    read = []
    real = controller.local.samples
    monkeypatch.setattr(controller.local, "samples", lambda *of: read.append(of) or real(*of))
    assert judge_after_reruns(controller, *found) == expected
    assert bool(read) is (decision is not Decision.UNKNOWN)


def test_without_any_facts_as_after_an_upgrade_all_nights_are_replayed_once(play, controller):
    nights(play, 1, STEP - 1)
    slow = nights(play, STEP, STEP + WINDOW, **SLOW)
    with controller.database.transaction() as connection:
        connection.execute(schema.night_facts.delete())
    for number in (1, 2):
        found = timing(play(STEP + WINDOW + number, **SLOW))
        assert (found.outcome, found.since) == (Outcome.REGRESSION, slow[0][0].run_id)
        assert len(read_facts(controller.database, "embedded", "nightly")) == STEP + WINDOW + number


def test_an_old_run_that_is_judged_again_is_judged_in_its_window(play, controller, monkeypatch):
    found = nights(play, 1, STEP + WINDOW)
    asked = []
    records = controller.local.records
    monkeypatch.setattr(
        controller.local, "records", lambda *job, **how: asked.append(how["limit"]) or records(*job, **how)
    )
    judge_run(controller, found[0][0])
    judge_run(controller, found[-1][0])
    assert asked == [WINDOW, WINDOW]


def test_what_was_accepted_is_the_baseline_whatever_was_decided_before(play, controller):
    nights(play, 1, STEP - 1)
    slow = nights(play, STEP, STEP + 9, **SLOW)
    record, judgements = slow[-1]
    records = {one.run_id: one for one, _ in slow}
    state, _ = process(AlertState(), JudgedRun(record, judgements, records))
    for alert in state.alerts:
        state, _ = accept(state, alert.id, record.run_id)
    controller.alerts.save(state)
    after = timing(play(STEP + 10, **SLOW))
    assert after.since is None
    assert after.baseline[0] == slow[0][0].run_id
    worse = nights(play, STEP + 11, STEP + 13, factor=2.5, code="cccccccccccc")
    assert timing(worse[-1]).outcome is Outcome.REGRESSION
    assert timing(worse[-1]).since == worse[0][0].run_id


def test_judging_an_old_run_again_changes_no_facts(play, controller):
    found = nights(play, 1, STEP + 3)
    before = read_facts(controller.database, "embedded", "nightly")
    assert len(before) == STEP + 3
    judge_run(controller, found[4][0])
    assert read_facts(controller.database, "embedded", "nightly") == before


def test_damaged_facts_are_an_error_and_no_verdict(play, controller):
    nights(play, 1, 2)
    with controller.database.transaction() as connection:
        connection.execute(schema.night_facts.update().values(document=b"half"))
    with pytest.raises(FactsUnreadable):
        play(3)
