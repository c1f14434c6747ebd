"""From archive, index and alerts to what the pages show."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from perfci.alerts.model import Closing
from perfci.analysis.noise_trend import noise_growth
from perfci.analysis.settings import AnalysisSettings
from perfci.files import locked, remove_folder
from perfci.pages import INDEX
from perfci.report.model import (
    AlertAtRun,
    Canary,
    Mark,
    PageTone,
    ReportedFailure,
    ReportedStage,
    RunReport,
    SiteData,
    StoredRun,
    with_usual_canaries,
)
from perfci.report.points import NumbersCache, TrendRun, noise_tracks, run_numbers, trends
from perfci.report.site import write
from perfci.report.svg import RUNS_SHOWN
from perfci.results.dataplane import is_on_hardware
from perfci.results.errors import ResultFileError
from perfci.results.model import FINISHED, Purpose
from perfci.results.validity import comparable
from perfci.runs.publish.alert_summaries import alert_summaries
from perfci.runs.publish.calibration_store import read_calibration
from perfci.runs.publish.pairs_shown import pairs_shown
from perfci.runs.publish.retention import kept_runs
from perfci.runs.publish.suspect_store import kept_suspects
from perfci.runs.state.archive import run_folders
from perfci.runs.verdicts.judge import HISTORY_RUNS
from perfci.runs.verdicts.judgement_store import judged_runs, judgement_digests, read_judgements
from perfci.wording import change

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from perfci.alerts.model import Alert
    from perfci.analysis.calibration import SeriesCalibration
    from perfci.analysis.noise_trend import Growth
    from perfci.analysis.types import Judgement
    from perfci.database.engine import Database
    from perfci.report.points import RunNumbers, SeriesTrend
    from perfci.results.canaries import NodeCanaries
    from perfci.results.model import RunRecord, SeriesKey
    from perfci.runs.state.archived_run import ArchivedRun
    from perfci.runs.verdicts.lab_services import LabServices

_USUAL_RUNS = 40
"""So many earlier runs are looked at for what canaries usually take."""
T = TypeVar("T")


def write_site(services: LabServices, *, afresh: bool = False) -> Path:
    """Write the pages, and return the first one. What is there as it should be is left alone.

    `afresh`: as if there were no pages yet, and nothing remembered for them. Raises OSError,
    IndexUnavailable and JudgementDamaged.
    """
    with locked(services.state.pages_lock):
        if afresh:
            remove_folder(services.state.site)
            remove_folder(services.state.page_numbers)
        _write(services)
    return services.state.site / INDEX


def _write(services: LabServices) -> None:
    alerts = services.alerts.load().alerts
    indexed = _indexed(services)
    records = _archived(services, indexed)
    kept = kept_runs(records.values(), alerts)
    judgements = lru_cache(maxsize=1)(partial(read_judgements, services.database))
    latest = {
        key: one for run_id in _newest_judged(services, records) for key, one in _by_key(judgements(run_id))
    }
    series = tuple(shown_trends(services, records))
    write(
        services.state.site,
        SiteData(
            runs=_Runs(services, records, kept, alerts, judgements).stored(indexed),
            series=series,
            judgements=latest,
            marks=tuple(_marks(alerts, latest)),
            calibrations=_calibrations(services, records.values()),
            growing=noise_growth(noise_tracks(series), AnalysisSettings()),
            alerts=tuple(alert_summaries(services, alerts, latest, records, indexed)),
            codes={one.code.digest: one.code for one in records.values()},
        ),
    )


def _indexed(services: LabServices) -> dict[str, RunRecord]:
    local = services.local
    return {one.run_id: one for lab, job in local.jobs() for one in local.records(lab, job)}


def _archived(services: LabServices, indexed: Mapping[str, RunRecord]) -> dict[str, RunRecord]:
    """Return the records of all archived runs by id, oldest first: from the index, else from the archive."""
    found = {}
    for folder in run_folders(services.state.archive):
        record = indexed.get(folder.name)
        found[folder.name] = services.archived(folder.name).record if record is None else record
    return found


def _newest_judged(services: LabServices, records: Mapping[str, RunRecord]) -> list[str]:
    """Return the newest judged run of each job: a valid one, as an unfit lab says nothing new of a series."""
    jobs: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    judged = judged_runs(services.database, records)
    for one in records.values():
        if one.status == FINISHED and one.run_id in judged:
            jobs[one.lab, one.job].append(one)
    return [max(runs, key=lambda one: (one.validity.valid, one.run_id)).run_id for runs in jobs.values()]


def _by_key(judgements: Iterable[Judgement]) -> list[tuple[SeriesKey, Judgement]]:
    return [(one.key, one) for one in judgements]


class _Runs:
    """The runs that have pages, each read only where its page has to be made."""

    def __init__(
        self,
        services: LabServices,
        records: Mapping[str, RunRecord],
        kept: Collection[str],
        alerts: Sequence[Alert],
        judgements: Callable[[str], tuple[Judgement, ...]],
    ) -> None:
        self._services, self._records, self._kept, self._alerts = services, records, kept, alerts
        self._judgements = judgements
        self._headlines = {one.id: one.headline for one in alerts}
        self._usual = lru_cache(maxsize=2 * _USUAL_RUNS)(self._canaries_of)
        self._before: dict[str, RunRecord] = {}
        self._earlier: dict[str, list[str]] = {}
        seen: dict[tuple[str, str], RunRecord] = {}
        of_lab: dict[str, list[str]] = defaultdict(list)
        for one in records.values():
            if (one.lab, one.job) in seen:
                self._before[one.run_id] = seen[one.lab, one.job]
            seen[one.lab, one.job] = one
            of_lab[one.lab].append(one.run_id)
            self._earlier[one.run_id] = of_lab[one.lab][-_USUAL_RUNS - 1 :]

    def stored(self, indexed: Collection[str]) -> tuple[StoredRun, ...]:
        """Return them, oldest first. `indexed` are those whose measurements are in the index."""
        judged = judgement_digests(self._services.database, self._kept)
        return tuple(
            StoredRun(
                run_id,
                "|".join(map(str, (judged.get(run_id), run_id in indexed, *self._around(run_id)))),
                partial(self._report, run_id),
            )
            for run_id in sorted(self._kept)
        )

    def _around(self, run_id: str) -> Iterator[object]:
        """Yield what the page of a run shows that is not its own."""
        before = self._before.get(run_id)
        yield before and (before.run_id, before.run_id in self._kept, before.code.digest)
        for alert in self._alerts:
            if concerns(alert, self._records[run_id]):
                # A later end of an alert changes nothing on the page of this run.
                headline = self._headlines[alert.id]
                yield (
                    alert.id,
                    alert.since,
                    alert.opened,
                    alert.closed == run_id,
                    headline.key,
                    headline.effect,
                )
            if alert.opened == run_id:
                yield kept_suspects(self._services.state.root, alert.id)

    def _report(self, run_id: str) -> RunReport:
        services, record = self._services, self._records[run_id]
        run = services.archived(run_id)
        judgements = self._judgements(run_id)
        report = report_of(services.database, services.state.root, run, self._alerts, judgements)
        earlier = [self._usual(one) for one in self._earlier[run_id] if one != run_id]
        before = self._before.get(run_id)
        return replace(
            with_usual_canaries((*earlier, report))[-1],
            measurements=services.local.measurements([record]),
            versions={**run.document.get("versions", {})},
            before=before,
            before_has_page=before is not None and before.run_id in self._kept,
            paired=pairs_shown(run),
        )

    def _canaries_of(self, run_id: str) -> RunReport:
        run = self._services.archived(run_id)
        return RunReport(
            run.record, canaries=_canaries(_readable(lambda: run.canaries)), failure=_failure(run.failure)
        )


def shown_trends(services: LabServices, records: Mapping[str, RunRecord]) -> Iterator[SeriesTrend]:
    """Yield the series of all jobs through their last runs; one that is no longer measured is shown, too."""
    cache = NumbersCache(services.state.page_numbers)
    jobs: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for one in records.values():
        if one.status == FINISHED:
            jobs[one.lab, one.job].append(one)
    used: set[str] = set()
    for mine in jobs.values():
        shown = mine[-RUNS_SHOWN:]
        yield from _job_trends(services, cache, shown, comparable(mine[-HISTORY_RUNS:]))
        used.update(one.run_id for one in shown)
    cache.forget_others(used)


def growing_noise(services: LabServices, record: RunRecord) -> tuple[Growth, ...]:
    """Return the series of a run's job whose noise grows, as of that run, the worst first.

    Raises IndexUnavailable.
    """
    records = services.local.records(record.lab, record.job, until=record.run_id, limit=HISTORY_RUNS)
    cache = NumbersCache(services.state.page_numbers)
    series = tuple(_job_trends(services, cache, records, comparable(records)))
    return noise_growth(noise_tracks(series), AnalysisSettings())


def _job_trends(
    services: LabServices,
    cache: NumbersCache,
    records: Sequence[RunRecord],
    places: Mapping[str, tuple[str, bool]],
) -> Iterator[SeriesTrend]:
    runs = [
        TrendRun(
            one.run_id,
            places[one.run_id][0],
            one.code.digest,
            places[one.run_id][1],
            one.reference,
            one.validity.pairs_only,
        )
        for one in records
    ]
    return trends(runs, [_numbers(services, cache, one) for one in records])


def _numbers(services: LabServices, cache: NumbersCache, record: RunRecord) -> RunNumbers:
    found = cache.read(record.run_id)
    if found is None:
        found = run_numbers(services.local.measurements([record]))
        if len(found.keys):  # a run that is not indexed yet has none, and will have
            with suppress(OSError):  # it costs time next night, and nothing else
                found = cache.keep(record.run_id, found)
    return found


def report_of(
    database: Database,
    state: Path,
    run: ArchivedRun,
    alerts: Sequence[Alert],
    judgements: tuple[Judgement, ...] | None = None,
) -> RunReport:
    """Return everything about one archived run that people look at. `judgements` are its own, if known.

    Raises ArchiveError where run.json can't be read, and JudgementDamaged.
    """
    document, record = run.document, run.record
    judged = read_judgements(database, record.run_id) if judgements is None else judgements
    return RunReport(
        record=record,
        stages=tuple(
            ReportedStage(one["name"], one["seconds"], one["ok"]) for one in document.get("stages", [])
        ),
        judgements=judged,
        canaries=_canaries(_readable(lambda: run.canaries)),
        failure=_failure(run.failure),
        alerts=tuple(_alerts_at(record, alerts, judged)),
        curves=_readable(lambda: run.curves),
        swept=_readable(lambda: [*run.leftovers.values()]),
        rates=_readable(lambda: run.rates),
        on_hardware=is_on_hardware(document["environment"].get("facts") or {}),
        suspects=tuple(
            found
            for alert in alerts
            if alert.opened == record.run_id and (found := kept_suspects(state, alert.id)) is not None
        ),
    )


def concerns(alert: Alert, record: RunRecord) -> bool:
    """Tell whether a night of an alert's job lies between the first slow run and the end of the alert."""
    return (
        record.purpose is Purpose.NIGHT
        and (alert.lab, alert.job) == (record.lab, record.job)
        and alert.since <= record.run_id
        and (alert.closed is None or record.run_id <= alert.closed)
    )


def _alerts_at(
    record: RunRecord, alerts: Sequence[Alert], judgements: Iterable[Judgement]
) -> Iterator[AlertAtRun]:
    """Yield the alerts that concern a run, the oldest first, with the size that the run shows."""
    mine = [(alert, alert.headline) for alert in alerts if concerns(alert, record)]
    wanted = {headline.key for _, headline in mine}
    moved = {one.key: one.effect for one in judgements if one.key in wanted and one.since is not None}
    for alert, headline in sorted(mine, key=lambda one: (one[0].since, one[0].id)):
        ending = str(alert.closing or Closing.FIXED) if alert.closed == record.run_id else ""
        effect = moved.get(headline.key, headline.effect)
        yield AlertAtRun(alert.id, headline.key, effect, alert.since, alert.opened, ending)


def _failure(found: dict[str, Any] | None) -> ReportedFailure | None:
    if found is None:
        return None
    return ReportedFailure(
        stage=found["stage"],
        failure_class=found["class"],
        error=found["message"],
        source=found["source"],
        excerpt=found["excerpt"],
        advice=found["help"],
    )


def _canaries(nodes: Sequence[NodeCanaries]) -> tuple[Canary, ...]:
    return tuple(
        Canary(node.node, name, node.before.get(name), node.after.get(name))
        for node in nodes
        for name in sorted({*node.before, *node.after})
    )


def _readable(read: Callable[[], Iterable[T]]) -> tuple[T, ...]:
    """Return what is in a file of a run; nothing where it is damaged."""
    try:
        return tuple(read())
    except ResultFileError:
        return ()


def _calibrations(services: LabServices, records: Iterable[RunRecord]) -> dict[SeriesKey, SeriesCalibration]:
    """Return what each series can show, as far as it was calibrated in the environment of its last run."""
    last = {(one.lab, one.job): one.environment for one in records}
    found = (read_calibration(services.database, lab, job) for lab, job in sorted(last))
    return {
        series.key: series
        for one in found
        if one is not None and one.environment == last[one.lab, one.job]
        for series in one.series
    }


def _marks(alerts: Sequence[Alert], latest: Mapping[SeriesKey, Judgement]) -> Iterator[Mark]:
    """Return where changes began and ended. One that lasts has the size that is known by now."""
    for alert in alerts:
        for series in alert.series:
            now = latest.get(series.key)
            lasts = alert.closed is None and now is not None and now.since == series.since
            effect = now.effect if lasts and now is not None else series.effect
            yield Mark(series.key, series.since, change(effect, series.key.metric), PageTone.BAD)
            if alert.closed is not None:
                ended = str(alert.closing or Closing.FIXED)
                yield Mark(series.key, alert.closed, ended, PageTone.GOOD)
