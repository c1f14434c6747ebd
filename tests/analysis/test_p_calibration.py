"""The ranked false alarms answer as a plain look at all of them does."""

from __future__ import annotations

import math
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from perfci.analysis.p_calibration import BEFORE, Alarm, FalseAlarms

P_VALUES = st.sampled_from([1e-300, 1e-5, 1e-4, 0.001]) | st.floats(1e-9, 0.9)
ALARMS = st.builds(Alarm, st.sampled_from([1, 2]), P_VALUES, st.sampled_from([1.0, 0.5]) | st.floats(0.01, 1))
KNOWN = st.builds(FalseAlarms, st.sampled_from([0.0, 1.0, 5e4]), st.lists(ALARMS, max_size=12))


def calibrated(known: FalseAlarms, window: int, p: float) -> float:
    stronger = math.fsum(a.weight for a in known.seen if a.window == window and a.p_value <= p)
    return min(1.0, p + stronger / (BEFORE + known.judged))


@settings(max_examples=300, deadline=None)
@given(KNOWN, st.sampled_from([1, 2, 3]), P_VALUES)
def test_a_p_value_is_calibrated_by_the_alarms_that_are_as_strong(known, window, p):
    assert known.calibrated(window, p) == calibrated(known, window, p)


@settings(max_examples=300, deadline=None)
@given(KNOWN, st.sampled_from([1, 2, 3]), P_VALUES | st.just(0.0))
def test_what_is_needed_is_the_largest_p_value_that_is_calibrated_to_the_target(known, window, target):
    needed = known.needed(window, target)
    assert needed <= target
    slack = 1e-12 * target  # target - weight and p + weight are rounded differently
    if needed > 0:
        assert calibrated(known, window, needed) <= target + slack
    above = [a.p_value for a in known.seen if a.window == window and a.p_value > needed]
    for larger in (math.nextafter(needed, 1.0) + 1e-9, *above):
        assert calibrated(known, window, larger) > target - slack


def test_alarms_that_come_later_count_at_once():
    known = FalseAlarms()
    known.note({2: 1e-4})
    first = known.needed(2, 0.005)
    known.note({2: 1e-5})
    second = known.needed(2, 0.005)
    assert second < first < 0.005
    known.night(100_000)
    assert known.needed(2, 0.005) > second


def test_a_lab_with_thousands_of_false_alarms_asks_for_every_series():
    known = FalseAlarms(5e5, [Alarm(2, 10 ** -(2 + n / 1000), 0.9) for n in range(5000)])
    begun = time.process_time()
    for _ in range(10_000):
        known.needed(2, 1e-4)
        known.calibrated(2, 1e-5)
    assert time.process_time() - begun < 5, "with all alarms for each series it takes minutes"
