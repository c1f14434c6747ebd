"""Changes that a job names with their bug are seen, and not told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from series import run_id, series_key

from perfci.analysis.types import Judgement, Outcome
from perfci.results.model import Metric
from perfci.runs.jobs.procedures import KnownChange
from perfci.runs.verdicts.judge import known_changes

BUG = "https://bugs.launchpad.net/nova/+bug/1"
SLOWER = Judgement(
    series_key("nova.960aac0e09ea_de_duplicate_indexes"),
    run_id(9),
    Outcome.REGRESSION,
    "it is slower",
    effect=0.3,
)


def told(judgement, **exception):
    (found,) = known_changes(
        [judgement], [KnownChange(**{"action": "nova.960aac0e09ea*", "bug": BUG, **exception})]
    )
    return found


def test_a_known_regression_keeps_its_numbers_and_names_the_bug():
    found = told(SLOWER)
    assert found == replace(SLOWER, outcome=Outcome.NO_CHANGE, reason=f"it is slower; known: {BUG}")


@pytest.mark.parametrize("exception", [{"action": "nova.16f1fbcab42b*"}, {"metric": Metric.ROWS_READ}])
def test_any_other_series_is_told_as_ever(exception):
    assert told(SLOWER, **exception) is SLOWER


def test_what_is_no_regression_needs_no_excuse():
    better = replace(SLOWER, outcome=Outcome.IMPROVEMENT)
    assert told(better) is better
