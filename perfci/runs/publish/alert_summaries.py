"""Alerts as the pages show them."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from perfci.alerts.fix import found_fix
from perfci.alerts.model import Closing, SeriesStatus, felt_first
from perfci.report.model import (
    AlertEvidence,
    AlertFix,
    AlertSummary,
    DistributionPair,
    MovedRow,
    ServiceChange,
)
from perfci.results.errors import ResultFileError
from perfci.results.model import Metric
from perfci.results.pairs import is_paired
from perfci.results.validity import comparable
from perfci.runs.publish.bisect_store import kept_bisect
from perfci.runs.publish.suspect_store import kept_suspects
from perfci.runs.verdicts.judge import HISTORY_RUNS, histories_of
from perfci.wording import MISSING, rerun_verdict, revision_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from perfci.alerts.model import Alert, MovedSeries, RevisionChange
    from perfci.analysis.types import Judgement
    from perfci.results.model import RunRecord, SeriesKey
    from perfci.runs.verdicts.lab_services import LabServices

_COMPARED = 3
"""So many timings of an alert are laid over each other, before and after."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_COMPARING = ("https://opendev.org/", "https://github.com/")
"""Where a page compares two commits."""


def alert_summaries(
    services: LabServices,
    alerts: Sequence[Alert],
    latest: Mapping[SeriesKey, Judgement],
    records: Mapping[str, RunRecord],
    indexed: Collection[str],
) -> Iterator[AlertSummary]:
    """Yield alerts. One that lasts has the size that is known by now; `indexed` are the runs in the index."""
    for alert in alerts:
        leading = alert.headline
        size = _size(alert, leading, latest)
        yield AlertSummary(
            id=alert.id,
            since=alert.since,
            opened=alert.opened,
            key=leading.key,
            effect=size.effect,
            before=size.baseline_location,
            after=size.after,
            series=len(alert.series),
            changes=tuple(map(_change, alert.changes)),
            code_known=alert.code_known,
            acknowledged=alert.status is SeriesStatus.ACKNOWLEDGED,
            looked_into_by=alert.looked_into_by,
            closed=alert.closed,
            ending=str(alert.closing or ""),
            last_good=alert.last_good,
            moved=tuple(
                _moved(one, _size(alert, one, latest)) for one in sorted(alert.series, key=felt_first)
            ),
            suspects=kept_suspects(services.state.root, alert.id),
            bisect=kept_bisect(services.state.root, alert.id),
            seconds=None if alert.closed else _seconds_of(services, alert, records).get(leading.key),
            evidence=partial(_evidence, services, alert, records),
            evidence_from=repr(
                [
                    (one, one in records, one in indexed)
                    for one in (alert.last_good, alert.since, alert.opened, alert.closed)
                ]
            ),
        )


def _size(alert: Alert, one: MovedSeries, latest: Mapping[SeriesKey, Judgement]) -> MovedSeries | Judgement:
    now = latest.get(one.key)
    return now if alert.closed is None and now is not None and now.since is not None else one


def _moved(one: MovedSeries, size: MovedSeries | Judgement) -> MovedRow:
    return MovedRow(
        one.key, size.effect, size.low, size.high, size.baseline_location, size.after, size.q_value, size.mde,
        rerun_verdict(one.confirmation, one.key.metric) if one.confirmation else "",
    )  # fmt: skip


def _change(one: RevisionChange) -> ServiceChange:
    before, after = (revision_name(side) if side else MISSING for side in (one.before, one.after))
    link = ""
    if one.before and one.after and one.after.source.startswith(_COMPARING):
        ends = (one.before.revision, one.after.revision)
        if ends[0] != ends[1] and all(map(_COMMIT.fullmatch, ends)):
            link = f"{one.after.source.removesuffix('.git')}/compare/{ends[0]}...{ends[1]}"
    return ServiceChange(one.service, before, after, link)


def _evidence(services: LabServices, alert: Alert, records: Mapping[str, RunRecord]) -> AlertEvidence:
    return AlertEvidence(
        tuple(_distributions(services, alert, records)),
        _seconds_of(services, alert, records, every=True),
        _fix(services, alert, records),
    )


def _seconds_of(
    services: LabServices, alert: Alert, records: Mapping[str, RunRecord], *, every: bool = False
) -> dict[SeriesKey, float]:
    """Return the median seconds on the code under test behind an alert's ratios, in the run that opened it.

    Those of its clearest series, or of `every` one.
    """
    record = records.get(alert.opened)
    ratios = [alert.headline, *(alert.series if every else ())]
    wanted = {
        replace(one.key, metric=Metric.SECONDS): one.key for one in ratios if one.key.metric is Metric.RATIO
    }
    if record is None or not wanted:
        return {}
    measured = services.local.measurements([record], None if every else next(iter(wanted)))
    return {wanted[one.key]: median(one.values) for one in measured if one.key in wanted and one.values}


def _distributions(
    services: LabServices, alert: Alert, records: Mapping[str, RunRecord]
) -> Iterator[DistributionPair]:
    """Yield the clearest timings with their iterations before and since the change."""
    ratios = [one.key for one in sorted(alert.series, key=felt_first) if one.key.metric is Metric.RATIO]
    if ratios:
        yield from _beside(services, alert.since, ratios[:_COMPARED])
        return
    ends = [records[one] for one in (alert.last_good, alert.since) if one and one in records]
    if len(ends) < 2:  # noqa: PLR2004
        return
    timings = [one.key for one in sorted(alert.series, key=felt_first) if one.key.metric is Metric.SECONDS]
    for key in timings[:_COMPARED]:
        found = {one.run_id: one.values for one in services.local.measurements(ends, key)}
        before, after = (found.get(one.run_id) for one in ends)
        if before and after:
            yield DistributionPair(key, before, after)


def _beside(services: LabServices, run_id: str, keys: Sequence[SeriesKey]) -> Iterator[DistributionPair]:
    """Yield timings with their iterations on the reference and on the code under test, from the archive."""
    run = services.archived(run_id)
    try:
        series = run.paired.series if is_paired(run.folder) else ()
    except ResultFileError:
        return
    found = {replace(one.key, metric=Metric.RATIO): one for one in series}
    for key in keys:
        if (one := found.get(key)) is not None and one.old_logs:
            old, new = (tuple(map(math.exp, logs)) for logs in (one.old_logs, one.new_logs))
            yield DistributionPair(one.key, old, new, paired=True)


def _fix(services: LabServices, alert: Alert, records: Mapping[str, RunRecord]) -> AlertFix | None:
    """Return which run ended an alert, and with which code; None where it lasts, or the runs do not say."""
    closed = records.get(alert.closed or "")
    if closed is None or alert.closing not in (None, Closing.FIXED):
        return None
    past = services.local.records(closed.lab, closed.job, until=closed.run_id, limit=HISTORY_RUNS)
    if not past:
        return None
    histories = tuple(histories_of(services, {alert.headline.key}, past, comparable(past)))
    fix = found_fix(alert, histories, {one.run_id: one for one in past})
    if fix is None:
        return None
    return AlertFix(fix.run_id, fix.last_bad, tuple(map(_change, fix.changes)), fix.code_known)
