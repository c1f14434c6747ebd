"""Which series of a run are worth re-runs, and between which two revisions.

Asked are the changes that the night's own rules have newly proven, except where those are as good as a
re-run (failure rates and counters that hardly vary), and what is worth a look: what `screen.Screen` finds,
or, as long as it has too few nights, where the latest run alone stands out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from perfci.alerts.lifecycle import process
from perfci.alerts.model import AlertState, JudgedRun, NotificationKind
from perfci.analysis.decision import Decision
from perfci.analysis.level_rule import rule_of
from perfci.analysis.noise import Noise
from perfci.analysis.rerun_verdict import Question, above_floor, ask, is_steady
from perfci.analysis.run_values import run_values
from perfci.analysis.screen import LEAST, SHORT, Screen
from perfci.analysis.sequential_test import Trial, TrialReading
from perfci.analysis.types import Basis, Confirmation, Judgement, Outcome, SeriesHistory
from perfci.results.model import FINISHED, Metric

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from perfci.analysis.noise import Array
    from perfci.analysis.sequential_test import ConfirmSettings
    from perfci.analysis.settings import AnalysisSettings
    from perfci.results.model import RunRecord, SeriesKey
    from perfci.runs.verdicts.confirmation_store import Answer

SCREENED_FROM = LEAST + SHORT
"""Nights from which on `Screen` says which series are worth a look."""
_CHANGED = frozenset({Outcome.REGRESSION, Outcome.IMPROVEMENT})


@dataclass(frozen=True, slots=True, eq=False)
class TimedNights:
    """Timings through the nights that can be compared with the last one, as the screen wants them.

    Only series with enough nights are in it, sorted. `logs` and their `errors` have the shape (series,
    nights), NaN where nothing usable was measured: two numbers for each run of a series, in place of its
    iterations.
    """

    keys: tuple[SeriesKey, ...]
    nights: tuple[str, ...]
    logs: Array
    errors: Array


@dataclass(frozen=True, slots=True)
class Known:
    """All that the suspects of a run follow from.

    `records` are those of its job up to it, oldest first; `places` says of each what it can be compared
    within, and whether it counts (`validity.comparable`). `histories` are those of the series that the
    night's own rules speak of (`looked_into`), `timings` what is screened.
    """

    record: RunRecord
    judgements: tuple[Judgement, ...]
    histories: tuple[SeriesHistory, ...]
    timings: TimedNights
    records: tuple[RunRecord, ...]
    places: Mapping[str, tuple[str, bool]]
    alerts: AlertState
    answers: tuple[Answer, ...]
    analysis: AnalysisSettings
    confirming: ConfirmSettings


@dataclass(frozen=True, slots=True)
class Suspects:
    """What to ask of re-runs, what is answered without any, and the run with the last good code.

    `good` is None where nothing is to be run, or where a paired night has nothing but its reference.
    """

    questions: tuple[Question, ...] = ()
    answered: tuple[tuple[SeriesKey, Confirmation], ...] = ()
    good: RunRecord | None = None


def looked_into(judgements: Sequence[Judgement]) -> set[SeriesKey]:
    """Return the series that the night's own rules may ask about: they changed, or stand out."""
    return {one.key for one in judgements if one.suspect or one.outcome in _CHANGED}


def screened(judgements: Sequence[Judgement]) -> set[SeriesKey]:
    """Return the timings to be screened.

    What has no verdict of its own, as the seconds of what was paired, raises no question.
    """
    return {one.key for one in judgements if one.key.metric is Metric.SECONDS}


def timed_nights(
    histories: Iterable[SeriesHistory], run_ids: Sequence[str], environment: str, analysis: AnalysisSettings
) -> TimedNights:
    """Return what is to be screened of timings, given the runs of the job, oldest first.

    Valid runs in this environment count. The histories are looked at one by one and not kept.
    """
    rule = rule_of(Metric.SECONDS, analysis)
    place = {run_id: number for number, run_id in enumerate(run_ids)}
    there = np.zeros(len(place), dtype=bool)
    rows: dict[SeriesKey, Array] = {}
    for history in histories:
        points = [one for one in history.points if one.valid and one.environment == environment]
        if len(points) < SCREENED_FROM:
            continue
        there[[place[one.run_id] for one in points]] = True
        row = rows[history.key] = np.full((len(place), 2), np.nan)
        for value in run_values(rule, points):
            if value is not None:
                row[place[value.run_id]] = value.log, value.error
    keys = tuple(sorted(rows))
    table = np.array([rows[key] for key in keys]).reshape(len(keys), len(place), 2)[:, there]
    nights = tuple(run_id for run_id, is_there in zip(run_ids, there, strict=True) if is_there)
    return TimedNights(keys, nights, table[:, :, 0], table[:, :, 1])


def suspects(known: Known, *, runnable: Callable[[str], bool]) -> Suspects:
    """Return the suspects of a run; `runnable` tells whether an archived run's code can be deployed again."""
    if not known.record.validity.valid:
        return Suspects()
    questions, answered = [], []
    for question in (*_claims(known), *_suspicions(known)):
        answer = _without_runs(known, question)
        if answer is None:
            questions.append(question)
        elif question.claimed:
            answered.append((question.key, answer))
    if not questions:
        return Suspects(answered=tuple(answered))
    first = min(question.since for question in questions)
    good = _last_good(known, first, lambda record: _other_code(known, record) and runnable(record.run_id))
    if good is None and not _has_reference(known.record):
        reason = "no earlier run with other code in this environment can be deployed again"
        answered += [
            (question.key, unasked(known.record, question, Basis.NOTHING, reason))
            for question in questions
            if question.claimed
        ]
        return Suspects(answered=tuple(answered))
    return Suspects(tuple(questions), tuple(answered), good)


def unasked(record: RunRecord, question: Question, basis: Basis, reason: str) -> Confirmation:
    """Return the answer to a question for which nothing was run."""
    return Confirmation(
        Decision.SAME if basis is Basis.SAME_CODE else Decision.UNKNOWN,
        basis,
        reason,
        asked=record.run_id,
        since=question.since,
        worse=question.worse,
        tail=question.tail,
        claimed=question.claimed,
    )


def _claims(known: Known) -> Iterator[Question]:
    """Ask about the changes that would be told tonight and that no re-run has looked at."""
    seen = {
        (answer.key, answer.confirmation.since)
        for answer in known.answers
        if answer.confirmation.decision is Decision.DIFFERENT
    }
    histories = {history.key: history for history in known.histories}
    fresh = _would_be_told(known)
    alarmed = {series.key for alert in known.alerts.alerts if alert.closed is None for series in alert.series}
    paired = {one.key for one in known.judgements if one.key.metric is Metric.RATIO}
    for judgement in sorted(known.judgements, key=lambda one: one.key):
        if judgement.outcome not in _CHANGED or judgement.key.metric is Metric.FAILURE_RATE:
            continue
        if judgement.key not in fresh or (judgement.key, judgement.since) in seen:
            continue
        if judgement.outcome is Outcome.IMPROVEMENT and judgement.key in alarmed | paired:
            continue  # the end of an alert, or what pairs have shown: no re-run changes what is reported
        baseline = _baseline(judgement, histories[judgement.key])
        if is_steady(judgement, baseline, known.analysis):
            continue
        since = judgement.since or judgement.run_id
        question = ask(judgement, baseline, known.analysis, since=since, claimed=True)
        if question is not None:
            yield replace(question, earlier=_earlier(known, question))


def _earlier(known: Known, question: Question) -> tuple[float, ...]:
    """Return what re-runs of other nights, which asked the same and could not tell, add to tonight's."""
    found = [
        answer.log_factors
        for answer in known.answers
        if (answer.key, answer.confirmation.since) == (question.key, question.since)
        and answer.confirmation.decision is Decision.UNKNOWN
        and answer.confirmation.asked < known.record.run_id
        and answer.confirmation.tail == question.tail
        and answer.log_factors
    ]
    return tuple(np.sum(found, axis=0).tolist()) if found else ()


def _would_be_told(known: Known) -> set[SeriesKey]:
    """Return the series of the alerts and improvements that this run would bring, were it told as it is."""
    records = {record.run_id: record for record in known.records}
    _, told = process(known.alerts, JudgedRun(known.record, known.judgements, records))
    alerts = [one.alert for one in told if one.kind is NotificationKind.REGRESSION and one.alert is not None]
    better = [
        one.key for note in told if note.kind is NotificationKind.IMPROVEMENT for one in note.judgements
    ]
    return {series.key for alert in alerts for series in alert.series} | set(better)


def _suspicions(known: Known) -> Iterator[Question]:
    """Ask about what stands out without being proven: timings by screening, the rest by the night's rules."""
    histories = {history.key: history for history in known.histories}
    enough = frozenset(known.timings.keys)
    changed = {one.key for one in known.judgements if one.outcome in {*_CHANGED, Outcome.KNOWN}}
    yield from _suspected(known, changed)
    for judgement in sorted(known.judgements, key=lambda one: one.key):
        level = judgement.key.metric is not Metric.FAILURE_RATE
        if judgement.suspect and level and judgement.key not in enough and _is_slower(judgement):
            baseline = _baseline(judgement, histories[judgement.key])
            question = ask(judgement, baseline, known.analysis, since=judgement.run_id, claimed=False)
            if question is not None:
                yield question


def _is_slower(judgement: Judgement) -> bool:
    now, before = judgement.location, judgement.baseline_location
    if now is None or before is None:
        return False
    return now < before if judgement.key.metric.higher_is_better else now > before


def _suspected(known: Known, left_out: set[SeriesKey]) -> Iterator[Question]:
    """Feed the nights to the screen, with what re-runs have shown, and ask about what it suspects."""
    timings = known.timings
    if not timings.keys:
        return
    numbers = {key: number for number, key in enumerate(timings.keys)}
    nights = timings.nights
    screen = Screen(len(numbers))
    rule = rule_of(Metric.SECONDS, known.analysis)
    for place, night in enumerate(nights):
        screen.add(timings.logs[:, place], timings.errors[:, place])
        for answer in known.answers:
            if answer.confirmation.asked == night and answer.key in numbers:
                _remember(screen, numbers[answer.key], answer, nights[: place + 1])
    for suspicion in screen.suspect(known.confirming):
        key = timings.keys[suspicion.series]
        if key not in left_out:
            since = nights[-min(suspicion.window, len(nights))]
            yield Question(key, since, above_floor(suspicion.trial, rule.floor), rule.floor)


def _remember(screen: Screen, number: int, answer: Answer, nights: Sequence[str]) -> None:
    """Tell the screen what re-runs have answered, as it heard it that night."""
    shown = answer.confirmation
    if not answer.log_factors or shown.tail or not shown.worse:
        return
    trial = Trial(0.0, 1.0, Noise.of(1.0, np.empty(0)), (), answer.old, answer.new)
    screen.remember(number, trial, TrialReading(np.array(answer.log_factors), 0.0, 0.0, 0.0, 0.0, 0.0))
    if shown.decision is Decision.DIFFERENT and shown.effect is not None:
        lasted = sum(night >= shown.since for night in nights)
        screen.relevel(number, lasted, float(np.log1p(shown.effect)))


def _without_runs(known: Known, question: Question) -> Confirmation | None:
    """Answer a question that no re-run can answer, or need not; None for one that is to be run."""
    if _has_reference(known.record):
        return None
    if question.key.metric is Metric.RATIO:
        reason = "this run has the same code as the reference beside it, so the lab differs"
        return unasked(known.record, question, Basis.SAME_CODE, reason)
    good = _last_good(known, question.since, lambda _: True)
    if good is None:
        reason = "no earlier valid run in this environment is known"
        return unasked(known.record, question, Basis.NOTHING, reason)
    if _other_code(known, good):
        return None
    between = {one.code.digest for one in known.records if good.run_id <= one.run_id}
    if len(between) == 1:
        reason = (
            f"it moved between {good.run_id} and {question.since} while code and environment stayed the "
            f"same, so the lab changed"
        )
        return unasked(known.record, question, Basis.SAME_CODE, reason)
    reason = f"this run has the same code as the last good run {good.run_id}, so there is nothing to compare"
    return unasked(known.record, question, Basis.RERUNS, reason)


def _last_good(known: Known, since: str, wanted: Callable[[RunRecord], bool]) -> RunRecord | None:
    """Return the newest valid run before a change in this run's environment that is as wanted."""
    here, _ = known.places[known.record.run_id]
    for record in reversed(known.records):
        fit = known.places[record.run_id] == (here, True) and record.status == FINISHED
        if record.run_id < since and fit and wanted(record):
            return record
    return None


def _has_reference(record: RunRecord) -> bool:
    """Say whether a run had other code beside it, which is what its re-runs compare it with."""
    return record.reference not in {None, record.code.digest}


def _other_code(known: Known, record: RunRecord) -> bool:
    return record.code.digest != known.record.code.digest


def _baseline(judgement: Judgement, history: SeriesHistory) -> list[tuple[float, ...]]:
    wanted = set(judgement.baseline)
    return [tuple(point.values) for point in history.points if point.run_id in wanted]
