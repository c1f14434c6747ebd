"""Changes that a job names with their bug are seen, and not told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from series import run_id, series_key

from perfci.analysis.types import Judgement, Outcome
from perfci.results.model import Metric
from perfci.runs.jobs.procedures import KnownChange
from perfci.runs.verdicts.judge import as_json, exit_code, known_changes, summary, verdict

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
    assert found == replace(SLOWER, outcome=Outcome.KNOWN, reason=f"it is slower; known: {BUG}")


def test_what_is_known_is_not_called_no_change():
    calm = replace(SLOWER, key=series_key("nova"), outcome=Outcome.NO_CHANGE)
    night = [calm, told(SLOWER)]
    assert verdict(night, valid=True, needed=8) == "known regression"
    assert summary(night) == "1 known regression, 1 no change"
    assert as_json(night)[1]["outcome"] == "known regression"
    assert exit_code(night) == 5
    assert exit_code([*night, SLOWER]) == 1
    assert exit_code([calm]) == 0


def test_what_is_too_noisy_comes_before_what_did_not_change():
    calm, noisy = (replace(SLOWER, outcome=one) for one in (Outcome.NO_CHANGE, Outcome.TOO_NOISY))
    assert verdict([calm, noisy], valid=True, needed=8) == "too noisy to tell"


@pytest.mark.parametrize("exception", [{"action": "nova.16f1fbcab42b*"}, {"metric": Metric.ROWS_READ}])
def test_any_other_series_is_told_as_ever(exception):
    assert told(SLOWER, **exception) is SLOWER


def test_what_is_no_regression_needs_no_excuse():
    better = replace(SLOWER, outcome=Outcome.IMPROVEMENT)
    assert told(better) is better
