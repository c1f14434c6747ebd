"""Trends as SVG, written by hand: themed by the page's style sheet, and complete without scripts.

A picture has one path for all its points and one for their bars, so that it stays a few kilobytes; which run
a point is, its values and its code are in the page's data file, which pages.js loads when somebody points at
it. Classes are those of perfci/report/templates/style.css, sizes those of pages.js too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from perfci.report.points import HIGH, LOW, MIDDLE
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
    from collections.abc import Iterator, Sequence

    from perfci.analysis.changepoints import ChangePoint
    from perfci.analysis.types import Judgement
    from perfci.report.model import Mark
    from perfci.report.points import SeriesTrend
    from perfci.results.model import SeriesKey

RUNS_SHOWN = 120
WIDTH, HEIGHT = 760, 190
LEFT, RIGHT, TOP, BOTTOM = 10, 62, 20, 26
"""The values stand on the right: a narrow screen shows that end first."""
_FINE = 10
"""Points are drawn on a finer grid than the rest, in whole numbers."""
_TICKS = 6
_DAYS = 7
_YEAR = len("2026-")
_HEADROOM = 0.06
_LEAST_REACH, _LEAST_SHARE = 1e-200, 1e-9
"""Values that are closer than this, or than this share of the larger one, are drawn as one value."""
_LABEL_WIDTH = 90
_NEAR = 2
"""A change of level this many runs from one that is marked is the same."""


@dataclass(frozen=True, slots=True)
class Scale:
    """From runs and values to places in the picture."""

    runs: int
    low: float
    high: float

    @property
    def step(self) -> float:
        """The distance of two runs."""
        return (WIDTH - LEFT - RIGHT) / max(self.runs, 2)

    def x(self, position: float) -> float:
        """Return where a run is drawn."""
        return round(LEFT + (position + 0.5) * self.step, 1)

    def y(self, value: float) -> float:
        """Return where a value is drawn."""
        share = (value - self.low) / (self.high - self.low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


@dataclass(frozen=True, slots=True)
class CodeChange:
    """Code of the services that a series tests, which is new with a run: its place, and what is new."""

    place: int
    text: str


def trend(
    shown: SeriesTrend,
    judgement: Judgement | None,
    marks: Sequence[Mark] = (),
    *,
    changes: Sequence[ChangePoint] = (),
    codes: Sequence[CodeChange] = (),
    name: str = "",
) -> str:
    """Return the trend of one series as an SVG element; empty where no run has values.

    Each run is a point with a bar over the middle 80 % of its iterations; its place is that of the run among
    all `shown.runs`. The band is the baseline ± MDE, dashed lines are where changes began, dotted ones where
    the environment changed, small triangles where the code of a tested service did (`codes`). A grey field is
    where the level changed, looked back at (`changes`, by index of the measured runs), as wide as its date is
    uncertain; near a change that is marked anyway there is none. `name` is that of the series in the data
    file.
    """
    measured = shown.measured()
    if not len(measured.places):
        return ""
    scale = _scale(measured, judgement)
    ids = tuple([run.run_id for run in shown.runs])
    label = escape(_described(measured, marks))
    data = (
        f'tabindex="0" data-series="{escape(name)}" data-low="{scale.low:.6g}" data-high="{scale.high:.6g}" '
    )
    return "".join(
        (
            f'<svg class="trend" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" ',
            data if name else "",
            f'aria-label="{label}">',
            *_band(scale, judgement),
            *_grid(scale, shown.key),
            *_levels(scale, changes, measured, marks),
            _days(ids),
            *_environments(scale, measured),
            *_codes(scale, codes),
            *_changes(scale, ids, marks),
            *_points(scale, measured, marks),
            "</svg>",
        )
    )


def sparkline(shown: SeriesTrend) -> str:
    """Return the medians of the last runs as a line without axes; empty with fewer than two runs."""
    values = shown.measured().numbers[-40:, MIDDLE].tolist()
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


def _scale(measured: SeriesTrend, judgement: Judgement | None) -> Scale:
    low, high = float(measured.numbers[:, LOW].min()), float(measured.numbers[:, HIGH].max())
    if judgement and judgement.baseline_location is not None:
        width = (judgement.mde or 0.0) * judgement.baseline_location
        low = min(low, judgement.baseline_location - width)
        high = max(high, judgement.baseline_location + width)
    room = _HEADROOM * reach(low, high)
    lowest = max(0.0, low - room) if low >= 0 else low
    return Scale(len(measured.runs), lowest, high + room)


def _grid(scale: Scale, key: SeriesKey) -> Iterator[str]:
    for value in ticks(scale.low, scale.high):
        y = scale.y(value)
        yield f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>'
        yield f'<text class="tick" x="{WIDTH - RIGHT + 8}" y="{y + 3.5:.1f}">'
        yield f"{escape(quantity(value, key.metric))}</text>"


def reach(low: float, high: float) -> float:
    """Return the distance between two values, and a usable one where floats can hardly tell them apart."""
    least = max(_LEAST_REACH, _LEAST_SHARE * abs(high))
    return next((one for one in (high - low, abs(high)) if one > least), 1.0)


def ticks(low: float, high: float) -> list[float]:
    """Return round values between two: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    return [n * step for n in range(first, math.floor(high / step) + 1)]


@lru_cache(maxsize=64)
def _days(ids: tuple[str, ...]) -> str:
    """Return the dates below a picture, the same for all series of a scenario; runs of one day with times."""
    scale = Scale(len(ids), 0.0, 1.0)
    step = max(1, math.ceil(len(ids) / _DAYS))
    shown = range(len(ids) - 1, -1, -step)
    days = [run_day(ids[position]) for position in shown]
    found = []
    for position, day in zip(shown, days, strict=True):
        x = scale.x(position)
        if x >= LEFT + 30:  # else it would be cut off
            moment = run_moment(ids[position])
            is_plain = days.count(day) == 1 or moment == day
            text = day if is_plain else moment.removeprefix(day[:_YEAR])
            found.append(f'<text class="tick" x="{x}" y="{HEIGHT - 6}" text-anchor="middle">')
            found.append(f"{escape(text)}</text>")
    return "".join(found)


def _band(scale: Scale, judgement: Judgement | None) -> Iterator[str]:
    if judgement is None or judgement.baseline_location is None:
        return
    base = judgement.baseline_location
    width = (judgement.mde or 0.0) * base
    top, bottom = scale.y(base + width), scale.y(base - width)
    span = WIDTH - LEFT - RIGHT
    yield f'<rect class="band" x="{LEFT}" y="{top}" width="{span}" height="{max(bottom - top, 1):.1f}"/>'
    yield f'<path class="base" d="M{LEFT} {scale.y(base)}H{WIDTH - RIGHT}"/>'


def _environments(scale: Scale, measured: SeriesTrend) -> Iterator[str]:
    here = [measured.runs[place].environment for place in measured.places]
    for position in range(1, len(here)):
        if here[position - 1] != here[position]:
            x = scale.x(measured.places[position] - 0.5)
            told = f"environment changed: {here[position - 1]} → {here[position]}"
            yield f'<g class="env"><title>{escape(told)}</title>'
            yield f'<path d="M{x} {TOP - 6}V{HEIGHT - BOTTOM}"/>{_label(x, "environment")}</g>'


def _codes(scale: Scale, codes: Sequence[CodeChange]) -> Iterator[str]:
    y = HEIGHT - BOTTOM
    for one in codes:
        x = scale.x(one.place)
        yield f'<path class="code" d="M{x - 4:.1f} {y + 6}h8l-4-6Z"><title>{escape(one.text)}</title></path>'


def _changes(scale: Scale, ids: Sequence[str], marks: Sequence[Mark]) -> Iterator[str]:
    for mark in marks:
        position = next((n for n, run_id in enumerate(ids) if run_id >= mark.run_id), None)
        if position is None:
            continue
        x = scale.x(position - 0.5)
        yield f'<g class="change {mark.tone}"><title>{escape(mark.label)} since {escape(mark.run_id)}</title>'
        yield f'<path d="M{x} {TOP - 6}V{HEIGHT - BOTTOM}"/>{_label(x, mark.label)}</g>'


def _levels(
    scale: Scale, changes: Sequence[ChangePoint], measured: SeriesTrend, marks: Sequence[Mark]
) -> Iterator[str]:
    ids = [measured.runs[place].run_id for place in measured.places]
    for one in changes:
        first, last = ids[one.earliest], ids[one.latest]
        near = ids[max(one.earliest - _NEAR, 0)], ids[min(one.latest + _NEAR, len(ids) - 1)]
        if any(near[0] <= mark.run_id <= near[1] for mark in marks):
            continue  # the same change, found in another way: one number for it is enough
        left, right = (scale.x(measured.places[n] - 0.5) for n in (one.earliest, one.latest))
        metric = measured.key.metric
        levels = f"from {quantity(one.before, metric)} to {quantity(one.after, metric)}"
        told = (
            f"the level changed by {change(one.effect, metric)} ({interval(one.low, one.high, metric)}), "
            f"{levels}, with the run of {run_moment(ids[one.index])} UTC, not before {run_day(first)}, not "
            f"after {run_day(last)}; p {probability(one.p_value)}"
        )
        yield f'<g class="level"><title>{escape(told)}</title>'
        yield f'<rect x="{left - 1.5:.1f}" y="{TOP - 6}" width="{right - left + 3:.1f}" '
        yield f'height="{HEIGHT - BOTTOM - TOP + 6}"/>'
        yield f'<text x="{right + 4:.1f}" y="{HEIGHT - BOTTOM - 4}">'
        yield f"{escape(change(one.effect, metric))}</text></g>"


def _label(x: float, text: str) -> str:
    left = x > LEFT + _LABEL_WIDTH
    place = f'x="{x - 5 if left else x + 5:.1f}" y="{TOP + 4}" text-anchor="{"end" if left else "start"}"'
    return f"<text {place}>{escape(text)}</text>"


def _points(scale: Scale, measured: SeriesTrend, marks: Sequence[Mark]) -> Iterator[str]:
    """Draw the runs of each tone together: a path of bars, and one of dots, each a line without length."""
    runs = measured.runs
    tones = [
        "off" if not runs[place].valid else _tone(runs[place].run_id, marks) if marks else ""
        for place in measured.places
    ]
    x = np.rint((LEFT + (measured.places + 0.5) * scale.step) * _FINE).astype(int).tolist()
    share = (measured.numbers[:, (MIDDLE, LOW, HIGH)] - scale.low) / (scale.high - scale.low)
    y = np.rint((HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)) * _FINE).astype(int).tolist()
    yield f'<g transform="scale({1 / _FINE})">'
    for tone in sorted(set(tones)):
        mine = [n for n, one in enumerate(tones) if one == tone]
        bars = "".join(f"M{x[n]} {y[n][1]}V{y[n][2]}" for n in mine if y[n][1] != y[n][2])
        dots = "".join(f"M{x[n]} {y[n][0]}h0" for n in mine)
        kind = f" {tone}" if tone else ""
        yield f'<path class="bars{kind}" d="{bars}"/>' if bars else ""
        yield f'<path class="dots{kind}" d="{dots}"/>'
        if tone == "off":
            yield f'<path class="hole" d="{dots}"/>'
    yield "</g>"


def _tone(run_id: str, marks: Sequence[Mark]) -> str:
    """Return the tone of the newest mark before a run; a run after the end of a regression is plain."""
    begun = [mark for mark in marks if mark.run_id <= run_id]
    return str(max(begun, key=lambda mark: mark.run_id).tone) if begun else ""


def _described(measured: SeriesTrend, marks: Sequence[Mark]) -> str:
    first, last = (measured.runs[measured.places[place]].run_id for place in (0, -1))
    changes = "; ".join(f"{mark.label} since {run_day(mark.run_id)}" for mark in marks)
    metric = measured.key.metric
    return (
        f"{action_name(measured.key)} over {counted(len(measured.places), 'run')} from {run_day(first)} "
        f"({quantity(float(measured.numbers[0, MIDDLE]), metric)}) to {run_day(last)} "
        f"({quantity(float(measured.numbers[-1, MIDDLE]), metric)}){'; ' + changes if changes else ''}"
    )
