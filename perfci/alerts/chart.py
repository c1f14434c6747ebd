"""The picture in a regression's mail: the trend of a few series, drawn with matplotlib (Agg).

matplotlib is imported where it draws: it takes a second, most commands draw nothing, and it looks for the
folder of its cache (MPLCONFIGDIR, which the controller sets below the state folder) as it is imported.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from perfci.wording import action_name, change, quantity, run_day

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from perfci.alerts.model import MovedSeries
    from perfci.analysis.types import RunPoint, SeriesHistory

RUNS_SHOWN = 45
PANELS = 3
_DPI = 200
_GOOD, _BAD, _MUTED, _TEXT, _BAND, _GRID = "#1f5f99", "#b3261e", "#8a8f98", "#24292f", "#dce8f3", "#e6e8eb"
_LABELLED_RUNS = 6
_SPREAD = (10, 90)


@dataclass(frozen=True, slots=True)
class Trend:
    """A series that moved, with its history."""

    moved: MovedSeries
    history: SeriesHistory


def draw(trends: tuple[Trend, ...], *, since: str, fixed: str | None = None) -> bytes:
    """Return a PNG with one panel for each trend, at most three.

    Each run is a point (median) with a bar (10th to 90th percentile of its iterations); the band is the
    baseline ± the smallest change that would have been reported; the line is where the change began, and
    where it ended if it did. Runs that were not valid are hollow.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = trends[:PANELS]
    figure = Figure(figsize=(7.2, 2.05 * len(shown) + 0.25), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for axes, trend in zip(panels, shown, strict=True):
        _panel(axes, trend, since, fixed)
    buffer = io.BytesIO()
    # Without the program's name and date the same data gives the same bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def describe(trends: tuple[Trend, ...], since: str) -> str:
    """Return what the picture shows, in words."""
    parts = [
        f"{action_name(trend.moved.key)} in {trend.moved.key.scenario}: "
        f"{quantity(trend.moved.baseline_location, trend.moved.key.metric)} before {run_day(since)}, "
        f"{quantity(trend.moved.after, trend.moved.key.metric)} after"
        for trend in trends[:PANELS]
    ]
    return "Trend over the runs. " + "; ".join(parts)


def _panel(axes: Axes, trend: Trend, since: str, fixed: str | None) -> None:
    from matplotlib.ticker import FuncFormatter

    points = [point for point in trend.history.points if point.values][-RUNS_SHOWN:]
    metric = trend.moved.key.metric
    _baseline(axes, trend.moved)
    for position, point in enumerate(points):
        _point(axes, position, point, bad=since <= point.run_id and not (fixed and fixed <= point.run_id))
    _border(axes, points, since, change(trend.moved.effect, metric), _BAD)
    if fixed:
        _border(axes, points, fixed, "back", _GOOD)
    title = f"{action_name(trend.moved.key)} · {trend.moved.key.scenario}"
    axes.set_title(title, loc="left", fontsize=8, color=_TEXT)
    _tidy(axes, points)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value, metric)))


def _baseline(axes: Axes, moved: MovedSeries) -> None:
    if moved.baseline_location is None:
        return
    width = (moved.mde or 0.0) * moved.baseline_location
    axes.axhspan(
        moved.baseline_location - width, moved.baseline_location + width, color=_BAND, lw=0, zorder=0
    )
    axes.axhline(moved.baseline_location, color=_GOOD, lw=0.8, alpha=0.6, zorder=1)


def _point(axes: Axes, position: int, point: RunPoint, *, bad: bool) -> None:
    colour = _MUTED if not point.valid else _BAD if bad else _GOOD
    low, high = np.percentile(point.values, _SPREAD)
    axes.plot([position, position], [low, high], color=colour, lw=1.4, alpha=0.35, solid_capstyle="round")
    face = colour if point.valid else "white"
    axes.plot(position, float(np.median(point.values)), "o", ms=3.8, mfc=face, mec=colour, mew=0.9, zorder=3)


def _border(axes: Axes, points: list[RunPoint], run_id: str, label: str, colour: str) -> None:
    """Mark the gap before a run."""
    at = next((position for position, point in enumerate(points) if point.run_id >= run_id), None)
    if at is None:
        return
    axes.axvline(at - 0.5, color=colour, lw=1, ls=(0, (3, 2)), zorder=2)
    axes.annotate(
        label,
        (at - 0.5, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-4, -3),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8.5,
        fontweight="bold",
        color=colour,
    )


def _tidy(axes: Axes, points: list[RunPoint]) -> None:
    from matplotlib.ticker import MaxNLocator

    step = max(1, -(-len(points) // _LABELLED_RUNS))
    ticks = list(range(len(points) - 1, -1, -step))[::-1]
    axes.set_xticks(ticks, [run_day(points[tick].run_id) for tick in ticks])
    axes.set_xlim(-0.8, max(len(points), 2) - 0.2)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(labelsize=7, length=0, colors="#57606a")
    axes.grid(axis="y", color=_GRID, lw=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#c4c9d0")
    axes.margins(y=0.12)
