from __future__ import annotations

from dataclasses import replace

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
    found, kept = levels.remembered_changes(shown(45), None, None)
    assert [one.index for one in found] == [30]
    later, again = levels.remembered_changes(shown(45, first=10), kept, None)
    assert [one.index for one in later] == [20]
    assert again == kept
    assert replace(later[0], index=30, earliest=found[0].earliest, latest=found[0].latest) == found[0]


def test_a_change_that_has_left_the_window_is_forgotten():
    _, kept = levels.remembered_changes(shown(45), None, None)
    assert levels.remembered_changes(shown(45, first=31), kept, None)[0] == ()


def test_a_calm_series_is_looked_at_again_now_and_then_and_one_that_moved_at_once(monkeypatch):
    looked = []
    real = levels.level_changes
    monkeypatch.setattr(levels, "level_changes", lambda one: (looked.append(len(one.places)), real(one))[1])
    kept = None
    for last in range(45, 245):
        _, kept = levels.remembered_changes(shown(last, first=max(0, last - 80)), kept, None)
    assert looked[0] == 45
    assert 4 <= len(looked) <= 12  # about every 30 nights of 200
    looked.clear()
    levels.remembered_changes(shown(244, first=164), kept, run_id(240))
    assert looked == [80]


def test_calm_counters_are_not_looked_at():
    key = statements_key("neutron-api", PORTS)
    assert levels.remembered_changes(shown(45, key=key), None, None) == ((), {})
    assert len(levels.remembered_changes(shown(45, key=key), None, run_id(30))[0]) == 1
