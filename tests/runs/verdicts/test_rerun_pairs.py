"""Nights that are confirmed by pairs: two clouds side by side on made up nodes."""

from __future__ import annotations

import archives
import pytest
from paired_runs import paired_night
from reruns import FakePairLab

from perfci import config
from perfci.alerts.model import NotificationKind
from perfci.analysis.decision import Decision
from perfci.analysis.sequential_test import Side
from perfci.analysis.types import Basis, Outcome
from perfci.results.model import TOTAL, Metric, Validity
from perfci.runs.publish.after_run import Aftermath
from perfci.runs.state.archive import run_folders
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.progress import Silent
from perfci.runs.state.stages import Stages
from perfci.runs.verdicts.lab_services import LabServices

SLOW = {"code": "bbbbbbbbbbbb", "changes": ("slow-lists@1f2e3d4c",)}
REAL = {Side.OLD: 1.0, Side.NEW: 1.12}
NOTHING = {Side.OLD: 1.0, Side.NEW: 1.0}
UNFIT = {"validity": Validity(valid=False, reasons=("the disk is slow",))}


@pytest.fixture
def controller(tmp_path):
    environ = {"PERFCI_STATE_DIR": str(tmp_path), "PERFCI_INFLUX__URL": "http://127.0.0.1:9"}
    return LabServices(config.load(environ=environ))


@pytest.fixture
def play(controller):
    """Play a night, paired with the old code or (`paired=False`) alone; re-runs find what `factors` say."""

    def night(number, factors=NOTHING, *, factor=1.0, both=1.0, paired=True, held=True, **how):
        lab = {key: how.pop(key) for key in ("spoil", "on_run") if key in how}
        archive = controller.state.archive
        if paired:
            folder = paired_night(archive, number, factor=factor, both=both, **how)
        else:
            folder = archives.night(archive, number, factor=factor * both, **how)
        fake = FakePairLab(archive, folder, factors, **lab)
        outcome = Aftermath(controller).of(
            ArchivedRun(folder), Stages(Silent()), fake.nodes() if held else None
        )
        return outcome, fake

    return night


def total(outcome):
    wanted = {Metric.RATIO, Metric.SECONDS}
    return next(one for one in outcome.judgements if one.key.action == TOTAL and one.key.metric in wanted)


def test_a_small_step_of_the_first_night_is_confirmed_by_pairs_and_told(play):
    quiet, lab = play(1)
    assert (lab.jobs, quiet.told) == ([], ())
    outcome, lab = play(2, REAL, factor=1.12, **SLOW)
    assert [one.kind for one in outcome.told] == [NotificationKind.REGRESSION]
    assert 1 <= len(lab.jobs) <= 3
    found = total(outcome).confirmation
    assert (found.decision, found.basis) == (Decision.DIFFERENT, Basis.RERUNS)
    assert found.low < 0.12 < found.high
    assert found.old_runs == found.new_runs == len(lab.jobs)
    assert found.pairs == 28 * len(lab.jobs)
    assert "slow-lists@1f2e3d4c" in found.new
    assert "slow-lists" not in found.old
    assert outcome.told[0].alert.since == outcome.record.run_id


def test_the_two_codes_change_places(play):
    _, lab = play(1, {Side.OLD: 1.0, Side.NEW: 1.06}, factor=1.12, **SLOW)
    assert len(lab.sides) >= 2
    assert lab.sides[:2] == [Side.NEW, Side.OLD]
    first, second = lab.jobs[:2]
    assert first.sources.neutron == second.reference.neutron
    assert first.name == "nightly-confirm"


def test_what_pairs_refute_is_not_told_and_costs_one_or_two_draws(play):
    outcome, lab = play(1, NOTHING, factor=1.09, **SLOW)
    assert outcome.told == ()
    assert 1 <= len(lab.jobs) <= 2
    assert total(outcome).outcome is Outcome.NO_CHANGE
    assert "refuted" in total(outcome).reason


def test_what_both_sides_felt_asks_nothing(play):
    for number in (1, 2, 3):
        outcome, lab = play(number, both=1.0 + number, **SLOW)
        assert lab.jobs == []
        assert outcome.told == ()


def test_the_same_code_on_both_sides_is_never_a_regression(play):
    outcome, lab = play(1, factor=1.5)
    assert lab.jobs == []
    assert outcome.told == ()
    assert total(outcome).outcome is Outcome.INVALID


def test_the_fix_closes_the_alert_in_its_first_night_without_any_re_run(play):
    play(1)
    play(2, REAL, factor=1.12, **SLOW)
    fixed, lab = play(3)
    assert [one.kind for one in fixed.told] == [NotificationKind.CLOSED]
    assert lab.jobs == []


def test_a_change_that_is_known_is_not_asked_about_again(play):
    play(1)
    play(2, REAL, factor=1.12, **SLOW)
    again, lab = play(3, REAL, factor=1.12, **SLOW)
    assert lab.jobs == []
    assert again.told == ()
    assert total(again).outcome is Outcome.REGRESSION


def test_an_improvement_needs_no_re_run(play):
    outcome, lab = play(1, factor=0.5, **SLOW)
    assert lab.jobs == []
    assert [one.kind for one in outcome.told] == [NotificationKind.IMPROVEMENT]


def test_draws_on_an_unfit_lab_do_not_count_and_three_are_the_end(play):
    outcome, lab = play(1, REAL, factor=1.12, spoil=lambda *_: UNFIT, **SLOW)
    assert len(lab.jobs) == 3
    assert outcome.told == ()


def test_a_draw_that_is_valid_for_its_pairs_counts(play):
    busy = {"validity": Validity(valid=True, reasons=("busy",), pairs_only=True)}
    outcome, _ = play(1, REAL, factor=1.12, spoil=lambda *_: busy, **SLOW)
    assert [one.kind for one in outcome.told] == [NotificationKind.REGRESSION]


def test_a_night_of_one_cloud_is_confirmed_by_pairs_where_there_is_room(play):
    for number in range(1, 10):
        play(number, paired=False)
    outcome, lab = play(10, {Side.OLD: 1.0, Side.NEW: 2.0}, factor=2.0, paired=False, **SLOW)
    assert [one.kind for one in outcome.told] == [NotificationKind.REGRESSION]
    assert len(lab.jobs) == 1
    found = total(outcome).confirmation
    assert found.pairs == 28
    assert total(outcome).key.metric is Metric.SECONDS


def test_a_night_that_was_killed_between_undecided_draws_keeps_its_own_verdict(play, controller):
    def kill(number, _stop):
        if number == 2:
            raise KeyboardInterrupt

    small = {Side.OLD: 1.0, Side.NEW: 1.06}
    with pytest.raises(KeyboardInterrupt):
        play(1, small, factor=1.12, on_run=kill, **SLOW)
    (night,) = run_folders(controller.state.archive)
    outcome = Aftermath(controller).of(ArchivedRun(night), Stages(Silent()))
    found = total(outcome).confirmation
    assert (found.decision, found.basis) == (Decision.UNKNOWN, Basis.NOTHING)
    assert "the night was cut short" in found.reason
