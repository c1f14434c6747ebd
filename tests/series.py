"""Histories for the tests of the analysis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from perfci.analysis.types import RunPoint, SeriesHistory
from perfci.results.model import Metric, SeriesKey

if TYPE_CHECKING:
    from collections.abc import Sequence


def series_key(action: str = "neutron.create_network", metric: Metric = Metric.SECONDS) -> SeriesKey:
    return SeriesKey(
        "embedded", "short", "NeutronNetworks.create_and_list_networks", "0a1b2c3d", action, metric
    )


def run_id(night: int) -> str:
    return f"20260101-{night:06d}"


def point(night: int, values: Sequence[float], **fields: object) -> RunPoint:
    known = {
        "run_id": run_id(night),
        "environment": "e0",
        "code": f"c{night}",
        "values": tuple(float(v) for v in values),
        "attempts": len(values),
        "failures": 0,
        "valid": True,
    }
    return RunPoint(**{**known, **fields})


@dataclass
class Histories:
    """Makes histories whose truth is known."""

    rng: np.random.Generator

    def timings(
        self,
        levels: Sequence[float],
        *,
        action: str = "neutron.create_network",
        between: float = 0.03,
        within: float = 0.06,
        iterations: int = 40,
        **fields: object,
    ) -> SeriesHistory:
        """One run per level; log-normal iterations around it, log-normal run effects."""
        points = []
        for night, level in enumerate(levels):
            run = self.rng.normal(0, between)
            values = level * np.exp(run + self.rng.normal(0, within, iterations))
            points.append(point(night, values, **fields))
        return SeriesHistory(series_key(action), tuple(points))

    def counters(
        self,
        levels: Sequence[float],
        *,
        action: str = "neutron",
        metric: Metric = Metric.SQL_STATEMENTS,
        noise: float = 0.002,
    ) -> SeriesHistory:
        """One value a run."""
        values = np.asarray(levels) * np.exp(self.rng.normal(0, noise, len(levels)))
        points = tuple(point(night, [v]) for night, v in enumerate(values))
        return SeriesHistory(series_key(action, metric), points)

    @staticmethod
    def failures(counts: Sequence[int], *, attempts: int = 40, action: str = "total") -> SeriesHistory:
        points = tuple(
            point(night, [count / attempts], attempts=attempts, failures=count)
            for night, count in enumerate(counts)
        )
        return SeriesHistory(series_key(action, Metric.FAILURE_RATE), points)


def until(history: SeriesHistory, night: int) -> SeriesHistory:
    """The history as it was after a night."""
    return SeriesHistory(history.key, tuple(p for p in history.points if p.run_id <= run_id(night)))
