"""The picture of a bisect on its alert's page: the revisions in their order, each with what was measured."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from perfci.report.svg import reach, ticks
from perfci.wording import counted, quantity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perfci.report.model import AlertBisect, BisectPlace

WIDTH, HEIGHT = 760, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 20, 14, 26
_ROOM = 0.12


def bisect_picture(found: AlertBisect) -> str:
    """Return what was measured as an SVG element; empty where nothing was.

    Each place is a point with its 95 % interval, under it its number in the table. The dashed line is where
    it became worse; the newest revision, with and without the culprit, stands on the right.
    """
    numbered = [(n, one) for n, one in enumerate(found.places, start=1) if one.level is not None]
    if not numbered:
        return ""
    measured = [one for _, one in numbered]
    ends = [value for one in measured for value in (one.level, one.low, one.high) if value is not None]
    room = _ROOM * reach(min(ends), max(ends))
    scale = _Scale(len(measured), min(ends) - room, max(ends) + room)
    label = "; ".join(f"{one.what}: {quantity(one.level, found.metric)}" for one in measured)
    return "".join(
        (
            f'<svg class="trend bisect" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" ',
            f'aria-label="What was measured, in the order of the changes. {escape(label)}">',
            *_levels(scale, found),
            *_line(scale, measured, found.culprit_at),
            *(
                text
                for column, (number, one) in enumerate(numbered)
                for text in _point(scale, column, number, one, is_worse=_is_worse(one, found.culprit_at))
            ),
            "</svg>",
        )
    )


class _Scale:
    """From columns and levels to points of the picture."""

    def __init__(self, columns: int, low: float, high: float) -> None:
        self.low, self.high = low, high
        self._step = (WIDTH - _LEFT - _RIGHT) / columns

    def x(self, column: float) -> float:
        """Return where the middle of a column is."""
        return round(_LEFT + (column + 0.5) * self._step, 1)

    def y(self, level: float) -> float:
        """Return where a level is drawn."""
        share = (level - self.low) / (self.high - self.low)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)


def _levels(scale: _Scale, found: AlertBisect) -> Iterator[str]:
    for value in ticks(scale.low, scale.high):
        y = scale.y(value)
        yield f'<path class="grid" d="M{_LEFT} {y}H{WIDTH - _RIGHT}"/>'
        yield f'<text class="tick" x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">'
        yield f"{escape(quantity(value, found.metric))}</text>"


def _line(scale: _Scale, measured: Sequence[BisectPlace], culprit_at: int | None) -> Iterator[str]:
    worse = [n for n, one in enumerate(measured) if _is_worse(one, culprit_at)]
    if worse:
        yield f'<g class="change bad"><path d="M{scale.x(worse[0] - 0.5)} {_TOP}V{HEIGHT - _BOTTOM}"/></g>'


def _point(scale: _Scale, column: int, number: int, one: BisectPlace, *, is_worse: bool) -> Iterator[str]:
    if one.level is None:
        return
    x, y = scale.x(column), scale.y(one.level)
    tone = "head" if one.at_head else "bad" if is_worse else "good"
    title = escape(f"{one.what}: {counted(one.runs, 'run')}")
    yield f'<g class="place {tone}"><title>{title}</title>'
    if one.low is not None and one.high is not None:
        yield f'<path d="M{x} {scale.y(one.low)}V{scale.y(one.high)}"/>'
    # A shape of its own, so that the colour is not all that tells them apart.
    yield (
        f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
        if is_worse
        else f'<circle cx="{x}" cy="{y}" r="4"/>'
    )
    yield f'<text class="tick" x="{x}" y="{HEIGHT - 8}" text-anchor="middle">{number}</text></g>'


def _is_worse(one: BisectPlace, culprit_at: int | None) -> bool:
    return culprit_at is not None and one.place >= culprit_at and not one.at_head
