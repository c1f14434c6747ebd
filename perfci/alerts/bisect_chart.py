"""The picture of a bisect: the revisions in their order, and what was measured of each, with intervals."""

from __future__ import annotations

import io
from collections import Counter
from typing import TYPE_CHECKING

from perfci.wording import quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from perfci.alerts.bisect_story import BisectRow, BisectStory

_DPI = 200
_GOOD, _BAD, _MUTED, _TEXT, _GRID = "#1f5f99", "#b3261e", "#8a8f98", "#24292f", "#e6e8eb"
_LABELLED = 12
"""With more places the names would run into each other: then they are numbers."""
_NAME = 24
_BESIDE = 0.25


def draw(story: BisectStory) -> bytes | None:
    """Return a PNG of what was measured; None where nothing was.

    Each place is a point with its 95 % interval, and says how many runs it is made of. The line is where it
    became worse. The newest revision, with and without the culprit, stands apart on the right.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    rows = [one for one in story.rows if one.level is not None]
    if not rows:
        return None
    figure = Figure(figsize=(7.2, 3.4), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    drawn: Counter[int] = Counter()
    for row in rows:
        # What a proof measured again stands beside what the search measured.
        _point(axes, row, story, row.place + _BESIDE * drawn[row.place])
        drawn[row.place] += 1
    if story.culprit_at is not None:
        axes.axvline(story.culprit_at - 0.5, color=_BAD, lw=1, ls=(0, (3, 2)), zorder=2)
    axes.set_title(story.series, loc="left", fontsize=8, color=_TEXT)
    _places(axes, story, rows)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value, story.metric)))
    axes.tick_params(labelsize=7, length=0, colors="#57606a")
    axes.grid(axis="y", color=_GRID, lw=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.margins(y=0.15)
    buffer = io.BytesIO()
    # Without the program's name and date the same data gives the same bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def describe(story: BisectStory) -> str:
    """Return what the picture shows, in words."""
    parts = [
        f"{one.what}: {quantity(one.level, story.metric)}" for one in story.rows if one.level is not None
    ]
    return "What was measured, in the order of the changes. " + "; ".join(parts)


def _point(axes: Axes, row: BisectRow, story: BisectStory, place: float) -> None:
    level, low, high = row.level, row.low, row.high
    if level is None:
        return
    worse = story.culprit_at is not None and row.place >= story.culprit_at and not row.at_head
    colour = _MUTED if row.at_head else _BAD if worse else _GOOD
    if low is not None and high is not None:
        axes.plot([place, place], [low, high], color=colour, lw=1.6, alpha=0.45)
    axes.plot(place, level, "o", ms=4.5, color=colour, zorder=3)
    axes.annotate(
        str(row.runs), (place, level), xytext=(5, 4), textcoords="offset points", fontsize=6, color=_MUTED
    )


def _places(axes: Axes, story: BisectStory, rows: list[BisectRow]) -> None:
    last = max([len(story.steps), *(one.place for one in rows)])
    labels = {0: "good end", **dict(enumerate(story.steps, start=1))}
    labels |= {one.place: one.what for one in rows if one.at_head}
    many = len(labels) > _LABELLED
    shown = {place: (_narrow(place, text, story) if many else _short(text)) for place, text in labels.items()}
    axes.set_xticks(
        list(shown), list(shown.values()), rotation=0 if many else 30, ha="center" if many else "right"
    )
    axes.set_xlim(-0.6, last + 0.6)


def _narrow(place: int, text: str, story: BisectStory) -> str:
    """Return a label among many: a number, and of the newest revision one word a line."""
    return str(place) if place <= len(story.steps) else _short(text).replace(" ", "\n")


def _short(text: str) -> str:
    # A dollar sign would begin a formula.
    plain = text.replace("$", "")
    return plain if len(plain) <= _NAME else plain[: _NAME - 1] + "…"
