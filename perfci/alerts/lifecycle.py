"""The life of an alert: from what a night's run says to new states and to what is told. Pure.

Every id is a digest of what it stands for, so working something out twice gives the same ids, and
whoever delivers can tell that it has been delivered. Runs are looked at in time order: a run that is
not newer than the last one looked at changes nothing and tells nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from perfci.alerts.attribution import blame, last_good, revision_changes, same_change
from perfci.alerts.errors import AlertClosed, UnknownAlert
from perfci.alerts.model import (
    Alert,
    AlertState,
    Audience,
    Closing,
    JudgedRun,
    MovedSeries,
    Notification,
    NotificationKind,
    RunFailure,
    SeriesStatus,
    worsening,
)
from perfci.analysis.types import Judgement, Outcome
from perfci.errors import FailureClass
from perfci.projects import project

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from perfci.results.model import RunRecord, SeriesKey

_BACK = frozenset({Outcome.NO_CHANGE, Outcome.IMPROVEMENT})
_AUDIENCES = {
    FailureClass.PRODUCT: Audience.JOB,
    FailureClass.TEST: Audience.JOB,
    FailureClass.LAB: Audience.ADMINS,
    FailureClass.UNKNOWN: Audience.ADMINS,
}


def process(
    state: AlertState, night: JudgedRun, *, quiet_nights: int = 1
) -> tuple[AlertState, tuple[Notification, ...]]:
    """Return the new state and what is to be told after one run.

    A run in which the lab was not fit to measure says nothing about series, whatever its judgements
    are. An alert closes after `quiet_nights` nights in a row in which its leading series and at least
    half of all its series are back and none is a regression; nights that can't tell do not count, nor do
    those that are compared only with runs since the change.
    The order of the judgements does not matter.
    """
    run = night.record
    place = f"{run.lab}/{run.job}"
    if run.run_id <= state.processed.get(place, ""):
        return state, ()
    night = replace(night, records={**night.records, run.run_id: run})
    state, told = _lab(state, run)
    state = replace(state, processed={**state.processed, place: run.run_id})
    if not run.validity.valid:
        return state, told
    regressions = sorted(_regressions(night), key=lambda judgement: judgement.key)
    state, closed = _follow(state, night, quiet_nights)
    state, opened = _open(state, night, regressions)
    return state, (*told, *opened, *closed, *_improvements(state, night))


def run_failed(failure: RunFailure) -> Notification:
    """Return what is told when a run failed; its class decides to whom."""
    return Notification(
        id=f"failed-{_digest(failure.lab, failure.job, failure.run_id)}",
        kind=NotificationKind.RUN_FAILED,
        audience=_AUDIENCES[failure.failure_class],
        lab=failure.lab,
        job=failure.job,
        run_id=failure.run_id,
        failure=failure,
    )


def acknowledge(state: AlertState, alert_id: str, by: str) -> AlertState:
    """Note who looks into an alert. Raises UnknownAlert and AlertClosed."""
    alert = find(state, alert_id)
    if alert.status is SeriesStatus.CLOSED:
        raise AlertClosed(alert=alert.id, closing=alert.closing, run=alert.closed)
    return _with(state, replace(alert, status=SeriesStatus.ACKNOWLEDGED, looked_into_by=by))


def accept(state: AlertState, alert_id: str, run_id: str) -> tuple[AlertState, Notification]:
    """Close an alert because this is the new normal as of a run. Raises UnknownAlert and AlertClosed."""
    alert = find(state, alert_id)
    if alert.status is SeriesStatus.CLOSED:
        raise AlertClosed(alert=alert.id, closing=alert.closing, run=alert.closed)
    alert = replace(alert, status=SeriesStatus.CLOSED, closing=Closing.ACCEPTED, closed=run_id)
    return _with(state, alert), _closed(alert, run_id)


def last_run(state: AlertState, alert: Alert) -> str:
    """Return the newest run of an alert's own lab and job that the alerts have seen."""
    return state.processed.get(f"{alert.lab}/{alert.job}", alert.opened)


def accepted_changes(state: AlertState) -> Mapping[SeriesKey, str]:
    """Return the first run of the newest accepted change of each series: baselines start there."""
    changes: dict[SeriesKey, str] = {}
    for alert in state.alerts:
        if alert.closing is Closing.ACCEPTED:
            for series in alert.series:
                changes[series.key] = max(alert.since, changes.get(series.key, ""))
    return changes


def accepted_until(state: AlertState) -> Mapping[SeriesKey, str]:
    """Return the newest run before which somebody accepted a change of a series as the new normal."""
    until: dict[SeriesKey, str] = {}
    for alert in state.alerts:
        if alert.closing is Closing.ACCEPTED and alert.closed is not None:
            for series in alert.series:
                until[series.key] = max(alert.closed, until.get(series.key, ""))
    return until


def find(state: AlertState, alert_id: str) -> Alert:
    """Return an alert by its id, or by a beginning of it that only one has. Raises UnknownAlert."""
    found = [alert for alert in state.alerts if alert_id and alert.id.startswith(alert_id)]
    if len(found) != 1:
        known = ", ".join(alert.id for alert in state.alerts if alert.status is not SeriesStatus.CLOSED)
        raise UnknownAlert(alert=alert_id, known=known or "none")
    return found[0]


def _lab(state: AlertState, run: RunRecord) -> tuple[AlertState, tuple[Notification, ...]]:
    """Tell the admins when the lab becomes unfit to measure, and when that is over."""
    since = state.invalid_since.get(run.lab)
    if run.validity.valid == (since is None) or (since is not None and run.run_id < since):
        return state, ()
    invalid = dict(state.invalid_since)
    if run.validity.valid:
        began = invalid.pop(run.lab)
        kind, name = NotificationKind.LAB_VALID, f"lab-valid-{_digest(run.lab, began)}"
    else:
        began = invalid[run.lab] = run.run_id
        kind, name = NotificationKind.LAB_INVALID, f"lab-invalid-{_digest(run.lab, began)}"
    note = Notification(
        id=name,
        kind=kind,
        audience=Audience.ADMINS,
        lab=run.lab,
        job=run.job,
        run_id=run.run_id,
        reasons=(f"unfit since {began}", *_new_level(run)) if run.validity.valid else run.validity.reasons,
    )
    return replace(state, invalid_since=invalid), (note,)


def _new_level(run: RunRecord) -> tuple[str, ...]:
    since = run.validity.level_since
    return (
        ()
        if since is None
        else (f"its canaries have had a new level since {since}: all series begin again there",)
    )


def _follow(
    state: AlertState, night: JudgedRun, quiet_nights: int
) -> tuple[AlertState, tuple[Notification, ...]]:
    """Count the quiet nights of the open alerts, and close those that have enough."""
    judged = {judgement.key: judgement for judgement in night.judgements}
    alerts, told = [], []
    for alert in state.alerts:
        followed = alert
        if _is_open(alert, night.record):
            followed = _counted(alert, judged)
            if followed.quiet >= quiet_nights:
                followed = replace(
                    followed,
                    status=SeriesStatus.CLOSED,
                    closing=_closing(followed, judged),
                    closed=night.record.run_id,
                )
                told.append(_closed(followed, night.record.run_id))
        alerts.append(followed)
    return replace(state, alerts=tuple(alerts)), tuple(told)


def _closing(alert: Alert, judged: Mapping[SeriesKey, Judgement]) -> Closing:
    """Say why an alert closes tonight: no regression that is left may be called fixed."""
    tonight = (judged.get(series.key) for series in alert.series)
    known = any(one is not None and one.outcome is Outcome.KNOWN for one in tonight)
    return Closing.KNOWN if known else Closing.FIXED


def _counted(alert: Alert, judged: Mapping[SeriesKey, Judgement]) -> Alert:
    """Count a night in which the series of an alert are back; a night that can't tell is not counted."""
    tonight = [judged.get(series.key) for series in alert.series]
    if any(one is not None and one.outcome is Outcome.REGRESSION for one in tonight):
        return replace(alert, quiet=0)
    back = sum(_is_back(alert, series, one) for series, one in zip(alert.series, tonight, strict=True))
    leading = alert.leading
    if _is_back(alert, leading, judged.get(leading.key)) and 2 * back >= len(tonight):
        return replace(alert, quiet=alert.quiet + 1)
    return alert


def _is_back(alert: Alert, series: MovedSeries, judgement: Judgement | None) -> bool:
    """Tell whether a series is where it was before the alert.

    A baseline that begins after the change (a new environment, say) knows the slow level only: no
    change against it says nothing about a fix. A series that is too noisy to show small changes is back
    too, once its interval holds zero and excludes all that was told; else its alert could never end.
    """
    if judgement is not None and judgement.outcome is Outcome.KNOWN:
        return True  # it is not back, but there is nothing to wait for
    if judgement is None or (judgement.baseline and min(judgement.baseline) >= alert.since):
        return False
    if judgement.outcome is not Outcome.TOO_NOISY:
        return judgement.outcome in _BACK
    now, told = worsening(judgement), worsening(series)
    if now is None or told is None:
        return False
    return now[0] <= 0 and now[1] < told[0]


def _open(
    state: AlertState, night: JudgedRun, regressions: list[Judgement]
) -> tuple[AlertState, tuple[Notification, ...]]:
    """Let new regressions join the alert of their change, or open one for each new change."""
    held = _held(state, night.record)
    fresh = [judgement for judgement in regressions if not _known(held, night, judgement)]
    alerts = list(state.alerts)
    told = []
    for since, members in _changes(fresh, night.records):
        good = last_good(members, since, night.records)
        changed = _changed_projects(good, since, night.records)
        services = blame(members, changed)
        for service in sorted(set(services.values())):
            group = [member for member in members if services[member.key] == service]
            joined = _alert_of_change(alerts, night, since, service)
            if joined is None:
                alert = _new_alert(night, since, good, service, group)
                alerts.append(alert)
                told.append(_notification(NotificationKind.REGRESSION, alert, night.record.run_id))
            else:
                at = alerts.index(joined)
                alerts[at] = replace(joined, series=(*joined.series, *(_moved(m, night) for m in group)))
    return replace(state, alerts=tuple(alerts)), tuple(told)


def _held(state: AlertState, run: RunRecord) -> Mapping[SeriesKey, Sequence[tuple[Alert, MovedSeries]]]:
    """Return which alerts of a run's lab and job speak of a series, in their order, and what they say."""
    held: dict[SeriesKey, list[tuple[Alert, MovedSeries]]] = {}
    for alert in state.alerts:
        if (alert.lab, alert.job) == (run.lab, run.job):
            first = {series.key: series for series in reversed(alert.series)}
            for key, series in first.items():
                held.setdefault(key, []).append((alert, series))
    return held


def _known(
    held: Mapping[SeriesKey, Sequence[tuple[Alert, MovedSeries]]], night: JudgedRun, judgement: Judgement
) -> bool:
    """Tell whether an alert speaks of this already.

    While it is open, its series are known unless they became clearly worse through a later change.
    Once it is closed, they are known unless the change began after the closing.
    """
    since = _since(judgement)
    for alert, series in held.get(judgement.key, ()):
        if alert.closing is Closing.KNOWN:
            continue  # the job no longer names it as an exception
        if alert.closed is not None:
            if since <= alert.closed:
                return True
        elif not _worse(series, judgement, since, night.records):
            return True
    return False


def _worse(held: MovedSeries, judgement: Judgement, since: str, records: Mapping[str, RunRecord]) -> bool:
    """Tell a second change on top of the first: later, with other code, above all that was seen."""
    now, known = worsening(judgement), worsening(held)
    if now is None or known is None or since <= held.since:
        return False
    before, after = records.get(held.since), records.get(since)
    return (
        now[0] > known[1]
        and before is not None
        and after is not None
        and before.code.digest != after.code.digest
    )


def _changes(
    judgements: Iterable[Judgement], records: Mapping[str, RunRecord]
) -> list[tuple[str, list[Judgement]]]:
    """Group judgements by the change they speak of; its first run is the earliest of the group."""
    groups: list[tuple[str, list[Judgement]]] = []
    for judgement in sorted(judgements, key=lambda one: (_since(one), one.key)):
        if groups and same_change(groups[-1][0], _since(judgement), records):
            groups[-1][1].append(judgement)
        else:
            groups.append((_since(judgement), [judgement]))
    return groups


def _alert_of_change(alerts: list[Alert], night: JudgedRun, since: str, service: str) -> Alert | None:
    """Return the open or accepted alert that speaks of the same change of the same service."""
    for alert in alerts:
        current = alert.status is not SeriesStatus.CLOSED or alert.closing is Closing.ACCEPTED
        if (
            current
            and (alert.lab, alert.job, alert.service) == (night.record.lab, night.record.job, service)
            and same_change(alert.since, since, night.records)
        ):
            return alert
    return None


def _new_alert(night: JudgedRun, since: str, good: str | None, service: str, group: list[Judgement]) -> Alert:
    run = night.record
    before = night.records.get(good) if good else None
    after = night.records.get(since)
    return Alert(
        id=_digest(run.lab, run.job, since, service, run.run_id),
        lab=run.lab,
        job=run.job,
        service=service,
        since=since,
        last_good=good,
        opened=run.run_id,
        series=tuple(_moved(judgement, night) for judgement in group),
        changes=revision_changes(before, after) if before is not None and after is not None else (),
        code_known=before is not None and after is not None,
    )


def _moved(judgement: Judgement, night: JudgedRun) -> MovedSeries:
    return MovedSeries(
        key=judgement.key,
        joined=night.record.run_id,
        since=_since(judgement),
        effect=judgement.effect,
        low=judgement.low,
        high=judgement.high,
        q_value=judgement.q_value,
        mde=judgement.mde,
        baseline_location=judgement.baseline_location,
        location=judgement.location,
        kind=judgement.kind,
        confirmation=judgement.confirmation,
        level=judgement.level,
    )


def _changed_projects(good: str | None, since: str, records: Mapping[str, RunRecord]) -> frozenset[str]:
    if good is None or since not in records:
        return frozenset()
    return frozenset(project(change.service) for change in revision_changes(records[good], records[since]))


def _regressions(night: JudgedRun) -> Iterable[Judgement]:
    return (one for one in night.judgements if one.outcome is Outcome.REGRESSION)


def _improvements(state: AlertState, night: JudgedRun) -> tuple[Notification, ...]:
    """Tell of improvements that are not the end of an alert, once for each change."""
    held = {series.key for alert in state.alerts for series in alert.series}
    better = sorted(
        (one for one in night.judgements if one.outcome is Outcome.IMPROVEMENT and one.key not in held),
        key=lambda one: one.key,
    )
    run = night.record
    return tuple(
        Notification(
            id=f"improvement-{_digest(run.lab, run.job, since)}",
            kind=NotificationKind.IMPROVEMENT,
            audience=Audience.JOB,
            lab=run.lab,
            job=run.job,
            run_id=run.run_id,
            judgements=tuple(members),
        )
        for since, members in _changes(better, night.records)
    )


def _closed(alert: Alert, run_id: str) -> Notification:
    return _notification(NotificationKind.CLOSED, alert, run_id)


def _notification(kind: NotificationKind, alert: Alert, run_id: str) -> Notification:
    return Notification(
        id=f"{kind}-{alert.id}",
        kind=kind,
        audience=Audience.JOB,
        lab=alert.lab,
        job=alert.job,
        run_id=run_id,
        alert=alert,
    )


def _is_open(alert: Alert, run: RunRecord) -> bool:
    return alert.status is not SeriesStatus.CLOSED and (alert.lab, alert.job) == (run.lab, run.job)


def _since(judgement: Judgement) -> str:
    return judgement.since or judgement.run_id


def _with(state: AlertState, alert: Alert) -> AlertState:
    return replace(state, alerts=tuple(alert if old.id == alert.id else old for old in state.alerts))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]
