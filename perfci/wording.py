"""How quantities, series and runs are written for people: one wording for mails, pages and tables.

A number and its unit are joined by a no-break space, so that a line never ends between them.
"""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from perfci.results.model import COUNTERS, TOTAL, Metric

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from perfci.analysis.calibration import NoiseBudget
    from perfci.analysis.types import Confirmation
    from perfci.results.model import SeriesKey, ServiceRevision

NBSP = "\u00a0"
MISSING = "\u2013"
DASH = "\u2013"
MINUS = "\u2212"
TIMES = "\u00d7"
_STAMP = "%Y%m%dT%H%M%SZ"
_DIGITS = 3
_COMMIT_LENGTH = 40
_SHORT_COMMIT = 12
_KIB = 1024.0
_SMALLEST_Q = 0.0001
_NIGHTS = ((1, "one night"), (3, "three"))
_RERUNS = {
    "different": "re-runs confirm it",
    "same": "re-runs refute it",
    "unknown": "re-runs could not settle it",
}
_COUNTER_NAMES = {
    Metric.CPU_SECONDS: "CPU seconds",
    Metric.SQL_STATEMENTS: "SQL statements",
    Metric.PEAK_RSS_BYTES: "peak memory",
    Metric.ROWS_READ: "rows read",
    Metric.ROWS_CHANGED: "rows changed",
    Metric.PAGES_READ: "pages read",
    Metric.WARNINGS: "warnings",
}
_COUNTS = frozenset(
    {
        Metric.SQL_STATEMENTS,
        Metric.LEFTOVERS,
        Metric.ROWS_READ,
        Metric.ROWS_CHANGED,
        Metric.PAGES_READ,
        Metric.WARNINGS,
    }
)
"""Metrics without a unit."""


def quantity(value: float | None, metric: Metric) -> str:
    """Return a value in the unit of its metric, three significant digits: `0.388 s`, `42.1 MiB`."""
    if value is None or not math.isfinite(value):
        return MISSING
    if metric is Metric.PEAK_RSS_BYTES:
        return _bytes(value)
    if metric is Metric.FAILURE_RATE:
        return f"{significant(100 * value)}{NBSP}%"
    if metric is Metric.MEGABITS_PER_SECOND:
        return f"{rate(value)}{NBSP}Mbit/s"
    if metric is Metric.RATIO:
        return f"{value:.3f}{NBSP}{TIMES}"
    return significant(value) if metric in _COUNTS else seconds(value)


def levels(before: float | None, after: float | None, metric: Metric, took: float | None = None) -> str:
    """Return the levels before and since a change: `0.761 s → 0.820 s`.

    Of a ratio to a reference, the seconds behind it: `took` is what the code under test takes. What the
    reference took follows from the ratio.
    """
    if metric is Metric.RATIO and took is not None and before and after:
        return f"{seconds(took / after * before)} → {seconds(took)}"
    return f"{quantity(before, metric)} → {quantity(after, metric)}"


def seconds(value: float | None) -> str:
    """Return a time; below a tenth of a second milliseconds read better: `0.388 s`, `69.9 ms`."""
    if value is None or not math.isfinite(value):
        return MISSING
    if 0 < abs(value) < 0.1:  # noqa: PLR2004
        return f"{significant(1000 * value)}{NBSP}ms"
    return f"{significant(value)}{NBSP}s"


def rate(megabits_per_second: float | None) -> str:
    """Return a rate in Mbit/s without its unit: `9,378`."""
    return MISSING if megabits_per_second is None else f"{megabits_per_second:,.0f}"


def significant(value: float) -> str:
    """Return a number with three significant digits, never in exponents: `0.388`, `12.4`, `1840`."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else MISSING
    decimals = max(0, _DIGITS - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(decimals, 6)}f}"


def _bytes(value: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if abs(value) < _KIB:
            return f"{significant(value)}{NBSP}{unit}"
        value /= _KIB
    return f"{significant(value)}{NBSP}GiB"


def change(share: float | None, metric: Metric) -> str:
    """Return a relative change with its sign: `+31 %`; of a failure rate, which is absolute: `+12 points`."""
    if share is None or not math.isfinite(share):
        return MISSING
    return f"{_signed(share)}{NBSP}{_change_unit(metric)}"


def interval(low: float | None, high: float | None, metric: Metric) -> str:
    """Return a confidence interval of a change: `+27 … +35 %`."""
    if low is None or high is None:
        return MISSING
    return f"{_signed(low)}{NBSP}…{NBSP}{_signed(high)}{NBSP}{_change_unit(metric)}"


def shown(confirmation: Confirmation, metric: Metric) -> str:
    """Return what re-runs measured: `+9.1 % (+6.8 … +11 %)`."""
    effect = change(confirmation.effect, metric)
    return f"{effect} ({interval(confirmation.low, confirmation.high, metric)})"


def reruns(confirmation: Confirmation) -> str:
    """Say which re-runs there were, on what and when: `4 fresh deployments of X and 4 of Y, in turns, ...`.

    X is the new code, Y the old one. Empty where nothing was run.
    """
    if not confirmation.runs or confirmation.began is None or confirmation.ended is None:
        return ""
    began, ended = (datetime.fromtimestamp(at, UTC) for at in (confirmation.began, confirmation.ended))
    new = counted(confirmation.new_runs, "fresh deployment")
    how = f"side by side, {counted(confirmation.pairs, 'pair')}" if confirmation.pairs else "in turns"
    return (
        f"{new} of {confirmation.new} and {confirmation.old_runs} of {confirmation.old}, {how}, on the "
        f"same nodes, {began:%Y-%m-%d %H:%M}{DASH}{ended:%H:%M} UTC"
    )


def rerun_verdict(confirmation: Confirmation, metric: Metric) -> str:
    """Say in few words what re-runs made of a change.

    `re-runs confirm it: +9.1 % (+6.8 … +11 %), 3 and 4 runs`: those of the new and of the old code. Where
    nothing was run, the reason.
    """
    if not confirmation.runs:
        return f"not re-run: {confirmation.reason}"
    size = "" if confirmation.effect is None else f": {shown(confirmation, metric)}"
    runs = f"{confirmation.new_runs} and {counted(confirmation.old_runs, 'run')}"
    return f"{_RERUNS[confirmation.decision]}{size}, {runs}"


def _change_unit(metric: Metric) -> str:
    return "points" if metric is Metric.FAILURE_RATE else "%"


def _signed(share: float) -> str:
    if not math.isfinite(share):
        return f"{MINUS}∞" if share < 0 else "+∞"
    value = 100 * share
    text = f"{abs(value):.0f}" if abs(value) >= 10 else f"{abs(value):.1f}"  # noqa: PLR2004
    sign = "" if not float(text) else MINUS if value < 0 else "+"
    return f"{sign}{text}"


def detectable(mde: Mapping[int, float], metric: Metric) -> str:
    """Return which changes can be shown: `3.5 % with one night, 2.1 % with three`; empty: none is known."""
    shown = [(words, mde[nights]) for nights, words in _NIGHTS if nights in mde]
    return ", ".join(f"{change(size, metric).lstrip('+')} with {words}" for words, size in shown)


def noise_sources(budget: NoiseBudget | None) -> str:
    """Return where a series' noise comes from: `iterations 20 %, runs and deployments 80 %`."""
    if budget is None or budget.total <= 0:
        return MISSING
    parts = [("iterations", budget.iterations)]
    if budget.run is None:
        parts.append(("runs and deployments", budget.deployment))
    else:
        parts += [("runs", budget.run), ("deployments", budget.deployment)]
    return ", ".join(f"{name} {100 * part / budget.total:.0f}{NBSP}%" for name, part in parts)


def probability(value: float | None) -> str:
    """Return a p or q value: `0.0312`, `< 0.0001`."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"<{NBSP}{_SMALLEST_Q}" if value < _SMALLEST_Q else f"{value:.2g}" if value < 1 else "1"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 run`, `3 runs`; `series` keeps its form."""
    plural = noun if noun.endswith("s") else f"{noun}s"
    return f"{number}{NBSP}{noun if number == 1 else plural}"


def elapsed(seconds: float) -> str:
    """Return how long something took: `0.2 s`, `48 s`, `7 min 12 s`, `1 h 05 min`."""
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f}{NBSP}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}{NBSP}h {minutes:02d}{NBSP}min"
    return f"{minutes}{NBSP}min {rest:02d}{NBSP}s" if minutes else f"{rest}{NBSP}s"


def is_or_are(key: SeriesKey) -> str:
    """Return the verb behind an `action_name`: SQL statements are, `neutron.create_port` is."""
    many = key.metric is Metric.LEFTOVERS or (
        key.metric in COUNTERS and _COUNTER_NAMES[key.metric].endswith(("s", "read", "changed"))
    )
    return "are" if many else "is"


def action_name(key: SeriesKey) -> str:
    """Return what was measured, without the scenario: `SQL statements of neutron-api`."""
    if key.metric in COUNTERS:
        return f"{_COUNTER_NAMES[key.metric]} of {key.action}"
    if key.metric is Metric.FAILURE_RATE:
        return "failure rate"
    if key.metric is Metric.LEFTOVERS:
        return "things left in the cloud"
    if key.metric is Metric.MEGABITS_PER_SECOND:
        return f"throughput {key.action}"
    name = "whole iteration" if key.action == TOTAL else key.action
    return f"{name} against the reference" if key.metric is Metric.RATIO else name


def several_arguments(keys: Iterable[SeriesKey]) -> frozenset[str]:
    """Return the scenarios that these series run with several arguments: their name alone says too little."""
    pairs = {(one.scenario, one.arguments) for one in keys}
    return frozenset(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)


def scenario_name(key: SeriesKey, several: Container[str]) -> str:
    """Return the name of a scenario; with its arguments where it is one of `several_arguments`."""
    return f"{key.scenario} · arguments {key.arguments}" if key.scenario in several else key.scenario


def run_time(run_id: str) -> datetime | None:
    """Return when a run started, as its id says (`20261121T041500Z-nightly-1f2e`); None for another form."""
    try:
        return datetime.strptime(run_id.partition("-")[0], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None


def run_day(run_id: str) -> str:
    """Return the day of a run: `2026-11-21`; the id itself where it does not say."""
    when = run_time(run_id)
    return f"{when:%Y-%m-%d}" if when else run_id


def run_moment(run_id: str) -> str:
    """Return day and time of a run, in UTC: `2026-11-21 04:15`; the id itself where it does not say."""
    when = run_time(run_id)
    return f"{when:%Y-%m-%d %H:%M}" if when else run_id


def revision_name(revision: ServiceRevision) -> str:
    """Return which code ran, short: `28.0.1.dev4 (1f2e3d4c5b6a) with slow.patch@1f2e3d4c`."""
    short = revision.revision
    if len(short) == _COMMIT_LENGTH:
        short = short[:_SHORT_COMMIT]
    where = short if short != revision.version else revision.source
    on_top = f" with {', '.join(revision.changes)}" if revision.changes else ""
    return f"{revision.version} ({where}){on_top}"


def dropped(scenario: str, count: int) -> str:
    """Say how many iterations of a scenario were left out because the clock was set back."""
    return f"{scenario}: {counted(count, 'iteration')} left out: the clock was set back"
