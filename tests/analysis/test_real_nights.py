"""Real repeats of unchanged code on a dedicated host (tests/data/aa_extract.csv names the source)."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from series import point, run_id, series_key

from perfci.analysis.settings import AnalysisSettings
from perfci.analysis.types import Judgement, Outcome, RunPoint, SeriesHistory
from perfci.analysis.verdict import judge

if TYPE_CHECKING:
    from perfci.results.model import SeriesKey

EXTRACT = Path(__file__).parent.parent / "data" / "aa_extract.csv"
KERNEL_UPDATE, HOST_CHANGE = 4, 41
CHANGED = {Outcome.REGRESSION, Outcome.IMPROVEMENT}


def nights() -> dict[SeriesKey, list[float]]:
    lines = [line for line in EXTRACT.read_text().splitlines() if not line.startswith("#")]
    rows = list(csv.reader(lines))[1:]
    return {series_key(row[0]): [float(v) for v in row[1:]] for row in rows}


def history(key: SeriesKey, values: list[float], length: int) -> SeriesHistory:
    def at(night: int) -> RunPoint:
        environment = "before the update" if night < KERNEL_UPDATE else "after it"
        return point(night, [values[night]], environment=environment)

    return SeriesHistory(key, tuple(at(night) for night in range(length)))


def judged(
    values: dict[SeriesKey, list[float]], length: int, *, canaries: int = 0, floor: float = 0.01
) -> tuple[Judgement, ...]:
    """Judge the first nights, the first few series serving as canaries."""
    made = [history(key, v, length) for key, v in values.items()]
    return judge(made[canaries:], AnalysisSettings(latency_floor=floor), canaries=made[:canaries])


def test_thirty_six_quiet_nights_are_silent_at_a_floor_of_one_percent() -> None:
    values = nights()
    for length in range(KERNEL_UPDATE + 9, HOST_CHANGE, 4):
        assert not {j.outcome for j in judged(values, length)} & CHANGED


def test_the_change_of_the_host_is_not_blamed_on_the_code() -> None:
    values = nights()
    blamed = [j for j in judged(values, HOST_CHANGE + 2) if j.outcome is Outcome.REGRESSION]
    assert len(blamed) > len(values) / 2
    for judgement in judged(values, HOST_CHANGE + 2, canaries=3):
        assert judgement.outcome is Outcome.NO_BASELINE


@pytest.mark.parametrize("size", [1.02, 1.05])
def test_a_step_put_into_the_real_noise_is_found_on_the_second_night(size: float) -> None:
    values = nights()
    step = 25
    stepped = {
        key: [v * size if i % 4 == 0 and n >= step else v for n, v in enumerate(row)]
        for i, (key, row) in enumerate(values.items())
    }
    answers = judged(stepped, step + 2)
    found = [j for i, j in enumerate(answers) if i % 4 == 0]
    hits = [j for j in found if j.outcome is Outcome.REGRESSION and j.since == run_id(step)]
    assert len(hits) >= 0.8 * len(found)
    assert not {j.outcome for i, j in enumerate(answers) if i % 4} & CHANGED
