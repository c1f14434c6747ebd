"""The page of one alert, where its mail leads: what changed, before and after, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from perfci import pages, wording
from perfci.report.bisect_picture import bisect_picture
from perfci.report.distribution import overlay, quantile_shifts
from perfci.report.rendered import rendered

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from perfci.report.model import AlertBisect, AlertSummary


def alert_page(alert: AlertSummary, shown: Collection[str], scenarios: Collection[str]) -> dict[str, str]:
    """Return the page of an alert. `shown` are the runs that have pages, `scenarios` the scenarios' pages."""
    evidence = alert.evidence()
    beside = any(one.paired for one in evidence.distributions)
    names = ("reference", "code under test") if beside else ("before", "after")
    pairs = [
        {
            "key": one.key,
            # The picture escapes what it is given.
            "picture": Markup(overlay(one.before, one.after, one.key.metric, names)),  # noqa: S704
            "shifts": quantile_shifts(one.before, one.after),
        }
        for one in evidence.distributions
    ]
    projects = [one.service for one in alert.changes]
    suspects = alert.suspects.rows if alert.suspects else ()
    html = rendered(
        "alert.html.j2",
        root="../",
        alert=alert,
        names=names,
        beside=beside,
        pairs=pairs,
        evidence=evidence,
        several=wording.several_arguments(one.key for one in alert.moved),
        shown=shown,
        scenarios=scenarios,
        bisects=list(_bisects(alert.bisect)),
        suspects=sorted(suspects, key=lambda row: -row.share),
        fixed=(suspects[0].project if suspects else projects[0] if projects else "neutron"),
    )
    return {pages.alert_page(alert.id): html}


def _bisects(found: AlertBisect | None) -> Iterator[dict[str, object]]:
    """Yield a bisect and the one within it, each with its picture."""
    while found is not None:
        # The picture escapes what it is given.
        yield {"found": found, "picture": Markup(bisect_picture(found))}  # noqa: S704
        found = found.inside
