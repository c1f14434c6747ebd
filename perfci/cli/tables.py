"""What runs, studies and verdicts return, as tables for people: columns and rows of text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from perfci.wording import MISSING, NBSP, action_name, change, counted, interval, noise_sources, quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from perfci.report.distribution import QuantileShift
    from perfci.results.model import Metric
    from perfci.results.pairs import PairedCounter
    from perfci.runs.publish.calibration_store import Calibration
    from perfci.runs.studies.change_points import LevelChange
    from perfci.runs.studies.compare import Compared
    from perfci.runs.studies.compare_runs import ComparedCounter, ComparedTiming
    from perfci.runs.studies.demo import DemoResult
    from perfci.runs.studies.reproduce import Comparison
    from perfci.runs.studies.run_diff import Moved
    from perfci.runs.studies.side_by_side import SideBySide
    from perfci.runs.studies.what_if import Report


class TextTable(NamedTuple):
    """A table: as many cells in each row as there are columns."""

    columns: Sequence[str]
    rows: Sequence[tuple[str, ...]]


def calibration_table(found: Calibration) -> TextTable:
    """Show what series can show; `MDE n` is the smallest change that n nights can prove."""
    from perfci.analysis.calibration import NIGHTS

    rows = [
        (
            one.key.scenario,
            action_name(one.key),
            quantity(one.location, one.key.metric),
            str(one.runs),
            change(one.scale, one.key.metric).lstrip("+"),
            *(change(one.mde.get(n), one.key.metric).lstrip("+") for n in NIGHTS),
            noise_sources(one.budget),
        )
        for one in found.series
    ]
    columns = (
        "scenario",
        "action",
        "level",
        "runs",
        "run to run",
        *(f"MDE {n}" for n in NIGHTS),
        "noise from",
    )
    return TextTable(columns, rows)


def compared_table(found: Compared) -> TextTable:
    """Show what the A/B of two pins has shown of each scenario."""
    rows = []
    for key, one in sorted(found.found.items()):
        shown = one.effect
        size = change(shown.size, key.metric) if shown else MISSING
        around = interval(shown.low, shown.high, key.metric) if shown else MISSING
        runs = f"{one.old_runs} old, {one.new_runs} new"
        rows.append((key.scenario, str(one.decision), size, around, runs))
    return TextTable(("scenario", "verdict", "new against old", "95 % interval", "runs"), rows)


def moved_table(found: Iterable[Moved]) -> TextTable:
    """Show what moved between two runs."""
    rows = [(one.what, one.name, one.before or MISSING, one.after or MISSING) for one in found]
    return TextTable(("what", "name", "before", "after"), rows)


def shifts_table(found: Iterable[ComparedTiming]) -> TextTable:
    """Show how far the medians of timings have moved between two runs."""
    rows = []
    for one in found:
        middle, metric = one.middle, one.key.metric
        levels = f"{quantity(middle.before, metric)} → {quantity(middle.after, metric)}"
        name = action_name(one.key)
        rows.append((one.key.scenario, name, change(middle.relative, metric), _range(middle, metric), levels))
    return TextTable(("scenario", "timing", "shift", "95 % interval", "median"), together(rows))


def deciles_table(one: ComparedTiming) -> TextTable:
    """Show all deciles of one timing in two runs."""
    metric = one.key.metric
    rows = [
        (
            f"{shift.level:.0%}",
            quantity(shift.before, metric),
            quantity(shift.after, metric),
            change(shift.relative, metric),
            _range(shift, metric),
        )
        for shift in one.shifts
    ]
    return TextTable((action_name(one.key), "before", "after", "shift", "95 % interval"), rows)


def counters_table(found: Iterable[ComparedCounter], *, full: bool) -> TextTable:
    """Show which counters differ between two runs; unless `full`, by 1 % or more."""
    rows = [
        (
            one.key.scenario,
            action_name(one.key),
            change(one.change, one.key.metric) if one.change is not None else "from 0",
            f"{quantity(one.before, one.key.metric)} → {quantity(one.after, one.key.metric)}",
        )
        for one in found
        if full or one.change is None or abs(one.change) >= _COUNTER_MOVED
    ]
    return TextTable(("scenario", "counter", "change", "before → after"), together(rows))


_COUNTER_MOVED = 0.01


def together(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return rows with those of one scenario together, scenarios in the order of their first row."""
    groups: dict[str, list[tuple[str, ...]]] = {}
    for row in rows:
        groups.setdefault(row[0], []).append(row)
    return [row for group in groups.values() for row in group]


def _range(shift: QuantileShift, metric: Metric) -> str:
    if shift.low is None or shift.high is None or not shift.before:
        return MISSING
    return interval(shift.low / shift.before, shift.high / shift.before, metric)


def changes_table(found: Iterable[LevelChange]) -> TextTable:
    """Show the change points of histories; what a reader needs first stands first."""
    rows = [
        (
            one.series,
            one.since,
            f"{one.point.effect:+.1%}" if math.isfinite(one.point.effect) else "from 0",
            _level(one.point.before, one.metric),
            _level(one.point.after, one.metric),
            f"{one.point.p_value:.2g}",
            f"{one.point.low:+.1%}{NBSP}…{NBSP}{one.point.high:+.1%}"
            if one.point.low < one.point.high
            else MISSING,
            "the environment changed" if one.environment else "",
            one.earliest,
            one.latest,
        )
        for one in found
    ]
    columns = ("since", "change", "before", "after", "p", "95 % interval", "note", "not before", "not after")
    return TextTable(("series", *columns), rows)


def _level(value: float, metric: Metric | None) -> str:
    """Return a level with its unit; of a file, whose unit nobody knows, without."""
    return f"{value:.4g}" if metric is None else quantity(value, metric)


def what_if_table(report: Report) -> TextTable:
    """Show which steps would have been found, the blindest series first."""
    rows = [
        (
            one.key.scenario,
            action_name(one.key),
            str(one.trials),
            f"{one.share:.0%}",
            MISSING if one.median_nights is None else f"{one.median_nights:g}",
        )
        for one in sorted(report.series, key=lambda one: (one.share, one.key))
    ]
    return TextTable(("scenario", "action", "steps tried", "found", "nights until half"), rows)


def what_if_lines(report: Report) -> list[str]:
    """Say what stands below that table."""
    from perfci.runs.studies.what_if import RULES

    lines = [RULES]
    if report.tried:
        nights = sorted(night for one in report.series for night in one.nights)
        when = f", half of these by night {nights[(len(nights) - 1) // 2]}" if nights else ""
        share = report.found / report.tried
        lines.append(
            f"{report.step} over {counted(report.nights, 'night')} of {report.job} on {report.lab}: "
            f"{report.found} of {report.tried} steps found ({share:.0%}){when}."
        )
    else:
        lines.append(f"{counted(report.nights, 'night')} are too few to put steps into.")
    if report.trials < report.of:
        lines.append(f"Cut short after {report.trials} of {report.of} trials, which are a fair sample.")
    rate = 1000 * report.alerts / report.judged if report.judged else 0.0
    lines.append(
        f"The untouched history has {counted(report.alerts, 'alert')} in {report.judged} nights of series "
        f"({rate:.2f} per 1,000), real regressions included."
    )
    return lines


def reproduced_table(found: Comparison) -> TextTable:
    """Show an archived run and its repetition, series by series."""
    rows = [
        (
            one.scenario,
            one.action,
            str(one.metric),
            quantity(one.before, one.metric),
            quantity(one.after, one.metric),
            change(one.change, one.metric),
        )
        for one in found.pairs
    ]
    return TextTable(("scenario", "action", "metric", "then", "now", "change"), rows)


def demo_lines(shown: DemoResult) -> list[str]:
    """Say what the demo showed."""
    from perfci.runs.studies.demo import noise

    checks = (f"{'ok     ' if one.ok else 'FAILED '} {one.expected}: {one.found}" for one in shown.checks)
    return ["", *checks, *noise(shown.outcomes)]


def paired_timings_table(found: SideBySide) -> TextTable:
    """Show what pairs say about each timing; `failed` are iterations, old side/new side."""
    rows = []
    for one in found.findings:
        metric, read = one.key.metric, one.reading
        rows.append((
            one.key.scenario,
            action_name(one.key),
            f"same within {100 * found.settings.within:g} %" if one.word == "same" else one.word,
            change(math.expm1(read.log), metric) if read else MISSING,
            interval(math.expm1(read.low), math.expm1(read.high), metric) if read else MISSING,
            change(one.mde, metric).lstrip("+"),
            quantity(one.old_seconds, metric),
            quantity(one.new_seconds, metric),
            f"{one.pairs} in {counted(len(one.draws), 'draw')}",
            f"{one.old_failures[0]}/{one.new_failures[0]}",
        ))  # fmt: skip
    columns = (
        "scenario",
        "action",
        "verdict",
        "new against old",
        "interval",
        "MDE",
        "old",
        "new",
        "pairs",
        "failed",
    )
    return TextTable(columns, rows)


def paired_counters_table(counters: Sequence[PairedCounter]) -> TextTable:
    """Show counters of both sides, each as the mean over the draws."""
    rows = [
        (
            one.key.scenario,
            one.key.action,
            str(one.key.metric),
            quantity(one.old, one.key.metric),
            quantity(one.new, one.key.metric),
            change(one.new / one.old - 1 if one.old else None, one.key.metric),
        )
        for one in counters
    ]
    return TextTable(("scenario", "of", "counter", "old", "new", "new against old"), rows)
