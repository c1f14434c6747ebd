"""Alerts as the pages show them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from perfci.alerts.model import SeriesStatus, felt_first
from perfci.report.model import AlertSummary, DistributionPair, MovedRow, ServiceChange
from perfci.results.model import Metric
from perfci.runs.publish.bisect_store import kept_bisect
from perfci.runs.publish.suspect_store import kept_suspects
from perfci.wording import MISSING, rerun_verdict, revision_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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
) -> Iterator[AlertSummary]:
    """Yield alerts with their evidence. One that lasts has the size that is known by now."""
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
            distributions=tuple(_distributions(services, alert, records)),
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


def _distributions(
    services: LabServices, alert: Alert, records: Mapping[str, RunRecord]
) -> Iterator[DistributionPair]:
    """Yield the clearest timings with their iterations in the last good and the first slow run."""
    ends = [records[one] for one in (alert.last_good, alert.since) if one and one in records]
    if len(ends) < 2:  # noqa: PLR2004
        return
    timings = [one.key for one in sorted(alert.series, key=felt_first) if one.key.metric is Metric.SECONDS]
    for key in timings[:_COMPARED]:
        found = {one.run_id: one.values for one in services.local.measurements(ends, key)}
        before, after = (found.get(one.run_id) for one in ends)
        if before and after:
            yield DistributionPair(key, before, after)
