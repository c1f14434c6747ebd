"""Static pages: an overview, one for each job, run, alert and scenario, and one that compares two runs.

They need no server, nothing from elsewhere, and links are relative. Without scripts they show all that
matters; a script adds what a reader does with them. `pages.json` in their folder has a digest of what each
page was made from: only a page whose inputs changed is made again. What no run, alert or scenario has any
more is removed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from perfci import pages
from perfci.files import remove_scratch, write_whole
from perfci.parsing import json_value
from perfci.report.alert_page import alert_page
from perfci.report.data_files import code_text, job_file
from perfci.report.model import AlertEvidence, RunReport, StoredRun
from perfci.report.overview import overview_pages
from perfci.report.rendered import shared_files, version
from perfci.report.run_page import run_pages, summary_of
from perfci.report.scenario_page import place, scenario_pages

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from perfci.report.model import AlertSummary, Mark, SiteData
    from perfci.report.points import SeriesTrend
    from perfci.results.model import SeriesKey

MANIFEST = "pages.json"
FOLDERS = ("runs", "scenarios", "alerts", "jobs", "data")
"""All that is in these folders of the site is ours: what is no longer needed is removed."""


@dataclass(frozen=True, slots=True)
class Written:
    """What was done: files whose content changed, and files in all, those included that were left alone."""

    changed: int
    pages: int


@dataclass
class _Manifest:
    """What each page was made from, and what of it other pages and later nights need."""

    version: str
    made: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> _Manifest:
        """Return what was kept; nothing where that is damaged, or of another version of this code."""
        try:
            found = json_value(file.read_bytes())
            if found["version"] == version() and isinstance(found["made"], dict):
                return cls(found["version"], found["made"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return cls(version())


def write(folder: Path, data: SiteData) -> Written:
    """Write all pages into a folder, and remove those of runs, alerts and scenarios that are not in `data`.

    Raises OSError.
    """
    site = _Site(folder)
    runs = _runs(data)
    report = lru_cache(maxsize=2)(lambda run_id: runs[run_id].load())
    for name, content in shared_files().items():
        site.put(name, content)
    for run in runs.values():
        site.run(run, report)
    scenarios = by_scenario(data.series)
    site.scenarios(scenarios, data)
    known = {pages.scenario_page(series[0].key) for series in scenarios.values()}
    for alert in data.alerts:
        site.alert(alert, runs.keys(), known)
    summaries = [site.made[run.run_id]["summary"] for run in runs.values()]
    for name, content in overview_pages(data, scenarios, summaries, report).items():
        site.put(name, content)
    return site.finish()


def by_scenario(series: Sequence[SeriesTrend]) -> dict[tuple[str, ...], list[SeriesTrend]]:
    """Return series by lab, job, scenario and arguments, each in the order of its page."""
    groups: dict[tuple[str, ...], list[SeriesTrend]] = defaultdict(list)
    for one in sorted(series, key=lambda one: place(one.key)):
        key = one.key
        groups[key.lab, key.job, key.scenario, key.arguments].append(one)
    return groups


class _Site:
    """A folder of pages while it is written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._old = _Manifest.read(folder / MANIFEST).made
        self.made: dict[str, dict[str, Any]] = {}
        self._names: set[str] = set()
        self._changed = 0
        for name in FOLDERS:
            (folder / name).mkdir(parents=True, exist_ok=True)

    def put(self, name: str, content: str) -> None:
        """Write a file in one step, unless it holds that content already."""
        if name in self._names:
            return
        self._names.add(name)
        data, target = content.encode(), self._folder / name
        try:
            if target.read_bytes() == data:
                return
        except FileNotFoundError:
            pass
        self._changed += 1
        # Not on the disk one by one: `finish` waits for all of them at once.
        write_whole(target, data, durable=False)

    def run(self, run: StoredRun, report: Any) -> None:
        """Write the page of a run, where it is not there already as it should be."""
        if self._is_made(run.run_id, run.inputs):
            return
        loaded = report(run.run_id)
        files = run_pages(loaded)
        self._make(run.run_id, run.inputs, files, summary=summary_of(loaded))

    def alert(self, alert: AlertSummary, shown: Collection[str], known: Collection[str]) -> None:
        """Write the page of an alert, where it is not there already as it should be."""
        name = pages.alert_page(alert.id)
        runs = {one for one in (alert.since, alert.opened, alert.last_good, alert.closed) if one is not None}
        scenarios = {pages.scenario_page(one.key) for one in alert.moved}
        links = (sorted(runs & {*shown}), sorted(scenarios & {*known}))
        inputs = _digest(repr(replace(alert, evidence=AlertEvidence)), repr(links))
        if not self._is_made(name, inputs):
            self._make(name, inputs, alert_page(alert, shown, known))

    def scenarios(self, scenarios: Mapping[tuple[str, ...], Sequence[SeriesTrend]], data: SiteData) -> None:
        """Write the pages of all scenarios, and for each job the file with its runs."""
        marks: dict[SeriesKey, list[Mark]] = defaultdict(list)
        for mark in sorted(data.marks, key=lambda one: (one.run_id, one.label)):
            marks[mark.key].append(mark)
        texts = {digest: code_text(code) for digest, code in data.codes.items()}
        codes = hashlib.sha256(repr(sorted(texts)).encode()).digest()
        for series in scenarios.values():
            key, runs = series[0].key, series[0].runs
            file = pages.job_data(key.lab, key.job)
            if file not in self._names:
                self.put(file, job_file(file, runs, texts))
            name = pages.scenario_page(key)
            inputs = _digest(codes, repr(runs), *_inputs(series, data, marks))
            if not self._is_made(name, inputs):
                found = scenario_pages(series, data, marks, self._old.get(name, {}).get("levels", {}))
                self._make(name, inputs, found.files, levels=found.levels)

    def _is_made(self, name: str, inputs: str) -> bool:
        old = self._old.get(name)
        if old is None or old["inputs"] != inputs:
            return False
        if not all((self._folder / file).is_file() for file in old["files"]):
            return False
        self.made[name] = old
        self._names.update(old["files"])
        return True

    def _make(self, name: str, inputs: str, files: Mapping[str, str], **kept: Any) -> None:
        for file, content in files.items():
            self.put(file, content)
        self.made[name] = {"inputs": inputs, "files": list(files), **kept}

    def finish(self) -> Written:
        """Remove what is not needed any more, and note what was made once that is on the disk."""
        for name in FOLDERS:
            for file in (self._folder / name).iterdir():
                if f"{name}/{file.name}" not in self._names:
                    file.unlink()
        remove_scratch(self._folder)
        if self._changed or self.made != self._old:
            os.sync()
            write_whole(self._folder / MANIFEST, json.dumps({"version": version(), "made": self.made}))
        return Written(self._changed, len(self._names))


def _runs(data: SiteData) -> dict[str, StoredRun]:
    """Return all runs by id, those that are there already like those that have to be read."""
    found = [one if isinstance(one, StoredRun) else _stored(one) for one in data.runs]
    return {one.run_id: one for one in sorted(found, key=lambda one: one.run_id)}


def _stored(run: RunReport) -> StoredRun:
    return StoredRun(run.record.run_id, _digest(repr(run)), lambda: run)


def _inputs(
    series: Sequence[SeriesTrend], data: SiteData, marks: Mapping[SeriesKey, Sequence[Mark]]
) -> Iterator[str | bytes]:
    """Yield all that a scenario's page is made from."""
    for one in series:
        yield repr(one.key)
        yield one.places.tobytes()
        yield one.numbers.tobytes()
        judgement = data.judgements.get(one.key)
        yield repr(
            judgement and (judgement.outcome, judgement.reason, judgement.since, judgement.confirmation)
        )
        yield repr(
            judgement and (judgement.location, judgement.level, judgement.baseline_location, judgement.effect)
        )
        yield repr((judgement and judgement.mde, marks.get(one.key), data.calibrations.get(one.key)))


def _digest(*parts: str | bytes) -> str:
    found = hashlib.blake2b(digest_size=12)
    for part in parts:
        found.update(part.encode() if isinstance(part, str) else part)
    return found.hexdigest()
