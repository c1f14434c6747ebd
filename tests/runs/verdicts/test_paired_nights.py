"""Nights of two clouds side by side: their ratios are judged, and what happens to both sides is no news."""

from __future__ import annotations

import archives
import pytest
from paired_runs import write_sides

from perfci import config
from perfci.analysis.types import Outcome
from perfci.results.archive import read_archive
from perfci.results.model import TOTAL, Metric, Validity
from perfci.runs.verdicts.judge import judge_run
from perfci.runs.verdicts.lab_services import LabServices

BUSY = "processes outside the lab used 9.0% of the CPU time of node-0"
REFERENCE = "aaaaaaaaaaaa"


@pytest.fixture
def controller(tmp_path):
    return LabServices(config.load(environ={"PERFCI_STATE_DIR": str(tmp_path)}))


@pytest.fixture
def play(controller):
    """Play one night, `factor` slower than its reference; return what came out, by (action, metric)."""

    def night(number, *, factor=1.0, both=1.0, reference=REFERENCE, **how):
        folder = archives.night(controller.state.archive, number, reference=reference, **how)
        if reference is not None:
            write_sides(folder, factor=factor, both=both, seed=number)
        results = read_archive(folder)
        controller.local.write(results)
        found = judge_run(controller, results.record)
        return {(one.key.action, one.key.metric): one for one in found}

    return night


def test_the_ratios_have_a_verdict_from_the_first_night_on_and_the_seconds_have_none(play):
    found = play(1)
    whole = found[TOTAL, Metric.RATIO]
    assert whole.outcome is Outcome.NO_CHANGE
    assert whole.location == pytest.approx(1.0, abs=0.02)
    assert "against the reference beside it" in whole.reason
    assert ("neutron.create_port", Metric.RATIO) in found
    assert Metric.SECONDS not in {metric for _, metric in found}


def test_the_seconds_are_kept_beside_the_ratios(play, controller):
    play(1)
    (record,) = controller.local.records("embedded", "nightly")
    assert record.reference == REFERENCE
    kept = {one.key.metric for one in controller.local.measurements([record])}
    assert {Metric.SECONDS, Metric.RATIO} <= kept


def test_a_slow_night_is_seen_at_once(play):
    play(1)
    whole = play(2, factor=1.3, code="bbbbbbbbbbbb")[TOTAL, Metric.RATIO]
    assert whole.outcome is Outcome.REGRESSION
    assert whole.effect == pytest.approx(0.3, abs=0.02)
    assert len(whole.baseline) == 1


@pytest.mark.parametrize("both", [0.3, 1.5, 4.0])
def test_what_happens_to_both_sides_is_never_a_verdict(play, both):
    for number in range(1, 6):
        play(number)
    for number in range(6, 10):
        found = play(number, both=both)
        assert {one.outcome for (_, metric), one in found.items() if metric is Metric.RATIO} == {
            Outcome.NO_CHANGE
        }


def test_on_an_unfit_lab_the_pairs_count_and_nothing_else(play):
    for number in range(1, 4):
        play(number)
    unfit = {"validity": Validity(valid=True, reasons=(BUSY,), pairs_only=True)}
    found = play(4, factor=1.3, both=2.0, code="bbbbbbbbbbbb", **unfit)
    assert found[TOTAL, Metric.RATIO].outcome is Outcome.REGRESSION
    others = {one.outcome for (_, metric), one in found.items() if metric is not Metric.RATIO}
    assert others == {Outcome.INVALID}


def test_a_night_without_its_reference_is_judged_by_its_seconds(play):
    play(1)
    found = play(2, reference=None, environment="ba9876543210")
    assert found[TOTAL, Metric.SECONDS].outcome is Outcome.NO_BASELINE
    assert Metric.RATIO not in {metric for _, metric in found}


def test_another_reference_begins_again(play):
    for number in range(1, 4):
        play(number, factor=1.0 if number < 3 else 1.3)
    found = play(4, reference="cccccccccccc")[TOTAL, Metric.RATIO]
    assert (found.outcome, found.baseline) == (Outcome.NO_CHANGE, ())
