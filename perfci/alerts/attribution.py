"""Which code changed, and which service a series that moved belongs to. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.alerts.model import RevisionChange, certain
from perfci.results.model import COUNTERS, FINISHED, TOTAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from perfci.analysis.types import Judgement
    from perfci.results.model import RunRecord, SeriesKey

PROJECTS = ("keystone", "placement", "glance", "nova", "neutron", "cinder", "swift", "heat", "octavia")
_DATA_PLANE = "DataPlane."
"""How the names of scenarios begin that measure what packets feel."""
_MERGED_RUNS = 3
"""How many runs apart the start of one change may be estimated for two series."""


def revision_changes(before: RunRecord, after: RunRecord) -> tuple[RevisionChange, ...]:
    """Return the services whose code differs between two runs, by name."""
    old = {service.service: service for service in before.code.services}
    new = {service.service: service for service in after.code.services}
    return tuple(
        RevisionChange(name, old.get(name), new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def project(service: str) -> str:
    """Return the project that a name speaks of: `neutron` for `neutron-api` and `NeutronNetworks`."""
    lowered = service.lower()
    return next((name for name in PROJECTS if name in lowered), lowered.partition("-")[0].partition(".")[0])


def last_good(judgement: Judgement, since: str, records: Mapping[str, RunRecord]) -> str | None:
    """Return the newest valid run before the change in the baseline's environment; None where none is known.

    The baseline itself may end earlier: the runs that are held against it can begin before the change does.
    """
    known = [run for run in judgement.baseline if run < since and run in records]
    if not known:
        return None
    here = records[max(known)]
    place = (here.lab, here.job, here.environment)
    fit = (
        run
        for run, one in records.items()
        if run < since and one.validity.valid and one.status == FINISHED
        if (one.lab, one.job, one.environment) == place
    )
    return max(fit, default=max(known))


def same_change(one: str, other: str, records: Mapping[str, RunRecord]) -> bool:
    """Tell whether two estimates of where a change began can be the same change.

    They can if they name the same run, or runs close to each other with the same code in between:
    the code at the earlier one is then the code at the later one, so nothing new came with it.
    """
    first, last = sorted((one, other))
    if first == last:
        return True
    if first not in records or last not in records:
        return False
    here = records[first]
    between = [
        record
        for run, record in records.items()
        if first <= run <= last and (record.lab, record.job) == (here.lab, here.job)
    ]
    return len(between) <= _MERGED_RUNS and {record.code.digest for record in between} == {here.code.digest}


def blamed(judgement: Judgement, moved: Iterable[Judgement], changed: frozenset[str]) -> str:
    """Return the project to blame for one series, given what moved with it and which projects' code changed.

    With one changed project it is that one. With several it is the series' own if that changed, else
    the changed one whose series moved most clearly. With none it is the series' own.
    """
    if len(changed) == 1:
        return next(iter(changed))
    moved = tuple(moved)
    own = _own_project(judgement.key, moved)
    if not changed or own in changed:
        return own
    candidates = [other for other in moved if _own_project(other.key, moved) in changed]
    return _own_project(min(candidates, key=_clarity).key, moved) if candidates else own


def _own_project(key: SeriesKey, moved: tuple[Judgement, ...]) -> str:
    """Return the project that a series names; a whole iteration's is that of its clearest action."""
    if key.scenario.startswith(_DATA_PLANE) and key.metric not in COUNTERS:
        return "neutron"  # whose agents wire it; paths have names of their own
    if key.metric in COUNTERS:
        return project(key.action)
    if key.action != TOTAL:
        return project(key.action)
    actions = [
        other
        for other in moved
        if (other.key.scenario, other.key.arguments) == (key.scenario, key.arguments)
        and other.key.metric is key.metric
        and other.key.action != TOTAL
    ]
    return project(min(actions, key=_clarity).key.action) if actions else project(key.scenario)


def _clarity(judgement: Judgement) -> tuple[float, SeriesKey]:
    return (-certain(judgement), judgement.key)
