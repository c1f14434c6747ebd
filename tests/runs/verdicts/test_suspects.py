"""Which series are run again: on histories whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import series

from perfci.alerts.model import AlertState
from perfci.analysis.decision import Decision
from perfci.analysis.level_rule import rule_of
from perfci.analysis.run_values import run_values
from perfci.analysis.sequential_test import STEPS, ConfirmSettings
from perfci.analysis.settings import AnalysisSettings
from perfci.analysis.types import Basis, Confirmation, Outcome, SeriesHistory
from perfci.analysis.verdict import judge
from perfci.results.model import CodeUnderTest, Metric, RunRecord, Validity
from perfci.runs.verdicts.confirmation_store import Answer
from perfci.runs.verdicts.suspects import SCREENED_FROM, Known, suspects, timed_nights

NIGHTS = SCREENED_FROM + 5
SLOW = "neutron.create_port"
SETTINGS = AnalysisSettings()


def histories(step, *, since=1, nights=NIGHTS, seed=1):
    """Six series, one of which is slower by `step` on the last `since` nights."""
    maker = series.Histories(np.random.default_rng(seed))
    names = ["total", "neutron.create_network", SLOW, "neutron.list_ports", "nova.boot", "glance.create"]
    found = []
    for name in names:
        levels = [1.0] * (nights - since) + [1 + step if name == SLOW else 1.0] * since
        found.append(maker.timings(levels, action=name, between=0.015))
    return found


def record(point, code, **changed):
    started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=int(point.run_id[-6:]))
    fields = {
        "run_id": point.run_id,
        "lab": "embedded",
        "job": "short",
        "cloud": "embedded",
        "started_at": started,
        "finished_at": started,
        "environment": point.environment,
        "code": CodeUnderTest(code, ()),
        "validity": Validity(valid=point.valid),
    }
    return RunRecord(**{**fields, **changed})


def known(found, *, new_since=1, answers=(), **changed):
    points = found[0].points
    records = tuple(
        record(point, "new" if len(points) - index <= new_since else "old")
        for index, point in enumerate(points)
    )
    fields = {
        "record": records[-1],
        "judgements": judge(found, SETTINGS),
        "histories": tuple(found),
        "timings": timed_nights(found, [one.run_id for one in points], points[-1].environment, SETTINGS),
        "records": records,
        "places": {one.run_id: (one.environment, one.validity.valid) for one in records},
        "alerts": AlertState(),
        "answers": tuple(answers),
        "analysis": SETTINGS,
        "confirming": ConfirmSettings(),
    }
    return Known(**{**fields, **changed})


def asked(given, *, runnable=lambda _: True):
    found = suspects(given, runnable=runnable)
    return {question.key.action: question for question in found.questions}, found


def test_one_slow_night_is_worth_a_look_and_no_more_than_that():
    questions, found = asked(known(histories(0.15)))
    assert SLOW in questions
    assert len(questions) <= 2
    assert not questions[SLOW].claimed
    assert questions[SLOW].since == series.run_id(NIGHTS - 1)
    assert found.good.run_id == series.run_id(NIGHTS - 2)


@pytest.mark.parametrize("seed", range(5))
def test_quiet_nights_ask_little(seed):
    questions, _ = asked(known(histories(0.0, seed=seed)))
    assert len(questions) <= 1


def test_a_proven_change_is_asked_about_once():
    given = known(histories(0.2, since=3), new_since=3)
    questions, found = asked(given)
    assert questions[SLOW].claimed
    assert found.good.run_id == series.run_id(NIGHTS - 4)
    since = questions[SLOW].since
    shown = Confirmation(Decision.DIFFERENT, Basis.RERUNS, "", given.record.run_id, since, effect=0.2)
    told = replace(given, answers=(Answer(questions[SLOW].key, shown, (0.0,) * 3, (0.2,) * 3),))
    assert SLOW not in asked(told)[0]


def test_what_re_runs_have_answered_is_not_suspected_again():
    found = histories(0.045)  # below what the night's own rules ever claim
    key = next(one.key for one in found if one.key.action == SLOW)
    before = series.run_id(NIGHTS - 1)
    no = Confirmation(Decision.SAME, Basis.RERUNS, "", before, before, claimed=False)
    answer = Answer(key, no, (0.0,) * 3, (0.0,) * 3, tuple([-9.0] * STEPS.size))
    again = [SeriesHistory(one.key, (*one.points, _next(one))) for one in found]
    assert SLOW in asked(known(again, new_since=2))[0]
    assert SLOW not in asked(known(again, new_since=2, answers=[answer]))[0]


def _next(history):
    last = history.points[-1]
    return replace(last, run_id=series.run_id(NIGHTS))


def test_the_same_code_before_and_after_is_the_lab():
    given = known(histories(0.2, since=3), new_since=0)
    found = suspects(given, runnable=lambda _: True)
    assert found.questions == ()
    ((key, answer),) = [one for one in found.answered if one[0].action == SLOW]
    assert (answer.basis, answer.decision) == (Basis.SAME_CODE, Decision.SAME)
    assert key.action == SLOW


def test_tonights_code_is_that_of_the_last_good_run():
    given = known(histories(0.2, since=3), new_since=0)
    middle = [replace(one, code=CodeUnderTest("bad", ())) if i == NIGHTS - 2 else one
              for i, one in enumerate(given.records)]  # fmt: skip
    found = suspects(replace(given, records=tuple(middle)), runnable=lambda _: True)
    assert {answer.basis for _, answer in found.answered} == {Basis.RERUNS}
    assert {answer.decision for _, answer in found.answered} == {Decision.UNKNOWN}


def test_an_older_run_serves_where_the_last_good_one_can_not_be_deployed():
    given = known(histories(0.2, since=3), new_since=3)
    gone = {series.run_id(NIGHTS - 4), series.run_id(NIGHTS - 5)}
    _, found = asked(given, runnable=lambda run: run not in gone)
    assert found.good.run_id == series.run_id(NIGHTS - 6)
    _, found = asked(given, runnable=lambda _: False)
    assert found.good is None
    assert {answer.basis for _, answer in found.answered} == {Basis.NOTHING}


def test_an_unfit_lab_suspects_nothing():
    given = known(histories(0.2, since=3), new_since=3)
    unfit = replace(given.record, validity=Validity(valid=False))
    assert suspects(replace(given, record=unfit), runnable=lambda _: True).questions == ()


def test_runs_in_another_environment_are_no_last_good_run():
    given = known(histories(0.2, since=3), new_since=3)
    places = {run: ("other" if run < series.run_id(NIGHTS - 3) else "e0", True) for run in given.places}
    found = suspects(replace(given, places=places), runnable=lambda _: True)
    assert found.questions == ()
    assert all(answer.basis is Basis.NOTHING for _, answer in found.answered)


def test_improvements_are_asked_about_too():
    given = known(histories(-0.2, since=3), new_since=3)
    assert next(one for one in given.judgements if one.key.action == SLOW).outcome is Outcome.IMPROVEMENT
    questions, _ = asked(given)
    assert not questions[SLOW].worse


def test_what_is_screened_are_the_nights_that_can_be_compared():
    plain, other = histories(0.0)[:2]
    short = SeriesHistory(series.series_key("short"), plain.points[1 - SCREENED_FROM :])
    points = list(other.points)
    points[2] = replace(points[2], valid=False)
    points[3] = replace(points[3], environment="elsewhere")
    points[4] = replace(points[4], values=())
    gaps = replace(other, points=tuple(points))
    ids, here = [one.run_id for one in plain.points], points[-1].environment
    found = timed_nights(iter((gaps, short, plain)), ids, here, SETTINGS)
    assert found.keys == tuple(sorted((plain.key, other.key)))
    assert found.nights == tuple(ids)
    values = run_values(rule_of(Metric.SECONDS, SETTINGS), plain.points)
    mine, its = found.keys.index(plain.key), found.keys.index(other.key)
    assert found.logs[mine].tolist() == [one.log for one in values]
    assert found.errors[mine].tolist() == [one.error for one in values]
    assert np.flatnonzero(np.isnan(found.logs[its])).tolist() == [2, 3, 4]
    assert np.flatnonzero(np.isnan(found.errors[its])).tolist() == [2, 3, 4]
    alone = timed_nights([gaps], ids, here, SETTINGS)
    assert alone.nights == tuple(one for n, one in enumerate(ids) if n not in {2, 3})
    assert timed_nights([short], ids, here, SETTINGS).keys == ()
