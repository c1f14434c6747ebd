from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nights import (
    BOOT,
    JOB,
    LAB,
    NETWORKS,
    PATCH,
    PORTS,
    SLOW,
    History,
    as_job,
    outcome,
    record,
    regression,
    run_id,
    seconds_key,
    statements_key,
)

from perfci.alerts.errors import AlertClosed, UnknownAlert
from perfci.alerts.lifecycle import accept, accepted_changes, acknowledge, find, process, run_failed
from perfci.alerts.model import (
    AlertState,
    Audience,
    Closing,
    JudgedRun,
    NotificationKind,
    RunFailure,
    SeriesStatus,
)
from perfci.analysis.types import Outcome
from perfci.errors import FailureClass
from perfci.results.model import CodeUnderTest, Metric, SeriesKey, ServiceRevision, Validity

CREATE_PORT = seconds_key("neutron.create_port", PORTS)
PORTS_TOTAL = seconds_key("total", PORTS)
LIST_PORTS = seconds_key("neutron.list_ports", PORTS)
BOOT_SERVER = seconds_key("nova.boot_server", BOOT)
RATE = SeriesKey(LAB, JOB, "DataPlane.east_west", "0a1b2c3d", "east-west, 1 pair", Metric.MEGABITS_PER_SECOND)
GOOD = tuple(run_id(night) for night in range(8))
RECORDS = {run_id(night): record(night) for night in range(9)} | {
    run_id(night): record(night, PATCH) for night in range(9, 30)
}


def night(number: int, *judgements, run=None):
    return JudgedRun(run or RECORDS[run_id(number)], judgements, RECORDS)


def slow(key, number, since=9, **fields):
    return regression(key, run_id(number), run_id(since), GOOD, **fields)


def fine(key, number):
    return outcome(key, run_id(number), Outcome.NO_CHANGE)


def opened(*keys, number=9):
    state, told = process(AlertState(), night(number, *(slow(key, number, number) for key in keys)))
    assert [one.kind for one in told] == [NotificationKind.REGRESSION]
    return state, state.alerts[0]


def kinds(told):
    return [one.kind for one in told]


def test_a_whole_story_sends_one_mail_for_the_regression_and_one_for_the_fix():
    history, state, told = History(), AlertState(), []
    for slowed in [None] * 10 + [SLOW] * 3 + [None] * 3:
        run = history.play(*((PATCH,) if slowed else ()), factors=slowed)
        state, new = process(state, JudgedRun(run, history.judgements(), history.records))
        told += [(one.kind, one.run_id) for one in new]
    assert told == [(NotificationKind.REGRESSION, run_id(10)), (NotificationKind.CLOSED, run_id(13))]
    (alert,) = state.alerts
    assert (alert.since, alert.last_good, alert.service) == (run_id(10), run_id(9), "neutron")
    assert [(change.service, change.after.changes) for change in alert.changes] == [("neutron", (PATCH,))]
    assert {(one.key.action, one.key.scenario) for one in alert.series} == set(SLOW)
    assert alert.closing is Closing.FIXED


def test_series_of_other_services_belong_to_the_one_service_that_changed():
    _, alert = opened(CREATE_PORT, BOOT_SERVER)
    assert alert.service == "neutron"
    assert len(alert.series) == 2


def test_with_two_changed_services_each_gets_its_own_alert():
    services = (ServiceRevision("neutron", "28", "wheel", "28"), ServiceRevision("nova", "33", "wheel", "33"))
    run = replace(record(9), code=CodeUnderTest("aaaa", services))
    keystone = seconds_key("authenticate.keystone", "Authenticate.keystone")
    before = {
        run_id(8): replace(record(8), code=CodeUnderTest("bbbb", (replace(services[0], version="27"),)))
    }
    judgements = [
        regression(key, run.run_id, run.run_id, (run_id(8),), effect=effect)
        for key, effect in ((CREATE_PORT, 0.2), (PORTS_TOTAL, 0.1), (BOOT_SERVER, 0.5), (keystone, 0.3))
    ]
    state, told = process(AlertState(), JudgedRun(run, tuple(judgements), before))
    assert {alert.service: {one.key for one in alert.series} for alert in state.alerts} == {
        "neutron": {CREATE_PORT, PORTS_TOTAL},
        "nova": {BOOT_SERVER, keystone},  # keystone did not change: it goes with what moved most clearly
    }
    assert len({one.id for one in told}) == 2


def test_nothing_changed_in_the_code_is_one_alert_that_says_so():
    state, _ = process(AlertState(), night(8, slow(CREATE_PORT, 8, 8), slow(PORTS_TOTAL, 8, 8)))
    (alert,) = state.alerts
    assert alert.changes == ()
    assert alert.code_known


def test_a_baseline_without_records_leaves_the_code_unknown():
    lonely = JudgedRun(record(9), (slow(CREATE_PORT, 9),), {})
    state, _ = process(AlertState(), lonely)
    assert not state.alerts[0].code_known
    assert state.alerts[0].last_good is None


def test_the_same_regression_next_night_tells_nothing():
    state, alert = opened(CREATE_PORT)
    again, told = process(state, night(10, slow(CREATE_PORT, 10)))
    assert told == ()
    assert again.alerts == (alert,)


@pytest.mark.parametrize("since", [9, 10], ids=["same run", "one run later, same code"])
def test_another_series_of_the_same_change_joins_without_a_mail(since):
    state, alert = opened(CREATE_PORT)
    state, told = process(state, night(10, slow(CREATE_PORT, 10), slow(PORTS_TOTAL, 10, since)))
    assert told == ()
    assert [one.key for one in state.alerts[0].series] == [CREATE_PORT, PORTS_TOTAL]
    assert state.alerts[0].id == alert.id


def test_a_series_that_moves_much_later_without_new_code_is_another_alert():
    state, _ = opened(CREATE_PORT)
    state, told = process(state, night(20, slow(CREATE_PORT, 20), slow(LIST_PORTS, 20, 20)))
    assert kinds(told) == [NotificationKind.REGRESSION]
    assert len(state.alerts) == 2


def test_a_second_slow_down_on_top_of_the_first_is_told():
    state, _ = opened(CREATE_PORT)
    worse = replace(record(15, PATCH, "second.patch"), code=CodeUnderTest("other", ()))
    judged = slow(CREATE_PORT, 15, 15, effect=0.8)
    again, told = process(state, night(15, judged, run=worse))
    assert kinds(told) == [NotificationKind.REGRESSION]
    assert len(again.alerts) == 2
    # with the same code, or within what was seen already, it is the known one
    assert process(state, night(15, judged))[1] == ()
    assert process(state, night(15, slow(CREATE_PORT, 15, 15), run=worse))[1] == ()


def test_a_second_fall_of_throughput_is_told_and_a_rise_is_not():
    first, _ = process(AlertState(), night(9, slow(RATE, 9, effect=-0.2)))
    worse = replace(record(15, PATCH, "second.patch"), code=CodeUnderTest("other", ()))
    assert kinds(process(first, night(15, slow(RATE, 15, 15, effect=-0.6), run=worse))[1]) == [
        NotificationKind.REGRESSION
    ]
    assert process(first, night(15, slow(RATE, 15, 15, effect=-0.05), run=worse))[1] == ()


def test_the_largest_fall_of_throughput_leads_and_neutron_is_to_blame():
    other = replace(RATE, action="east-west, 4 pairs")
    state, _ = process(AlertState(), night(9, slow(RATE, 9, effect=-0.1), slow(other, 9, effect=-0.4)))
    (alert,) = state.alerts
    assert alert.leading.key == other
    assert alert.service == "neutron"


@pytest.mark.parametrize("answer", [Outcome.INVALID, Outcome.TOO_NOISY, Outcome.NO_DATA, Outcome.NO_BASELINE])
def test_nights_that_cannot_tell_change_nothing(answer):
    state, alert = opened(CREATE_PORT)
    state, told = process(state, night(10, outcome(CREATE_PORT, run_id(10), answer)))
    assert (told, state.alerts) == ((), (alert,))


def test_an_invalid_run_is_never_a_regression_and_never_a_fix():
    broken = record(9, PATCH, invalid=("cpu canary 40 % slower",))
    state, told = process(AlertState(), night(9, slow(CREATE_PORT, 9), run=broken))
    assert state.alerts == ()
    assert kinds(told) == [NotificationKind.LAB_INVALID]
    state, alert = opened(CREATE_PORT)
    state, told = process(state, night(10, fine(CREATE_PORT, 10), run=record(10, invalid=("disk",))))
    assert state.alerts == (alert,)


def test_the_lab_is_told_of_once_when_it_becomes_unfit_and_once_when_it_is_over():
    state, told = AlertState(), []
    for number, reasons in enumerate([(), ("disk",), ("disk",), ("disk",), (), ("cpu",), ()]):
        state, new = process(state, JudgedRun(record(number, invalid=reasons), (), {}))
        told += new
    assert kinds(told) == [
        NotificationKind.LAB_INVALID,
        NotificationKind.LAB_VALID,
        NotificationKind.LAB_INVALID,
        NotificationKind.LAB_VALID,
    ]
    assert {one.audience for one in told} == {Audience.ADMINS}
    assert len({one.id for one in told}) == 4
    assert told[0].reasons == ("disk",)
    assert run_id(1) in told[1].reasons[0]


def test_a_lab_that_settled_at_a_new_level_says_so():
    state, _ = process(AlertState(), JudgedRun(record(1, invalid=("disk",)), (), {}))
    settled = replace(record(6), validity=Validity(valid=True, level_since=run_id(2)))
    _, (told,) = process(state, JudgedRun(settled, (), {}))
    assert told.kind is NotificationKind.LAB_VALID
    assert f"new level since {run_id(2)}" in told.reasons[1]


def test_closing_takes_as_many_nights_in_a_row_as_set():
    state, _ = opened(CREATE_PORT)
    told = []
    for number, judged in enumerate([fine, slow, fine, fine, fine], start=10):
        state, new = process(state, night(number, judged(CREATE_PORT, number)), quiet_nights=3)
        told += [(one.kind, number) for one in new]
    assert told == [(NotificationKind.CLOSED, 14)]


def test_it_closes_only_with_the_leading_series_and_half_of_all_back():
    state, _ = opened(CREATE_PORT, PORTS_TOTAL, LIST_PORTS)
    leading = state.alerts[0].leading.key
    others = [one.key for one in state.alerts[0].series if one.key != leading]

    def closes(*back):
        return bool(process(state, night(10, *(fine(key, 10) for key in back)))[1])

    assert not closes(leading)
    assert not closes(*others)
    assert closes(leading, others[0])


def test_a_baseline_that_knows_only_the_slow_level_is_no_fix():
    state, alert = opened(CREATE_PORT)
    new_environment = replace(
        fine(CREATE_PORT, 20), baseline=tuple(run_id(number) for number in range(11, 19))
    )
    state, told = process(state, night(20, new_environment))
    assert (told, state.alerts) == ((), (alert,))
    back = replace(new_environment, run_id=run_id(21), baseline=GOOD)
    assert kinds(process(state, night(21, back))[1]) == [NotificationKind.CLOSED]


@pytest.mark.parametrize(
    ("low", "high", "closes"),
    [(-0.1, 0.2, True), (-0.1, 0.28, False), (0.05, 0.2, False), (None, None, False)],
    ids=["zero in, all that was told out", "could still be as told", "still slower", "no interval"],
)
def test_a_noisy_series_is_back_once_its_interval_excludes_what_was_told(low, high, closes):
    state, alert = opened(CREATE_PORT)
    assert alert.leading.low == pytest.approx(0.26)
    noisy = replace(outcome(CREATE_PORT, run_id(12), Outcome.TOO_NOISY), baseline=GOOD, low=low, high=high)
    assert bool(process(state, night(12, noisy))[1]) is closes


def test_after_a_close_only_a_new_change_opens_again():
    state, first = opened(CREATE_PORT)
    state, told = process(state, night(12, fine(CREATE_PORT, 12)))
    assert kinds(told) == [NotificationKind.CLOSED]
    state, told = process(state, night(13, slow(CREATE_PORT, 13, 9)))
    assert told == ()
    state, told = process(state, night(14, slow(CREATE_PORT, 14, 14)))
    assert kinds(told) == [NotificationKind.REGRESSION]
    assert told[0].alert.id != first.id


def test_a_known_exception_ends_an_alert_as_known_and_without_it_a_new_one_opens():
    state, alert = opened(CREATE_PORT)
    known = outcome(CREATE_PORT, run_id(10), Outcome.KNOWN)
    state, told = process(state, night(10, known))
    assert kinds(told) == [NotificationKind.CLOSED]
    assert state.alerts[0].closing is Closing.KNOWN
    state, told = process(state, night(11, replace(known, run_id=run_id(11))))
    assert told == ()
    state, told = process(state, night(12, slow(CREATE_PORT, 12)))
    assert kinds(told) == [NotificationKind.REGRESSION]
    assert state.alerts[1].id != alert.id


def test_an_accepted_alert_stays_silent_and_moves_the_baseline():
    state, alert = opened(CREATE_PORT)
    state = acknowledge(state, alert.id, "ann@lab")
    assert state.alerts[0].status is SeriesStatus.ACKNOWLEDGED
    assert state.alerts[0].looked_into_by == "ann@lab"
    state, note = accept(state, alert.id[:6], run_id(10))
    assert (note.kind, note.alert.closing) == (NotificationKind.CLOSED, Closing.ACCEPTED)
    assert accepted_changes(state) == {CREATE_PORT: run_id(9)}
    state, told = process(state, night(11, slow(CREATE_PORT, 11), slow(PORTS_TOTAL, 11)))
    assert told == ()
    assert accepted_changes(state) == {CREATE_PORT: run_id(9), PORTS_TOTAL: run_id(9)}


def test_unknown_and_closed_alerts_are_errors():
    state, alert = opened(CREATE_PORT)
    for name in ("", "nonsense"):
        with pytest.raises(UnknownAlert, match="no alert, or more than one") as caught:
            find(state, name)
        assert alert.id in caught.value.advice
    state, _ = accept(state, alert.id, run_id(9))
    with pytest.raises(AlertClosed):
        accept(state, alert.id, run_id(9))
    with pytest.raises(AlertClosed):
        acknowledge(state, alert.id, "ann@lab")


def test_jobs_do_not_mix():
    state, _ = opened(CREATE_PORT)
    other = as_job(record(10), "largeops")
    key = replace(CREATE_PORT, job="largeops")
    state, told = process(state, JudgedRun(other, (fine(key, 10),), {}))
    assert told == ()
    assert state.alerts[0].status is SeriesStatus.OPEN


def test_improvements_are_told_without_mail_and_not_for_a_fix():
    state, _ = opened(CREATE_PORT)
    better = [
        replace(slow(key, 10, 10), outcome=Outcome.IMPROVEMENT, effect=-0.2)
        for key in (CREATE_PORT, LIST_PORTS)
    ]
    _, told = process(state, night(10, *better))
    improvement = next(one for one in told if one.kind is NotificationKind.IMPROVEMENT)
    assert not improvement.by_mail
    assert [one.key for one in improvement.judgements] == [LIST_PORTS]
    assert all(one.by_mail for one in told if one is not improvement)


@pytest.mark.parametrize(
    ("failure_class", "audience"),
    [
        (FailureClass.PRODUCT, Audience.JOB),
        (FailureClass.TEST, Audience.JOB),
        (FailureClass.LAB, Audience.ADMINS),
        (FailureClass.UNKNOWN, Audience.ADMINS),
    ],
)
def test_the_class_of_a_failure_says_who_is_told(failure_class, audience):
    failure = RunFailure(run_id(3), "embedded", "nightly", "deploy", failure_class, "it broke")
    assert run_failed(failure).audience is audience
    assert run_failed(failure).id == run_failed(failure).id


KEYS = (
    CREATE_PORT,
    PORTS_TOTAL,
    LIST_PORTS,
    BOOT_SERVER,
    statements_key("neutron-api", PORTS),
    seconds_key("total", NETWORKS),
)
ANSWERS = st.sampled_from(list(Outcome))


@st.composite
def stories(draw):
    nights = []
    for number in range(9, 9 + draw(st.integers(1, 6))):
        judged = []
        for key in KEYS:
            answer = draw(ANSWERS)
            since = draw(st.integers(9, number))
            judged.append(
                slow(key, number, since)
                if answer is Outcome.REGRESSION
                else outcome(key, run_id(number), answer)
            )
        invalid = ("noise",) if draw(st.integers(0, 5)) == 0 else ()
        run = record(number, *((PATCH,) if draw(st.booleans()) else ()), invalid=invalid)
        nights.append((run, tuple(judged)))
    return nights


def play(story, shuffle=None, repeat=1):
    records = {run_id(number): record(number) for number in range(9)} | {run.run_id: run for run, _ in story}
    state, told = AlertState(), []
    for run, judged in story:
        answers = tuple(shuffle.sample(judged, len(judged))) if shuffle else judged
        for _ in range(repeat):
            state, new = process(
                state, JudgedRun(run, answers, dict(reversed(records.items())) if shuffle else records)
            )
            told += new
    return state, told


@given(stories(), st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(story, shuffle):
    plain = play(story)
    assert play(story, shuffle) == plain
    assert play(story, repeat=2) == plain


@given(stories())
def test_no_notification_comes_twice_and_each_closing_had_an_opening(story):
    state, told = play(story)
    ids = [one.id for one in told if one.kind is not NotificationKind.IMPROVEMENT]
    assert len(ids) == len(set(ids))
    opened_alerts = {one.alert.id for one in told if one.kind is NotificationKind.REGRESSION}
    closed = {one.alert.id for one in told if one.kind is NotificationKind.CLOSED}
    assert closed <= opened_alerts
    assert opened_alerts == {alert.id for alert in state.alerts}
    assert closed == {alert.id for alert in state.alerts if alert.status is SeriesStatus.CLOSED}
