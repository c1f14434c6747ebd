"""Curves over the number of servers as SVG: several lines in one picture, each named at its end.

Beside the trends over runs (svg.py); classes are those of perfci/report/templates/style.css too.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from perfci.report.svg import ticks
from perfci.wording import counted, quantity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from perfci.results.density import Curve
    from perfci.results.model import Metric

LINES_SHOWN = 6
"""More lines in one picture can't be told apart."""
_WIDTH, _HEIGHT = 760, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 170, 12, 26
_NAME_HEIGHT = 12


@dataclass(frozen=True, slots=True)
class _Scale:
    """From numbers of servers and values, both from zero on, to places in the picture."""

    servers: int
    high: float

    def x(self, servers: float) -> float:
        return round(_LEFT + servers / self.servers * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        return round(_HEIGHT - _BOTTOM - value / self.high * (_HEIGHT - _TOP - _BOTTOM), 1)


def by_service(curve: Curve, name: str) -> dict[str, list[tuple[int, float]]]:
    """Return `cpu_seconds` or `rss_bytes` of each service by number of servers, the largest one first."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for point in curve.points:
        for service, value in getattr(point, name).items():
            lines.setdefault(service, []).append((point.servers, value))
    return dict(sorted(lines.items(), key=lambda line: -line[1][-1][1]))


def curves(lines: Mapping[str, Sequence[tuple[int, float]]], metric: Metric) -> str:
    """Return lines over the number of servers as an SVG element, the first six; empty without values.

    Each line has its (servers, value) by growing number of servers.
    """
    shown = {name: places for name, places in list(lines.items())[:LINES_SHOWN] if places}
    if not shown:
        return ""
    every = [place for places in shown.values() for place in places]
    scale = _Scale(max(servers for servers, _ in every) or 1, max(value for _, value in every) * 1.06 or 1.0)
    label = "; ".join(
        f"{name}: {quantity(places[0][1], metric)} to {quantity(places[-1][1], metric)}"
        for name, places in shown.items()
    )
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}"'
    parts = [
        f'<svg class="trend curve" {size} role="group" aria-label="{escape(label)}">',
        *_grid(scale, metric),
        *(_line(scale, n, name, places, metric) for n, (name, places) in enumerate(shown.items())),
        *_names(scale, shown),
        "</svg>",
    ]
    return "".join(parts)


def _grid(scale: _Scale, metric: Metric) -> Iterator[str]:
    for value in ticks(0.0, scale.high):
        y = scale.y(value)
        yield f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
        yield f'<text class="tick" x="{_LEFT - 8}" y="{y + 3.5}" text-anchor="end">'
        yield f"{escape(quantity(value, metric))}</text>"
    for servers in ticks(0.0, scale.servers):
        yield f'<text class="tick" x="{scale.x(servers)}" y="{_HEIGHT - 6}" '
        yield f'text-anchor="middle">{servers:.0f}</text>'


def _line(scale: _Scale, number: int, name: str, places: Sequence[tuple[int, float]], metric: Metric) -> str:
    path = " ".join(f"{scale.x(servers)},{scale.y(value)}" for servers, value in places)
    dots = "".join(
        f'<circle cx="{scale.x(servers)}" cy="{scale.y(value)}" r="2.4"><title>{escape(name)} at '
        f"{escape(counted(servers, 'server'))}: {escape(quantity(value, metric))}</title></circle>"
        for servers, value in places
    )
    return f'<g class="line line-{number}"><polyline points="{path}"/>{dots}</g>'


def _names(scale: _Scale, lines: Mapping[str, Sequence[tuple[int, float]]]) -> Iterator[str]:
    """Name each line beside its end, without two names on one another."""
    ends = sorted(
        (scale.y(places[-1][1]), number, name, scale.x(places[-1][0]))
        for number, (name, places) in enumerate(lines.items())
    )
    # From the top down, then up again so that the last ones stay inside.
    heights: list[float] = []
    for y, *_ in ends:
        heights.append(max(y, heights[-1] + _NAME_HEIGHT) if heights else max(y, _TOP))
    lowest = float(_HEIGHT - _BOTTOM)
    for position in range(len(heights) - 1, -1, -1):
        heights[position] = lowest = min(heights[position], lowest)
        lowest -= _NAME_HEIGHT
    for height, (_, number, name, x) in zip(heights, ends, strict=True):
        yield f'<text class="name line-{number}" x="{x + 8}" y="{height + 3.5:.1f}">{escape(name)}</text>'
