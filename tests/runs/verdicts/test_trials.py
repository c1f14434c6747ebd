"""The driver of trials, under rules with made-up results: budgets, what does not count, stops and kills."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import archives
import pytest
import yaml

from perfci import config
from perfci.errors import LabError
from perfci.results.model import Validity
from perfci.runs.jobs.model import Job
from perfci.runs.verdicts.lab_services import LabServices
from perfci.runs.verdicts.trials import Spoilt, TrialBudget, Trials, Why, measured, unfinished


class CableCut(LabError):
    """A machine is gone."""

    template = "the cable is cut"
    help = "Plug it in."


class InTurns:
    """Wants so many runs of each side, the cheapest first where costs are known; a name may be spoilt."""

    def __init__(self, *sides: str, each: int = 2) -> None:
        self.sides, self.each = sides, each

    def next_side(self, done, seconds):
        wanted = [side for side in self.sides if done.count(side) < self.each]
        return min(wanted, key=lambda side: seconds.get(side, 0.0)) if wanted else None

    def observe(self, folder, wanted):
        found = folder.name.partition("@")[0]
        return Spoilt("it was raining") if folder.name.endswith("!") else found


class Lab:
    """Runs a side in no time at all; its clock says otherwise."""

    def __init__(self, minutes=None, spoil=()):
        self.minutes, self.spoil = minutes or {}, set(spoil)
        self.time, self.ran = datetime(2026, 11, 30, tzinfo=UTC), []

    def now(self):
        return self.time

    def measure(self, side):
        self.ran.append(side)
        self.time += timedelta(minutes=self.minutes.get(side, 1))
        return Path(f"{side}@{len(self.ran)}" + ("!" if len(self.ran) in self.spoil else ""))


def tried(rule, lab, budget=TrialBudget(), **how):  # noqa: B008 - immutable
    trials = Trials(rule, now=lab.now)
    return trials, trials.run(lab.measure, budget, **how)


def test_any_number_of_sides_until_the_rule_knows_enough():
    trials, end = tried(InTurns("a", "b", "c"), lab := Lab())
    assert end.why is Why.DECIDED
    assert sorted(trials.done) == ["a", "a", "b", "b", "c", "c"]
    assert end.tried == len(lab.ran) == 6


def test_a_rule_may_choose_by_what_a_side_costs():
    _, end = tried(InTurns("dear", "cheap", each=3), lab := Lab({"dear": 30, "cheap": 2}))
    assert end.why is Why.DECIDED
    assert lab.ran == ["dear", "cheap", "cheap", "cheap", "dear", "dear"]


def test_runs_that_do_not_count_are_made_up_for_and_cost_runs():
    trials, end = tried(InTurns("a", each=3), Lab(spoil=[1, 2, 4]), TrialBudget(most_runs=6))
    assert (end.why, end.tried, trials.done) == (Why.DECIDED, 6, ["a"] * 3)
    _, end = tried(InTurns("a", each=3), Lab(spoil=[1, 2, 4]), TrialBudget(most_runs=5))
    assert (end.why, end.tried) == (Why.RUNS, 5)


def test_too_many_in_a_row_that_do_not_count_are_the_end():
    trials, end = tried(InTurns("a", each=3), lab := Lab(spoil=[2, 3, 4]))
    assert (end.why, len(lab.ran), trials.done) == (Why.SPOILT, 4, ["a"])
    assert end.spoilt == (Spoilt("it was raining"),) * 3


def test_the_last_run_may_decide():
    assert tried(InTurns("a"), Lab(), TrialBudget(most_runs=2))[1].why is Why.DECIDED


def test_no_run_begins_that_would_not_end_in_time():
    lab = Lab({"a": 10, "b": 40})
    until = lab.time + timedelta(minutes=65)
    trials, end = tried(InTurns("a", "b"), lab, TrialBudget(until=until))
    assert (end.why, trials.done) == (Why.TIME, ["a", "b", "a"]), "a second b would take 40 of 5 minutes"
    assert lab.time <= until


def test_a_run_that_was_interrupted_is_not_looked_at():
    stop, lab = threading.Event(), Lab()

    def measure(side):
        stop.set()
        return lab.measure(side)

    trials = Trials(InTurns("a"), now=lab.now)
    end = trials.run(measure, TrialBudget(), stop)
    assert (end.why, trials.done, len(lab.ran)) == (Why.STOPPED, [], 1)
    assert trials.run(measure, TrialBudget(), stop).why is Why.STOPPED
    assert len(lab.ran) == 1


def test_a_side_that_can_not_be_run_ends_it_and_what_was_measured_counts():
    lab = Lab()

    def measure(side):
        if lab.ran:
            raise CableCut
        return lab.measure(side)

    trials = Trials(InTurns("a"), now=lab.now)
    end = trials.run(measure, TrialBudget())
    assert (end.why, trials.done) == (Why.ERROR, ["a"])
    assert isinstance(end.error, CableCut)


def test_after_a_kill_it_goes_on_with_what_was_measured():
    lab = Lab()
    trials = Trials(InTurns("a", "b"), now=lab.now)
    for name in ("a@1", "b@2!", "a@3"):
        trials.resume(Path(name))
    end = trials.run(lab.measure, TrialBudget(most_runs=5))
    assert (end.why, lab.ran) == (Why.DECIDED, ["b", "b"])
    assert trials.done == ["a", "a", "b", "b"]


@pytest.fixture
def controller(tmp_path):
    return LabServices(config.load(environ={"PERFCI_STATE_DIR": str(tmp_path), "PERFCI_LAB": "embedded"}))


def archived(controller, number, job=None, **how):
    folder = archives.night(controller.state.archive, number, **how)
    if job is not None:
        (folder / "job.yml").write_text(yaml.safe_dump(job.resolved()))
    return folder


def test_what_says_nothing_does_not_count(controller):
    assert measured(archived(controller, 1)).record.run_id
    failed = measured(archived(controller, 2, status="failed"))
    assert "failed: nova-api did not answer" in failed.reason
    unfit = measured(archived(controller, 3, validity=Validity(valid=False, reasons=("the disk is slow",))))
    assert unfit == Spoilt("the lab was not fit to measure: the disk is slow")
    damaged = archived(controller, 4)
    (damaged / "tasks.json").write_text("{")
    assert "tasks.json" in measured(damaged).reason


def test_runs_of_a_trial_that_was_cut_short_are_found_again(controller):
    first = archived(controller, 1)
    job = controller.job(first.name)
    since = datetime(2020, 1, 1, tzinfo=UTC)
    fixed = Job.model_validate({**job.resolved(), "sources": {"neutron": {"version": "29.0.0"}}})
    other = Job.model_validate({**job.resolved(), "description": "another one", "nodes": 2})
    second = archived(controller, 2, fixed)
    third = archived(controller, 3, other)
    archived(controller, 4, status="failed")
    assert unfinished(controller, [job], since=since) == [first, second]
    assert unfinished(controller, [other], since=since) == [third]
    assert unfinished(controller, [job], since=datetime.now(UTC)) == []


def test_runs_whose_sources_differ_from_the_start_are_of_another_trial(controller):
    first = archived(controller, 1)
    job = controller.job(first.name)
    edited = Job.model_validate({**job.resolved(), "sources": {"neutron": {"version": "29.0.0"}}})
    since = datetime(2020, 1, 1, tzinfo=UTC)
    assert unfinished(controller, [edited], since=since) == []
