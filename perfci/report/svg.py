"""Trends as SVG, written by hand: small, themed by the page's style sheet, and every point is a link.

Classes are those of perfci/report/templates/style.css.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from statistics import median
from typing import TYPE_CHECKING

from perfci import pages
from perfci.wording import (
    action_name,
    change,
    counted,
    interval,
    probability,
    quantity,
    run_day,
    run_moment,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from perfci.analysis.changepoints import ChangePoint
    from perfci.analysis.types import Judgement, RunPoint, SeriesHistory
    from perfci.report.model import Mark
    from perfci.results.model import SeriesKey

RUNS_SHOWN = 120
_WIDTH, _HEIGHT = 760, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 10, 62, 20, 26
"""The values stand on the right: a narrow screen shows that end first."""
_TICKS = 6
_DAYS = 7
_HEADROOM = 0.06
_LABEL_WIDTH = 90
_NEAR = 2
"""A change of level this many runs from one that is marked is the same."""


@dataclass(frozen=True, slots=True)
class _Spot:
    """A run in a chart: its middle and the 10th and 90th percentile of its iterations."""

    point: RunPoint
    middle: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _Around:
    """What the points of a chart have in common."""

    key: SeriesKey
    marks: Sequence[Mark]
    code_names: Mapping[str, str]
    root: str


@dataclass(frozen=True, slots=True)
class _Scale:
    """From runs and values to places in the picture."""

    runs: int
    low: float
    high: float

    def x(self, position: float) -> float:
        step = (_WIDTH - _LEFT - _RIGHT) / max(self.runs, 2)
        return round(_LEFT + (position + 0.5) * step, 1)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)


def trend(
    history: SeriesHistory,
    judgement: Judgement | None,
    marks: Sequence[Mark] = (),
    code_names: Mapping[str, str] | None = None,
    *,
    changes: Sequence[ChangePoint] = (),
    root: str = "../",
) -> str:
    """Return the trend of one series as an SVG element; empty where no run has values.

    Each run is a point with a bar over the middle 80 % of its iterations, linked to its page below
    `root`. The band is the baseline ± MDE, dashed lines are where changes began, dotted ones where the
    environment changed, small triangles where the code did. `code_names` explains digests of code. A grey
    field is where the level changed, looked back at (`changes`, by index of `shown_points`), as wide as its
    date is uncertain; near a change that is marked anyway there is none.
    """
    spots = _spots(history)
    if not spots:
        return ""
    scale = _scale(spots, judgement)
    ids = [spot.point.run_id for spot in spots]
    around = _Around(history.key, marks, code_names or {}, root)
    label = escape(_described(history.key, spots, marks))
    parts = [
        f'<svg class="trend" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="group" aria-label="{label}">',
        *_band(scale, judgement),
        *_grid(scale, history.key),
        *_levels(scale, changes, ids, around),
        *_days(scale, ids),
        *_environments(scale, spots),
        *_codes(scale, spots, around.code_names),
        *_changes(scale, ids, marks),
        *(_dot(scale, position, spot, around) for position, spot in enumerate(spots)),
        "</svg>",
    ]
    return "".join(parts)


def sparkline(history: SeriesHistory) -> str:
    """Return the medians of the last runs as a line without axes; empty with fewer than two runs."""
    values = [spot.middle for spot in _spots(history)][-40:]
    if len(values) < 2:  # noqa: PLR2004
        return ""
    low, high = min(values), max(values)
    # A line that moves by less than a tenth should look flat.
    reach = max(high - low, 0.1 * abs(high), 1e-12)
    step = 96 / (len(values) - 1)
    places = " ".join(
        f"{2 + n * step:.1f},{18 - 16 * (value - low) / reach:.1f}" for n, value in enumerate(values)
    )
    last_x, last_y = places.rpartition(" ")[2].split(",")
    return (
        '<svg class="spark" viewBox="0 0 100 20" aria-hidden="true">'
        f'<polyline points="{places}"/><circle cx="{last_x}" cy="{last_y}" r="2"/></svg>'
    )


def shown_points(history: SeriesHistory) -> list[RunPoint]:
    """Return the runs that a picture of a history shows."""
    return [point for point in history.points[-RUNS_SHOWN:] if point.values]


def _spots(history: SeriesHistory) -> list[_Spot]:
    found = []
    for point in shown_points(history):
        ordered = sorted(point.values)
        found.append(_Spot(point, median(ordered), _percentile(ordered, 0.1), _percentile(ordered, 0.9)))
    return found


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Return a percentile with linear interpolation, as numpy's default does, without its overhead."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _scale(spots: Sequence[_Spot], judgement: Judgement | None) -> _Scale:
    low, high = min(spot.low for spot in spots), max(spot.high for spot in spots)
    if judgement and judgement.baseline_location is not None:
        width = (judgement.mde or 0.0) * judgement.baseline_location
        low = min(low, judgement.baseline_location - width)
        high = max(high, judgement.baseline_location + width)
    reach = (high - low) or abs(high) or 1.0
    return _Scale(
        len(spots), max(0.0, low - _HEADROOM * reach) if low >= 0 else low, high + _HEADROOM * reach
    )


def _grid(scale: _Scale, key: SeriesKey) -> Iterator[str]:
    for value in ticks(scale.low, scale.high):
        y = scale.y(value)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
        yield f'<text class="tick" x="{_WIDTH - _RIGHT + 8}" y="{y + 3.5}">'
        yield f"{escape(quantity(value, key.metric))}</text>"


def ticks(low: float, high: float) -> list[float]:
    """Return round values between two: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    return [n * step for n in range(first, math.floor(high / step) + 1)]


def _days(scale: _Scale, ids: Sequence[str]) -> Iterator[str]:
    step = max(1, math.ceil(len(ids) / _DAYS))
    for position in range(len(ids) - 1, -1, -step):
        if scale.x(position) < _LEFT + 30:
            continue  # it would be cut off
        yield f'<text class="tick" x="{scale.x(position)}" y="{_HEIGHT - 6}" '
        yield f'text-anchor="middle">{escape(run_day(ids[position]))}</text>'


def _band(scale: _Scale, judgement: Judgement | None) -> Iterator[str]:
    if judgement is None or judgement.baseline_location is None:
        return
    base = judgement.baseline_location
    width = (judgement.mde or 0.0) * base
    top, bottom = scale.y(base + width), scale.y(base - width)
    span = _WIDTH - _LEFT - _RIGHT
    yield f'<rect class="band" x="{_LEFT}" y="{top}" width="{span}" height="{max(bottom - top, 1):.1f}"/>'
    middle = scale.y(base)
    yield f'<line class="base" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{middle}" y2="{middle}"/>'


def _environments(scale: _Scale, spots: Sequence[_Spot]) -> Iterator[str]:
    for position in range(1, len(spots)):
        before, after = spots[position - 1].point.environment, spots[position].point.environment
        if before != after:
            x = scale.x(position - 0.5)
            yield f'<g class="env"><title>environment changed: {escape(before)} → {escape(after)}</title>'
            yield f'<line x1="{x}" x2="{x}" y1="{_TOP - 6}" y2="{_HEIGHT - _BOTTOM}"/>'
            yield f"{_label(x, 'environment')}</g>"


def _codes(scale: _Scale, spots: Sequence[_Spot], names: Mapping[str, str]) -> Iterator[str]:
    y = _HEIGHT - _BOTTOM
    for position in range(1, len(spots)):
        before, after = spots[position - 1].point.code, spots[position].point.code
        if before != after:
            x = scale.x(position)
            yield f'<path class="code" d="M{x - 4} {y + 6}L{x + 4} {y + 6}L{x} {y}Z">'
            yield f"<title>code changed: {escape(names.get(after, after))}</title></path>"


def _changes(scale: _Scale, ids: Sequence[str], marks: Sequence[Mark]) -> Iterator[str]:
    for mark in marks:
        position = next((n for n, run_id in enumerate(ids) if run_id >= mark.run_id), None)
        if position is None:
            continue
        x = scale.x(position - 0.5)
        yield f'<g class="change {mark.tone}"><title>{escape(mark.label)} since {escape(mark.run_id)}</title>'
        yield f'<line x1="{x}" x2="{x}" y1="{_TOP - 6}" y2="{_HEIGHT - _BOTTOM}"/>'
        yield f"{_label(x, mark.label)}</g>"


def _levels(
    scale: _Scale, changes: Sequence[ChangePoint], ids: Sequence[str], around: _Around
) -> Iterator[str]:
    for one in changes:
        first, last = ids[one.earliest], ids[one.latest]
        near = ids[max(one.earliest - _NEAR, 0)], ids[min(one.latest + _NEAR, len(ids) - 1)]
        if any(near[0] <= mark.run_id <= near[1] for mark in around.marks):
            continue  # the same change, found in another way: one number for it is enough
        left, right = scale.x(one.earliest - 0.5), scale.x(one.latest - 0.5)
        metric = around.key.metric
        levels = f"from {quantity(one.before, metric)} to {quantity(one.after, metric)}"
        told = (
            f"the level changed by {change(one.effect, metric)} ({interval(one.low, one.high, metric)}), "
            f"{levels}, with the run of {run_moment(ids[one.index])} UTC, not before {run_day(first)}, not "
            f"after {run_day(last)}; p {probability(one.p_value)}"
        )
        yield f'<g class="level"><title>{escape(told)}</title>'
        yield f'<rect x="{left - 1.5:.1f}" y="{_TOP - 6}" width="{right - left + 3:.1f}" '
        yield f'height="{_HEIGHT - _BOTTOM - _TOP + 6}"/>'
        yield f'<text x="{right + 4:.1f}" y="{_HEIGHT - _BOTTOM - 4}">'
        yield f"{escape(change(one.effect, metric))}</text></g>"


def _label(x: float, text: str) -> str:
    left = x > _LEFT + _LABEL_WIDTH
    place = f'x="{x - 5 if left else x + 5:.1f}" y="{_TOP + 4}" text-anchor="{"end" if left else "start"}"'
    return f"<text {place}>{escape(text)}</text>"


def _dot(scale: _Scale, position: int, spot: _Spot, around: _Around) -> str:
    point, x = spot.point, scale.x(position)
    tone = "off" if not point.valid else _tone(point.run_id, around.marks)
    href = escape(around.root + pages.run_page(point.run_id))
    y, low, high = scale.y(spot.middle), scale.y(spot.low), scale.y(spot.high)
    bar = f'<line class="spread" x1="{x}" x2="{x}" y1="{low}" y2="{high}"/>' if low != high else ""
    return (
        f'<a class="run {tone}" href="{href}"><title>{escape(_told(spot, around))}</title>'
        f'{bar}<circle cx="{x}" cy="{y}" r="3.2"/></a>'
    )


def _told(spot: _Spot, around: _Around) -> str:
    """Return what is shown when a point is pointed at."""
    point, metric = spot.point, around.key.metric
    parts = [f"{run_moment(point.run_id)} UTC: {quantity(spot.middle, metric)}"]
    if spot.low < spot.high:
        parts.append(f"middle 80 %: {quantity(spot.low, metric)} … {quantity(spot.high, metric)}")
    failures = f", {counted(point.failures, 'failure')}" if point.failures else ""
    parts.append(f"{counted(len(point.values), 'value')}{failures}")
    if not point.valid:
        parts.append("the lab was not fit to measure")
    return "\n".join((*parts, around.code_names.get(point.code, point.code), point.run_id))


def _tone(run_id: str, marks: Sequence[Mark]) -> str:
    """Return the tone of the newest mark before a run; a run after the end of a regression is plain."""
    begun = [mark for mark in marks if mark.run_id <= run_id]
    return str(max(begun, key=lambda mark: mark.run_id).tone) if begun else ""


def _described(key: SeriesKey, spots: Sequence[_Spot], marks: Sequence[Mark]) -> str:
    first, last = spots[0], spots[-1]
    changes = "; ".join(f"{mark.label} since {run_day(mark.run_id)}" for mark in marks)
    return (
        f"{action_name(key)} over {counted(len(spots), 'run')} from {run_day(first.point.run_id)} "
        f"({quantity(first.middle, key.metric)}) to {run_day(last.point.run_id)} "
        f"({quantity(last.middle, key.metric)}){'; ' + changes if changes else ''}"
    )
