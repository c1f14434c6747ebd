"""Alerts fed by the real analysis, on iterations drawn from recorded reports."""

from __future__ import annotations

import pytest
from nights import NETWORKS, PATCH, PORTS, SLOW, History, run_id, seconds_key

from perfci.alerts.lifecycle import process
from perfci.alerts.model import AlertState, JudgedRun, NotificationKind
from perfci.analysis.verdict import judge


def played(nights, seed):
    history, state, told = History(seed=seed), AlertState(), []
    for slowed in nights:
        run = history.play(*((PATCH,) if slowed else ()), factors=slowed)
        state, new = process(state, JudgedRun(run, judge(history.histories()), history.records))
        told += new
    return state, told


@pytest.mark.parametrize("seed", [1, 3])
def test_a_slow_down_is_told_once_with_its_size_and_cause_and_closed_once(seed):
    state, told = played([None] * 12 + [SLOW] * 4 + [None] * 4, seed)
    assert [one.kind for one in told] == [NotificationKind.REGRESSION, NotificationKind.CLOSED]
    (alert,) = state.alerts
    assert (alert.service, alert.since, alert.last_good) == ("neutron", run_id(12), run_id(11))
    assert alert.changes[0].after.changes == (PATCH,)
    effects = {(one.key.action, one.key.scenario): (one.low, one.high) for one in alert.series}
    assert set(effects) <= set(SLOW)
    low, high = effects["neutron.create_port", PORTS]
    assert low < 0.31 < high
    assert alert.leading.key == seconds_key("neutron.create_port", PORTS)


def test_quiet_nights_tell_nothing():
    assert played([None] * 20, seed=7) == (AlertState(processed={"embedded/nightly": run_id(19)}), [])


def test_one_bad_night_is_no_regression():
    spike = {("total", NETWORKS): 1.4, ("neutron.create_network", NETWORKS): 1.5}
    _, told = played([None] * 12 + [spike] + [None] * 4, seed=2)
    assert NotificationKind.REGRESSION not in [one.kind for one in told]
