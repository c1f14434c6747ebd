"""`perfci bisect --due`: the alerts that nobody has bisected yet, one after another, in the nodes' free time.

Once for each alert: what was found is mailed in its thread, and that mail is what says that it is done. A job
has to ask for it (`analysis.bisect`). Whoever wants the nodes gets them at once; the next start goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfci.alerts.mail_sections import is_confirmed
from perfci.alerts.model import SeriesStatus
from perfci.errors import PerfciError
from perfci.runs.publish.notify import deliver, has_bisect, post_bisect
from perfci.runs.publish.site_data import write_site
from perfci.runs.studies.bisect import bisect, keep_found
from perfci.runs.studies.bisect_question import of_alert
from perfci.runs.studies.bisect_told import story_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from perfci.alerts.bisect_story import BisectStory
    from perfci.alerts.model import Alert
    from perfci.runs.state.progress import Progress
    from perfci.runs.verdicts.lab_services import LabServices

LEAST_SUSPECTS = 2
"""With one suspect alone the alert's own mail says all."""


@dataclass(frozen=True, slots=True)
class DueBisect:
    """What became of one alert: its story, or why there is none. `done` says that it is not due any more."""

    alert: str
    story: BisectStory | None = None
    reason: str = ""
    done: bool = False


@dataclass(frozen=True, slots=True)
class DueEnd:
    """What became of all alerts that were due; `stopped` says why the rest has to wait, if it has."""

    found: tuple[DueBisect, ...]
    stopped: str = ""


def due(services: LabServices) -> tuple[Alert, ...]:
    """Return the open alerts of the lab to be bisected, the oldest first: confirmed, and not yet told of."""
    return tuple(
        alert
        for alert in sorted(services.alerts.load().alerts, key=lambda one: (one.opened, one.id))
        if alert.lab == services.settings.lab
        and alert.status is not SeriesStatus.CLOSED
        and any(is_confirmed(one) for one in alert.series)
        and _is_wanted(services, alert)
        and not has_bisect(services, alert)
    )


def _is_wanted(services: LabServices, alert: Alert) -> bool:
    job = services.job(alert.since)
    return job is not None and job.analysis.bisect


def bisect_due(
    services: LabServices, *, holder: str, progress: Progress, until: datetime | None, most_runs: int
) -> DueEnd:
    """Bisect what is due, until nothing is, the time is up, or somebody else wants the nodes."""
    found: list[DueBisect] = []
    stopped = ""
    for alert in due(services):
        progress.say(f"\nalert {alert.id}: {alert.headline.key.label}")
        one, stopped = _one(services, alert, holder, progress, until, most_runs)
        found.append(one)
        if stopped:
            break
    if any(one.story for one in found):
        write_site(services)
    return DueEnd(tuple(found), stopped)


def _one(  # noqa: PLR0917 - one caller
    services: LabServices,
    alert: Alert,
    holder: str,
    progress: Progress,
    until: datetime | None,
    most_runs: int,
) -> tuple[DueBisect, str]:
    """Bisect one alert; also return why the others have to wait, empty where they have not."""
    try:
        asked = of_alert(services, alert.id, most_runs=most_runs)
    except PerfciError as error:
        return DueBisect(alert.id, reason=str(error)), ""
    if len(asked.course.steps) < LEAST_SUSPECTS:
        return DueBisect(alert.id, reason="there is one suspect alone: its mail has it"), ""
    outcome = bisect(services, asked, holder=holder, progress=progress, until=until, gives_way=True)
    story = story_of(outcome)
    keep_found(services, alert, story)
    if not outcome.final:
        stopped = outcome.ended or (outcome.inside.ended if outcome.inside else "")
        return DueBisect(alert.id, story, stopped), stopped
    post_bisect(services, alert, story)
    deliver(services)
    return DueBisect(alert.id, story, done=True), ""


def rows(end: DueEnd) -> Sequence[tuple[str, str]]:
    """Return each alert with what became of it."""
    return [(one.alert, one.story.verdict if one.done and one.story else one.reason) for one in end.found]
