"""Two runs' iterations of one series, one over the other, and how far each tenth of them has moved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from perfci.analysis.quantiles import quantiles
from perfci.report.data_files import DECILES, LEVELS
from perfci.report.svg import reach, ticks
from perfci.wording import counted, quantity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perfci.results.model import Metric

NORMAL_95 = 1.959964
WIDTH, HEIGHT = 760, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 14, 10, 26
_SHARES = (0.0, 0.5, 0.9)


@dataclass(frozen=True, slots=True)
class QuantileShift:
    """How far one quantile has moved: `shift` in the unit of the values, 95 % interval `low`..`high`.

    `relative` is the shift against `before`. Interval and relative shift are None where they can't be told.
    """

    level: float
    before: float
    after: float
    shift: float
    low: float | None
    high: float | None
    relative: float | None

    @property
    def is_certain(self) -> bool:
        """Whether the interval excludes that nothing moved."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def quantile_shifts(before: Sequence[float], after: Sequence[float]) -> tuple[QuantileShift, ...]:
    """Return the shift of each decile between two runs' iterations, each at least one value.

    The intervals are those of these iterations; that a run as a whole is a little faster or slower by luck is
    not in them (`docs/statistics.md`).
    """
    levels = LEVELS[DECILES]
    (old, old_errors), (new, new_errors) = (quantiles(values, levels) for values in (before, after))
    found = []
    for n, level in enumerate(levels):
        shift = float(new[n] - old[n])
        half = NORMAL_95 * math.hypot(float(old_errors[n]), float(new_errors[n]))
        known = math.isfinite(half)
        found.append(
            QuantileShift(
                level,
                float(old[n]),
                float(new[n]),
                shift,
                shift - half if known else None,
                shift + half if known else None,
                shift / float(old[n]) if old[n] else None,
            )
        )
    return tuple(found)


def overlay(before: Sequence[float], after: Sequence[float], metric: Metric, names: tuple[str, str]) -> str:
    """Return both distributions as an SVG element: the share of iterations that took at most so long.

    The first one is a dashed line, the second one a full one; each has at least one value.
    """
    ordered = [sorted(before), sorted(after)]
    low, high = (pick(*(pick(values) for values in ordered)) for pick in (min, max))
    room = 0.03 * reach(low, high)
    low, high = max(0.0, low - room), high + room
    middle = [quantity(float(quantiles(values, (0.5,))[0][0]), metric) for values in ordered]
    label = (
        f"{names[0]}: {counted(len(before), 'value')} around {middle[0]}; "
        f"{names[1]}: {counted(len(after), 'value')} around {middle[1]}"
    )
    return "".join(
        (
            f'<svg class="trend shares" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" ',
            f'aria-label="{escape(label)}">',
            *_axes(low, high, metric),
            _steps(ordered[0], low, high, "old"),
            _steps(ordered[1], low, high, "new"),
            "</svg>",
        )
    )


def _axes(low: float, high: float, metric: Metric) -> Iterator[str]:
    for share in _SHARES:
        y = _y(share)
        yield f'<path class="grid" d="M{_LEFT} {y}H{WIDTH - _RIGHT}"/>'
        yield f'<text class="tick" x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">'
        yield f"{100 * share:.0f}\u00a0%</text>"
    for value in ticks(low, high):
        x = _x(value, low, high)
        if _LEFT + 14 < x < WIDTH - _RIGHT - 14:
            yield f'<text class="tick" x="{x}" y="{HEIGHT - 6}" text-anchor="middle">'
            yield f"{escape(quantity(value, metric))}</text>"


def _steps(ordered: Sequence[float], low: float, high: float, kind: str) -> str:
    parts = [f"M{_x(ordered[0], low, high)} {_y(0.0)}"]
    for n, value in enumerate(ordered, start=1):
        parts.append(f"H{_x(value, low, high)}V{_y(n / len(ordered))}")
    return f'<path class="share {kind}" d="{"".join(parts)}"/>'


def _x(value: float, low: float, high: float) -> float:
    return round(_LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)
