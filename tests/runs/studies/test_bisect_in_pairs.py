"""A bisect of timings: each revision is measured in pairs with the good end, which is deployed beside it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from bisect_lab import SOON, BisectLab, alert, carries_two, nights, services_on
from git_repositories import Landscape

from perfci.results.model import Metric
from perfci.runs.jobs.model import Job
from perfci.runs.state.progress import Silent
from perfci.runs.studies import bisect as bisecting
from perfci.runs.studies.bisect import bisect
from perfci.runs.studies.bisect_question import of_alert
from perfci.runs.studies.bisect_told import story_of

JOB = Job(
    name="tiny",
    cloud={"services": ["keystone", "neutron"]},
    scenarios=({"task": "neutron-create-and-list-ports", "times": 28},),
)


@pytest.fixture
def land(tmp_path):
    found = Landscape(tmp_path / "base")
    for name in ("keystone", "neutron"):
        found.project(name, {f"{name}/db/api.py": "VALUE = 0\n"})
    return found


@pytest.fixture
def services(land, tmp_path, monkeypatch):
    carries_two(monkeypatch, yes=True)
    return services_on(land, tmp_path / "state")


def merge(land, number=8):
    return [
        land.change(name, {f"{name}/db/part{index}.py": f"VALUE = {index}\n"}, f"Change {index}")
        for index in range(number)
        for name in (("keystone", "neutron")[index % 2],)
    ]


def asked(land, services, *, effect, metric=Metric.RATIO):
    """Have nights before and after the changes, with an alert; return the commits."""
    good = nights(services, JOB, land)
    commits = merge(land)
    bad = nights(services, JOB, land, number=1, factor=1 + effect, start=SOON - timedelta(days=1))
    alert(services, good, bad, effect=effect, metric=metric)
    return commits


def run(services, lab, monkeypatch):
    monkeypatch.setattr(bisecting, "night", lab)
    return bisect(services, of_alert(services, "3f2a"), holder="tester", progress=Silent())


@pytest.mark.parametrize("metric", [Metric.RATIO, Metric.SECONDS])
def test_a_step_far_below_the_scatter_of_the_machine_is_found(land, services, monkeypatch, metric):
    commits = asked(land, services, effect=0.08, metric=metric)
    good = services.job(services.alerts.load().alerts[0].last_good)
    # Run for run the machine is up to twice as slow.
    lab = BisectLab(land, services, {commits[4]: 1.08}, machine=lambda number: 1 + (7 * number % 10) / 10)
    found = run(services, lab, monkeypatch)
    story = story_of(found)
    assert story.end == "culprit", story.verdict
    assert [one.commit for one in story.culprits] == [commits[4]]
    assert found.result.reverted
    assert 0.06 < story.effect < 0.10
    assert "% slower" in story.verdict
    assert "against the reference" not in story.verdict
    references = {one.reference.neutron.ref for one in lab.jobs}
    assert references == {good.sources.neutron.ref}, "the good end is beside every revision"
    levels = {one.what: one.level for one in story.rows}
    assert abs(levels["good end"] - 1) < 0.03
    assert any("ratios to the good end" in one for one in story.remarks)


def test_what_both_clouds_feel_makes_no_culprit(land, services, monkeypatch):
    asked(land, services, effect=0.08)
    lab = BisectLab(land, services, machine=lambda number: 1 + (number % 3) / 4)
    assert run(services, lab, monkeypatch).result.end == "none"


def test_a_cloud_beside_that_stops_is_no_fault_of_a_revision(land, services, monkeypatch):
    commits = asked(land, services, effect=0.08)
    lab = BisectLab(land, services, {commits[4]: 1.08}, left={2: "its neutron died", 3: "its neutron died"})
    found = run(services, lab, monkeypatch)
    assert [one.commit for one in story_of(found).culprits] == [commits[4]]
    assert not found.replayed.reasons


def test_without_room_for_two_clouds_one_is_measured_at_a_time(land, services, monkeypatch):
    carries_two(monkeypatch, yes=False)
    commits = asked(land, services, effect=0.3)
    lab = BisectLab(land, services, {commits[4]: 1.3})
    found = run(services, lab, monkeypatch)
    assert [one.commit for one in story_of(found).culprits] == [commits[4]]
    assert {one.reference for one in lab.jobs} == {None}
    assert any("Two clouds at a time do not fit" in one for one in found.asked.notes)


def test_counters_are_measured_alone(land, services):
    asked(land, services, effect=0.3, metric=Metric.SQL_STATEMENTS)
    question = of_alert(services, "3f2a")
    assert question.course.beside is None
    assert question.series.metric is Metric.SQL_STATEMENTS
