"""Which code changed, and which service a series that moved belongs to. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from perfci.alerts.model import RevisionChange, certain
from perfci.projects import project
from perfci.results.model import COUNTERS, FINISHED, TOTAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from perfci.analysis.types import Judgement
    from perfci.results.model import RunRecord, SeriesKey

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


def last_good(moved: Iterable[Judgement], since: str, records: Mapping[str, RunRecord]) -> str | None:
    """Return the newest valid run before a change in the baselines' environment; None where none is known.

    `moved` are the series that the change has moved. Their baselines may end earlier: the runs that are held
    against them can begin before the change does.
    """
    baselines = {one.baseline for one in moved}
    newest = {max(known) for runs in baselines if (known := [r for r in runs if r < since and r in records])}
    return max((_last_fit(run, since, records) for run in newest), default=None)


def _last_fit(known: str, since: str, records: Mapping[str, RunRecord]) -> str:
    """Return the newest valid run before a change in the environment of a run before it."""
    here = records[known]
    place = (here.lab, here.job, here.environment)
    fit = (
        run
        for run, one in records.items()
        if run < since and one.validity.valid and one.status == FINISHED
        if (one.lab, one.job, one.environment) == place
    )
    return max(fit, default=known)


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


def blame(moved: Iterable[Judgement], changed: frozenset[str]) -> dict[SeriesKey, str]:
    """Return the project to blame for each series, given all that moved and which projects' code changed.

    With one changed project it is that one. With several it is the series' own if that changed, else
    the changed one whose series moved most clearly. With none it is the series' own.
    """
    moved = tuple(moved)
    if len(changed) == 1:
        return dict.fromkeys((one.key for one in moved), next(iter(changed)))
    clearest = _clearest_actions(moved)
    own = {one.key: _own_project(one.key, clearest) for one in moved}
    candidates = [one for one in moved if own[one.key] in changed]
    if not candidates:
        return own
    leading = own[min(candidates, key=_clarity).key]
    return {key: mine if mine in changed else leading for key, mine in own.items()}


def _clearest_actions(moved: Iterable[Judgement]) -> dict[SeriesKey, Judgement]:
    """Return the action that moved most clearly within each whole iteration, by the key of the latter."""
    clearest: dict[SeriesKey, Judgement] = {}
    for one in moved:
        if one.key.action != TOTAL:
            whole = replace(one.key, action=TOTAL)
            if whole not in clearest or _clarity(one) < _clarity(clearest[whole]):
                clearest[whole] = one
    return clearest


def _own_project(key: SeriesKey, clearest: Mapping[SeriesKey, Judgement]) -> str:
    """Return the project that a series names; a whole iteration's is that of its clearest action."""
    if key.scenario.startswith(_DATA_PLANE) and key.metric not in COUNTERS:
        return "neutron"  # whose agents wire it; paths have names of their own
    if key.metric in COUNTERS or key.action != TOTAL:
        return project(key.action)
    return project(clearest[key].key.action if key in clearest else key.scenario)


def _clarity(judgement: Judgement) -> tuple[float, SeriesKey]:
    return (-certain(judgement), judgement.key)
