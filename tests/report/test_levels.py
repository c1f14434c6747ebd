from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from nights import PORTS, run_id, seconds_key, statements_key

from perfci.analysis.types import RunPoint, SeriesHistory
from perfci.report import levels
from perfci.report.points import trend_of

KEY = seconds_key("total", PORTS)


def shown(last, first=0, key=KEY):
    points = tuple(
        RunPoint(
            run_id(n), "e", "c", (40 * (1.4 if n >= 30 else 1.0) * (1 + 0.01 * (n % 3)),), 1, 0, valid=True
        )
        for n in range(first, last)
    )
    return trend_of(SeriesHistory(key, points))


def test_what_was_found_is_remembered_by_runs_and_moves_with_the_window():
    found, kept = levels.remembered_changes(shown(45), None, moved=False)
    assert [one.index for one in found] == [30]
    later, again = levels.remembered_changes(shown(45, first=10), kept, moved=False)
    assert [one.index for one in later] == [20]
    assert again == kept
    assert replace(later[0], index=30, earliest=found[0].earliest, latest=found[0].latest) == found[0]


def test_a_change_that_has_left_the_window_is_forgotten():
    _, kept = levels.remembered_changes(shown(45), None, moved=False)
    assert levels.remembered_changes(shown(45, first=31), kept, moved=False)[0] == ()


def test_a_calm_series_is_looked_at_again_now_and_then_and_one_that_moved_at_once(monkeypatch):
    looked = []
    real = levels.level_changes
    monkeypatch.setattr(levels, "level_changes", lambda one: (looked.append(len(one.places)), real(one))[1])
    kept = None
    for last in range(45, 90):
        _, kept = levels.remembered_changes(shown(last), kept, moved=False)
    assert looked[0] == 45
    assert 1 < len(looked) < 12
    assert max(b - a for a, b in pairwise(looked)) <= 2 * levels.LOOKED_BACK
    looked.clear()
    levels.remembered_changes(shown(89), kept, moved=True)
    assert looked == [89]


def test_calm_counters_are_not_looked_at():
    key = statements_key("neutron-api", PORTS)
    assert levels.remembered_changes(shown(45, key=key), None, moved=False) == ((), {})
    assert len(levels.remembered_changes(shown(45, key=key), None, moved=True)[0]) == 1
