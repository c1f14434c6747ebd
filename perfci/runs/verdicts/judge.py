"""From the store's histories to judgements."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from perfci.alerts.lifecycle import accepted_changes, accepted_until
from perfci.analysis.decision import Decision
from perfci.analysis.facts import Facts, facts_as_dict
from perfci.analysis.pairs import LEAST_PAIRS
from perfci.analysis.rerun_verdict import confirmed
from perfci.analysis.types import WORST_FIRST, Judgement, Outcome, RunPoint, SeriesHistory
from perfci.results.errors import CanariesError
from perfci.results.model import Metric, SeriesKey
from perfci.results.validity import comparable
from perfci.runs.verdicts.confirmation_store import by_series, read_answers
from perfci.runs.verdicts.facts_store import keep_facts, known_facts
from perfci.runs.verdicts.verdict_cache import CacheRow, Rules, judge_last

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from perfci.analysis.types import Confirmation
    from perfci.results.canaries import NodeCanaries
    from perfci.results.model import RunRecord
    from perfci.results.stores.local import StoredSample
    from perfci.runs.jobs.procedures import KnownChange
    from perfci.runs.state.archived_run import ArchivedRun
    from perfci.runs.verdicts.lab_services import LabServices

HISTORY_RUNS = 120
CANARY = "canary"
"""The scenario under which the lab's own workloads are series."""
KNOWN_EXIT_CODE = 5
_ORDER = (
    Outcome.REGRESSION,
    Outcome.KNOWN,
    Outcome.IMPROVEMENT,
    Outcome.TOO_NOISY,
    Outcome.INVALID,
    Outcome.NO_DATA,
    Outcome.NO_BASELINE,
    Outcome.NO_CHANGE,
)


def judge_run(controller: LabServices, record: RunRecord) -> tuple[Judgement, ...]:
    """Judge every series of one run against its history; `keep_judgements` keeps the answers.

    What re-runs have shown of this run's suspects, and of those of earlier runs, is part of it, and so is
    what earlier nights have decided. What this night decides is kept for later ones, unless a later night has
    decided already. Raises ConfirmationsUnreadable and FactsUnreadable.
    """
    known = known_facts(controller.database, record)
    # A job without any facts was last judged by a release that kept none: its nights alone say what it knew.
    limit = HISTORY_RUNS if known.before or not known.newest else None
    records = controller.local.records(record.lab, record.job, until=record.run_id, limit=limit)
    answers = read_answers(controller.database, [one.run_id for one in records])
    confirmations = by_series(answers)
    places = comparable(records)
    alerts = controller.alerts.load()
    found, decided = judge_last(
        CacheRow(controller.database, record.lab, record.job),
        records,
        Rules(
            settings=controller.analysis_settings(record),
            accepted=accepted_changes(alerts),
            confirmations=confirmations,
            places=places,
            facts=Facts(known.before, accepted_until(alerts)),
        ),
        series=lambda new: series_histories(controller, new, places),
        canaries=lambda new: canary_histories(controller, new, places),
    )
    if known.newest:
        by_id = {one.run_id: one for one in records}
        for night in decided:
            keep_facts(controller.database, by_id[night.run_id], facts_as_dict(night))
    job = controller.job(record.run_id)
    return tuple(known_changes(_with_reruns(found, confirmations), job.exceptions if job else ()))


def judge_after_reruns(
    controller: LabServices, record: RunRecord, found: tuple[Judgement, ...]
) -> tuple[Judgement, ...]:
    """Judge a run again, now that its re-runs have answers; `found` is what `judge_run` said before them.

    The result is that of `judge_run`. Where no re-run could tell, the nights stand as they are and are not
    read again: in a large lab that is the longest part of a night. Raises as `judge_run`.
    """
    answers = read_answers(controller.database, [record.run_id])
    if any(one.confirmation.decision is not Decision.UNKNOWN for one in answers):
        return judge_run(controller, record)
    by_key = {one.key: one.confirmation for one in answers}
    return tuple(confirmed(one, by_key[one.key]) if one.key in by_key else one for one in found)


def _with_reruns(
    judgements: Iterable[Judgement], confirmations: Mapping[tuple[SeriesKey, str], Confirmation]
) -> Iterable[Judgement]:
    """Return judgements as re-runs leave them; a change that lasts keeps the confirmation it got."""
    proven = {
        (key, one.since): one for (key, _), one in confirmations.items() if one.decision is Decision.DIFFERENT
    }
    for judgement in judgements:
        tonight = confirmations.get((judgement.key, judgement.run_id))
        if tonight is not None:
            yield confirmed(judgement, tonight)
        elif judgement.since is not None:
            yield replace(judgement, confirmation=proven.get((judgement.key, judgement.since)))
        else:
            yield judgement


def known_changes(judgements: Iterable[Judgement], exceptions: Sequence[KnownChange]) -> Iterator[Judgement]:
    """Return judgements as they are, but regressions that the job knows of called so, with their bug."""
    for judgement in judgements:
        known = next((one for one in exceptions if one.covers(judgement.key)), None)
        if known is None or judgement.outcome is not Outcome.REGRESSION:
            yield judgement
        else:
            reason = f"{judgement.reason}; known: {known.bug}"
            yield replace(judgement, outcome=Outcome.KNOWN, reason=reason)


def series_histories(
    controller: LabServices, records: Sequence[RunRecord], places: Mapping[str, tuple[str, bool]]
) -> list[SeriesHistory]:
    """Return all series that some runs of a job measured and that have a verdict, through these runs."""
    return list(_histories(judged(controller.local.samples(records)), records, places))


def histories_of(
    controller: LabServices,
    keys: Collection[SeriesKey],
    records: Sequence[RunRecord],
    places: Mapping[str, tuple[str, bool]],
) -> Iterator[SeriesHistory]:
    """Yield those of some series that the last of these runs measured, through these runs.

    Sorted by series, which are read some at a time: a reader that keeps a few numbers of each needs little
    memory, however many there are.
    """
    for history in _histories(controller.local.samples_of(records, keys), records, places):
        if history.points[-1].run_id == records[-1].run_id:
            yield history


def _histories(
    samples: Iterable[StoredSample], records: Sequence[RunRecord], places: Mapping[str, tuple[str, bool]]
) -> Iterator[SeriesHistory]:
    by_id = {record.run_id: record for record in records}
    for key, same in groupby(samples, key=lambda sample: sample.key):
        yield SeriesHistory(key, tuple(_point(by_id[one.run_id], one, places[one.run_id]) for one in same))


def judged(samples: Iterable[StoredSample]) -> list[StoredSample]:
    """Return the samples that have a verdict: of a timing that has pairs, their ratios speak for it."""
    found = list(samples)
    paired = {
        (replace(one.key, metric=Metric.SECONDS), one.run_id)
        for one in found
        if one.key.metric is Metric.RATIO and len(one.values) >= LEAST_PAIRS
    }
    return [one for one in found if (one.key, one.run_id) not in paired]


def canary_histories(
    controller: LabServices, records: Sequence[RunRecord], places: Mapping[str, tuple[str, bool]]
) -> list[SeriesHistory]:
    """Return each canary of each node through runs of a job, from the archive, as series of the lab."""
    points: dict[SeriesKey, list[RunPoint]] = {}
    for one in records:
        for node in _canaries(controller.archived(one.run_id)):
            for name in sorted({*node.before, *node.after}):
                rounds = (node.before.get(name), node.after.get(name))
                values = tuple(value for value in rounds if value is not None)
                key = SeriesKey(one.lab, one.job, CANARY, node.node, name, Metric.SECONDS)
                points.setdefault(key, []).append(_canary_point(one, values, places[one.run_id]))
    return [SeriesHistory(key, tuple(found)) for key, found in sorted(points.items())]


def _canaries(run: ArchivedRun) -> tuple[NodeCanaries, ...]:
    """Return a run's canaries; none where its archive is elsewhere, or they can't be read."""
    try:
        return run.canaries
    except CanariesError:
        return ()


def _canary_point(record: RunRecord, values: tuple[float, ...], place: tuple[str, bool]) -> RunPoint:
    environment, valid = place
    return RunPoint(
        run_id=record.run_id,
        environment=environment,
        code=record.code.digest,
        values=values,
        attempts=len(values),
        failures=0,
        valid=valid and not record.validity.pairs_only,
    )


def _point(record: RunRecord, sample: StoredSample, place: tuple[str, bool]) -> RunPoint:
    """Return one run of a series. Ratios are compared with those to the same reference alone."""
    environment, valid = place
    paired = sample.key.metric is Metric.RATIO
    return RunPoint(
        run_id=record.run_id,
        environment=f"{environment}, beside {record.reference}" if paired else environment,
        code=record.code.digest,
        values=sample.values,
        attempts=sample.attempts,
        failures=sample.failures,
        valid=valid and (paired or not record.validity.pairs_only),
    )


def summary(judgements: Sequence[Judgement]) -> str:
    """Say in a few words what came out: `2 regression, 40 no change`."""
    count = Counter(judgement.outcome for judgement in judgements)
    return ", ".join(f"{count[outcome]} {outcome}" for outcome in _ORDER if count[outcome])


def verdict(judgements: Sequence[Judgement], *, valid: bool, needed: int) -> str:
    """Return the night's verdict in one phrase: its worst outcome."""
    if not valid:
        return str(Outcome.INVALID)
    outcomes = {judgement.outcome for judgement in judgements}
    for outcome in WORST_FIRST:
        if outcome in outcomes:
            return str(outcome)
    return f"no baseline yet ({needed} runs are needed)" if judgements else str(Outcome.NO_DATA)


def as_json(judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Return judgements for `--json`."""
    return [{**asdict(one), "label": one.key.label} for one in judgements]


def exit_code(judgements: Sequence[Judgement]) -> int:
    """Return 1 where something is slower, 5 where all that is slower is a known exception, else 0."""
    return exit_code_of(one.outcome for one in judgements)


def exit_code_of(outcomes: Iterable[Outcome]) -> int:
    """Return `exit_code`, given only how series were judged, of one night or of several."""
    found = {*outcomes}
    if Outcome.REGRESSION in found:
        return 1
    return KNOWN_EXIT_CODE if Outcome.KNOWN in found else 0
