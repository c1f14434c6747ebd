"""The page of one scenario: its contents, the whole iteration and its actions, and the counters folded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from perfci import pages, wording
from perfci.projects import project
from perfci.report.data_files import ratio_of, scenario_file, service_of
from perfci.report.levels import remembered_changes
from perfci.report.points import MIDDLE, SeriesTrend
from perfci.report.rendered import rendered
from perfci.report.svg import CodeChange, trend
from perfci.results.model import COUNTERS, TOTAL, Metric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.analysis.types import Judgement
    from perfci.report.levels import Remembered
    from perfci.report.model import Mark, SiteData
    from perfci.report.points import TrendRun
    from perfci.results.model import CodeUnderTest, SeriesKey, ServiceRevision

PICTURES_SHOWN = 12
"""So many pictures are on a page itself; the others are in its data file."""
_METRICS = tuple(Metric)


@dataclass(frozen=True, slots=True)
class ScenarioPages:
    """The files of one scenario, and where its levels changed, for the next night."""

    files: dict[str, str]
    levels: dict[str, Remembered]


def scenario_pages(
    series: Sequence[SeriesTrend],
    data: SiteData,
    marks: Mapping[SeriesKey, Sequence[Mark]],
    levels: Mapping[str, Remembered],
) -> ScenarioPages:
    """Return the page of the series of one scenario, in the order of `place`, and its data file.

    `levels` is what an earlier night remembered.
    """
    key = series[0].key
    first = min((int(one.places[0]) for one in series if len(one.places)), default=0)
    codes = _CodeChanges(series[0].runs[first:], data.codes)
    shown: list[dict[str, Any]] = []
    folded: list[dict[str, Any]] = []
    remembered: dict[str, Remembered] = {}
    pictures: dict[str, str] = {}
    for one in (_from(one, first) for one in series):
        name = pages.anchor(one.key)
        judgement = data.judgements.get(one.key)
        moved = judgement is not None and judgement.since is not None
        changes, remembered[name] = remembered_changes(
            one, levels.get(name), judgement.since if judgement else None
        )
        picture = trend(
            one,
            judgement,
            marks.get(one.key, ()),
            changes=changes,
            codes=codes.of(_tested(one.key, series)),
            name=name,
        )
        entry = {**_entry(one, judgement, data), "ratio": _judged_ratio(one.key, judgement, data)}
        if (moved or not _is_folded(one)) and len(shown) < PICTURES_SHOWN:
            # The picture escapes what it is given.
            shown.append({**entry, "picture": Markup(picture)})  # noqa: S704
        else:
            folded.append({**entry, "has_picture": bool(picture)})
            pictures[name] = picture
    page, file = pages.scenario_page(key), pages.scenario_data(key)
    html = rendered(
        "scenario.html.j2", root="../", key=key, shown=shown, folded=folded, data=file.removesuffix(".js")
    )
    job = pages.job_data(key.lab, key.job)
    cropped = [_from(one, first) for one in series]
    files = {page: html, file: scenario_file(file, job, first, cropped, pictures)}
    return ScenarioPages(files, {name: one for name, one in remembered.items() if one})


def place(key: SeriesKey) -> tuple[Any, ...]:
    """Sort key: whole iterations before actions, timings before counters."""
    return (
        key.lab,
        key.job,
        key.scenario,
        key.arguments,
        _METRICS.index(key.metric) if key.metric in COUNTERS else 0,
        key.metric is not Metric.SECONDS,
        key.action != TOTAL,
        key.action,
    )


def _from(one: SeriesTrend, first: int) -> SeriesTrend:
    """Return a series without the runs before the scenario's first one."""
    return SeriesTrend(one.key, one.runs[first:], one.places - first, one.numbers) if first else one


def _is_folded(one: SeriesTrend) -> bool:
    """Tell whether a calm series is folded: a counter, and what has always been zero, such as failures."""
    return one.key.metric in COUNTERS or not (one.measured().numbers[:, MIDDLE] > 0).any()


def _entry(one: SeriesTrend, judgement: Judgement | None, data: SiteData) -> dict[str, Any]:
    gone = judgement is None and bool(len(one.places)) and one.places[-1] < len(one.runs) - 1
    return {
        "key": one.key,
        "anchor": pages.anchor(one.key),
        "judgement": judgement,
        "value": latest_value(one, judgement),
        "last": one.runs[one.places[-1]].run_id if gone else "",
        "calibration": data.calibrations.get(one.key),
    }


def _judged_ratio(key: SeriesKey, judgement: Judgement | None, data: SiteData) -> str:
    """Return the anchor of the ratio that has the verdict of a timing; empty where there is none."""
    ratio = ratio_of(key)
    return pages.anchor(ratio) if judgement is None and ratio is not None and ratio in data.judgements else ""


def latest_value(one: SeriesTrend, judgement: Judgement | None) -> float | None:
    """Return where a series is now: as it was judged, else the middle of its last run; None without one."""
    if judgement is not None and judgement.location is not None:
        return judgement.location
    measured = one.measured().numbers
    return float(measured[-1, MIDDLE]) if len(measured) else None


def _tested(key: SeriesKey, series: Sequence[SeriesTrend]) -> frozenset[str]:
    """Return the projects whose code a series measures: of a whole iteration those of all its actions."""
    own = service_of(key)
    if key.metric in COUNTERS or "." in key.action:
        return frozenset({own})
    actions = (one.key.action for one in series if one.key.metric is Metric.SECONDS and "." in one.key.action)
    return frozenset({own, *map(project, actions)})


class _CodeChanges:
    """Where the code of services is new in a job's runs, found once for all series that test the same."""

    def __init__(self, runs: Sequence[TrendRun], codes: Mapping[str, CodeUnderTest]) -> None:
        self._known = [codes.get(run.code) for run in runs]
        self._digests = [run.code for run in runs]
        self._found: dict[frozenset[str], tuple[CodeChange, ...]] = {}

    def of(self, tested: frozenset[str]) -> tuple[CodeChange, ...]:
        """Return the changes of these projects."""
        if tested not in self._found:
            self._found[tested] = tuple(self._changes(tested))
        return self._found[tested]

    def _changes(self, tested: frozenset[str]) -> list[CodeChange]:
        found = []
        for n in range(1, len(self._digests)):
            if self._digests[n - 1] == self._digests[n]:
                continue
            old, new = self._known[n - 1], self._known[n]
            if old is None or new is None:
                found.append(CodeChange(n, "the code changed"))
                continue
            before, after = (
                {one.service: one for one in code.services if project(one.service) in tested}
                for code in (old, new)
            )
            moved = [
                f"{name} {_name(before.get(name))} → {_name(after.get(name))}"
                for name in sorted(before.keys() | after.keys())
                if before.get(name) != after.get(name)
            ]
            if moved:
                found.append(CodeChange(n, f"new code: {'; '.join(moved)}"))
        return found


def _name(revision: ServiceRevision | None) -> str:
    return wording.MISSING if revision is None else wording.revision_name(revision)
