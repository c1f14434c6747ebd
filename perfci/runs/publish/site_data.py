"""From archive, index and alerts to what the pages show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from perfci.alerts.model import Closing, SeriesStatus
from perfci.analysis.noise_trend import growing
from perfci.analysis.settings import AnalysisSettings
from perfci.pages import INDEX
from perfci.report.model import (
    AlertSummary,
    Canary,
    Mark,
    PageTone,
    ReportedFailure,
    ReportedStage,
    RunReport,
    SiteData,
    with_usual_canaries,
)
from perfci.report.site import write
from perfci.results.dataplane import is_on_hardware
from perfci.results.errors import ResultFileError
from perfci.results.validity import comparable
from perfci.runs.publish.calibration_store import read_calibration
from perfci.runs.publish.suspect_store import kept_suspects
from perfci.runs.state.archive import run_folders
from perfci.runs.verdicts.judge import series_histories
from perfci.runs.verdicts.judgement_store import read_judgements
from perfci.wording import MISSING, change, revision_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from perfci.alerts.model import Alert, MovedSeries, RevisionChange
    from perfci.analysis.calibration import SeriesCalibration
    from perfci.analysis.types import Judgement, SeriesHistory
    from perfci.database.engine import Database
    from perfci.results.canaries import NodeCanaries
    from perfci.results.model import SeriesKey
    from perfci.runs.state.archived_run import ArchivedRun
    from perfci.runs.verdicts.lab_services import LabServices

_SHOWN_RUNS = 90
T = TypeVar("T")


def write_site(controller: LabServices) -> Path:
    """Write all pages anew, and return the first one. Pages that did not change are left alone."""
    alerts = controller.alerts.load().alerts
    folders = run_folders(controller.state.archive)[-_SHOWN_RUNS:]
    # One after the other, so that what a run measured is not held once its page is known.
    runs = with_usual_canaries(
        report_of(controller.database, controller.state.root, controller.archived(folder.name), alerts)
        for folder in folders
    )
    histories = tuple(_histories(controller, runs))
    latest = _latest(runs)
    write(
        controller.state.site,
        SiteData(
            runs=runs,
            histories=histories,
            judgements=latest,
            marks=tuple(_marks(alerts, latest)),
            calibrations=_calibrations(controller, runs),
            growing=growing(histories, AnalysisSettings()),
            alerts=tuple(_summaries(alerts, latest)),
        ),
    )
    return controller.state.site / INDEX


def report_of(database: Database, state: Path, run: ArchivedRun, alerts: Sequence[Alert]) -> RunReport:
    """Return everything about one archived run that people look at.

    Raises ArchiveError where run.json can't be read, and JudgementDamaged.
    """
    document, record = run.document, run.record
    return RunReport(
        record=record,
        stages=tuple(
            ReportedStage(one["name"], one["seconds"], one["ok"]) for one in document.get("stages", [])
        ),
        judgements=read_judgements(database, record.run_id),
        canaries=_canaries(_readable(lambda: run.canaries)),
        failure=_failure(run.failure),
        alerts=tuple(alert.id for alert in alerts if alert.opened == record.run_id),
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


def _histories(controller: LabServices, runs: Sequence[RunReport]) -> Iterator[SeriesHistory]:
    """Return the series of each job through its last runs; one that is no longer measured is shown too."""
    for lab, job in sorted({(run.record.lab, run.record.job) for run in runs}):
        records = controller.local.records(lab, job, limit=_SHOWN_RUNS)
        yield from series_histories(controller, records, comparable(records))


def _calibrations(controller: LabServices, runs: Sequence[RunReport]) -> dict[SeriesKey, SeriesCalibration]:
    """Return what each series can show, as far as it was calibrated in the environment of its last run."""
    last = {(run.record.lab, run.record.job): run.record.environment for run in runs}
    found = (read_calibration(controller.database, lab, job) for lab, job in sorted(last))
    return {
        series.key: series
        for one in found
        if one is not None and one.environment == last[one.lab, one.job]
        for series in one.series
    }


def _latest(runs: Sequence[RunReport]) -> dict[SeriesKey, Judgement]:
    latest: dict[SeriesKey, Judgement] = {}
    for run in sorted(runs, key=lambda one: one.record.run_id):
        latest.update({judgement.key: judgement for judgement in run.judgements})
    return latest


def _summaries(alerts: Sequence[Alert], latest: Mapping[SeriesKey, Judgement]) -> Iterator[AlertSummary]:
    """Return alerts for the overview. One that lasts has the size that is known by now."""
    for alert in alerts:
        moved = alert.headline
        now = latest.get(moved.key)
        size: MovedSeries | Judgement = moved
        if alert.closed is None and now is not None and now.since is not None:
            size = now
        yield AlertSummary(
            id=alert.id,
            since=alert.since,
            opened=alert.opened,
            key=moved.key,
            effect=size.effect,
            before=size.baseline_location,
            after=size.after,
            series=len(alert.series),
            changes=tuple(_revisions(one) for one in alert.changes),
            code_known=alert.code_known,
            acknowledged=alert.status is SeriesStatus.ACKNOWLEDGED,
            closed=alert.closed,
            ending=str(alert.closing or ""),
        )


def _revisions(one: RevisionChange) -> str:
    before, after = (revision_name(side) if side else MISSING for side in (one.before, one.after))
    return f"{one.service}: {before} → {after}"


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
