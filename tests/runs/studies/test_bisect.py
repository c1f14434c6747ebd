"""`perfci bisect` over git repositories made here, with runs whose speed follows from the code they deploy."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from bisect_lab import SOON, BisectLab, Killed, alert, carries_two, nights, services_on
from git_repositories import Landscape

from perfci.results.model import Metric, Purpose
from perfci.runs.jobs.model import Job
from perfci.runs.state.progress import Silent
from perfci.runs.studies import bisect as bisecting
from perfci.runs.studies.bisect import bisect
from perfci.runs.studies.bisect_question import BisectImpossible, of_alert
from perfci.runs.studies.bisect_told import story_of

JOB = Job(
    name="tiny",
    cloud={"services": ["keystone", "neutron"]},
    scenarios=({"task": "neutron-create-and-list-ports", "times": 28},),
)
SLOW = "Slow <b>ports</b>"


@pytest.fixture
def land(tmp_path):
    found = Landscape(tmp_path / "base")
    for name in ("keystone", "neutron"):
        found.project(name, {f"{name}/db/api.py": "VALUE = 0\n", f"{name}/tests/test_a.py": "1\n"})
    return found


@pytest.fixture
def services(land, tmp_path, monkeypatch):
    carries_two(monkeypatch, yes=False)
    return services_on(land, tmp_path / "state")


def merge(land, number=8, *, slow_at=5):
    """Merge changes in turns to both projects; return their commits, and add what is no suspect between."""
    found = []
    for index in range(1, number + 1):
        name = ("keystone", "neutron")[index % 2]
        subject = SLOW if index == slow_at else f"Change {index}"
        found.append(land.change(name, {f"{name}/db/part{index}.py": f"VALUE = {index}\n"}, subject))
        if index == 3:
            land.change("neutron", {"doc/source/ports.rst": "words\n"}, "Only words")
            land.change("neutron", {"neutron/tests/test_b.py": "2\n"}, "Only tests")
    return found


def asked(land, services, *, slow_at=5, number=8, effect=0.3):
    """Have nights before and after the changes, with an alert; return the commits."""
    good = nights(services, JOB, land)
    commits = merge(land, number, slow_at=slow_at)
    bad = nights(services, JOB, land, number=1, factor=1.3, start=SOON - timedelta(days=1))
    alert(services, good, bad, effect=effect)
    return commits


def run(services, lab, monkeypatch, **options):
    monkeypatch.setattr(bisecting, "night", lab)
    question = of_alert(services, "3f2a", **options)
    return bisect(services, question, holder="tester", progress=Silent())


def test_the_slow_change_is_found_and_proven(land, services, monkeypatch):
    commits = asked(land, services)
    lab = BisectLab(land, services, {commits[4]: 1.3})
    found = run(services, lab, monkeypatch)
    story = story_of(found)
    assert story.end == "culprit", story.verdict
    assert [one.commit for one in story.culprits] == [commits[4]]
    assert found.result.reverted
    assert 0.25 < found.result.effect < 0.35
    assert story.address == "ada@example.org"
    assert "reverting it brings the newest revision back to the old level" in story.verdict
    assert len(lab.jobs) <= 20
    assert {one.name for one in lab.jobs} == {"tiny-bisect"}
    purposes = {services.archived(one).record.purpose for one in story.runs}
    assert purposes == {Purpose.BISECT}
    assert services.outbox.status().waiting == 0
    assert json.loads(json.dumps(story.as_dict()))["culprits"][0]["subject"] == SLOW


def test_one_that_was_killed_goes_on_with_the_runs_there_are(land, services, monkeypatch):
    commits = asked(land, services)
    whole = BisectLab(land, services, {commits[4]: 1.3}, kill_at=4)
    with pytest.raises(Killed):
        run(services, whole, monkeypatch)
    whole.kill_at = 9
    with pytest.raises(Killed):
        run(services, whole, monkeypatch)
    found = run(services, whole, monkeypatch)
    assert len(found.replayed.used) == len(whole.jobs)
    assert found.result.end == "culprit"
    again = run(services, whole, monkeypatch)
    assert again.result == found.result
    assert len(whole.jobs) == len(found.replayed.used), "an answered question measures nothing"


def test_the_next_question_about_the_same_revisions_begins_with_the_runs_there_are(
    land, services, monkeypatch
):
    commits = asked(land, services)
    lab = BisectLab(land, services, {commits[4]: 1.3})
    run(services, lab, monkeypatch)
    before = len(lab.jobs)
    state = services.alerts.load()
    (old,) = state.alerts
    key = replace(old.series[0].key, action="neutron.create_port")
    other = replace(old, id="77aa", series=(replace(old.series[0], key=key),))
    services.alerts.save(replace(state, alerts=(other,)))
    question = of_alert(services, "77aa")
    found = bisect(services, question, holder="tester", progress=Silent())
    assert found.result.end == "culprit"
    assert len(lab.jobs) - before < 4
    assert len({one.run.run_id for one in found.replayed.used}) == len(found.replayed.used)


def test_a_revision_that_does_not_deploy_is_skipped_and_said(land, services, monkeypatch):
    commits = asked(land, services, slow_at=6)
    lab = BisectLab(land, services, {commits[5]: 1.3})
    # Broken from the fourth change on, mended by the fifth.
    lab.fails = lambda job: lab.has(job, commits[3]) and not lab.has(job, commits[4])
    found = run(services, lab, monkeypatch)
    assert [one.commit for one in story_of(found).culprits] == [commits[5]]


def test_steps_that_no_revision_tells_apart_are_named_together(land, services, monkeypatch):
    commits = asked(land, services, slow_at=5)
    lab = BisectLab(land, services, {commits[4]: 1.3})
    lab.fails = lambda job: lab.has(job, commits[3]) and not lab.has(job, commits[4])
    story = story_of(run(services, lab, monkeypatch))
    assert story.end == "culprit"
    assert {one.commit for one in story.culprits} == set(commits[3:5])
    assert story.address is None
    assert "a revision between them" in story.verdict
    assert any("Left out" in one and "nova-api did not answer" in one for one in story.remarks)


def test_an_end_that_does_not_deploy_is_the_answer(land, services, monkeypatch):
    commits = asked(land, services)
    lab = BisectLab(land, services, broken={commits[-1]})
    found = run(services, lab, monkeypatch)
    story = story_of(found)
    assert (story.end, found.exit_code) == ("nothing left", 3)
    assert "the bad end does not deploy (nova-api did not answer)" in story.verdict
    assert len(lab.jobs) == 3, "what fails once is tried once more"


def test_runs_on_an_unfit_lab_do_not_count(land, services, monkeypatch):
    commits = asked(land, services)
    lab = BisectLab(land, services, {commits[4]: 1.3}, unfit={2, 5})
    found = run(services, lab, monkeypatch)
    assert found.result.end == "culprit"
    assert len(found.replayed.used) == len(lab.jobs) - 2


def test_three_in_a_row_that_do_not_count_end_it_for_now(land, services, monkeypatch):
    asked(land, services)
    lab = BisectLab(land, services, unfit=set(range(1, 9)))
    found = run(services, lab, monkeypatch)
    assert (found.result, found.exit_code) == (None, 3)
    assert "a neighbour was loud" in story_of(found).verdict


def test_runs_of_another_environment_are_not_mixed_in(land, services, monkeypatch):
    commits = asked(land, services)
    lab = BisectLab(land, services, {commits[4]: 1.3}, kill_at=5)
    with pytest.raises(Killed):
        run(services, lab, monkeypatch)
    lab.facts = {"kernel": "6.1.0-42"}
    found = run(services, lab, monkeypatch)
    assert found.result.end == "culprit"
    assert len(found.replayed.used) == len(lab.jobs) - 4


def test_ends_that_do_not_differ_are_none(land, services, monkeypatch):
    asked(land, services)
    found = run(services, BisectLab(land, services), monkeypatch)
    story = story_of(found)
    assert (story.end, story.culprits, found.exit_code) == ("none", (), 0)
    assert "None of the 8" in story.verdict.replace("\u00a0", " ")


def test_two_changes_are_several(land, services, monkeypatch):
    commits = asked(land, services)
    lab = BisectLab(land, services, {commits[1]: 1.15, commits[6]: 1.15})
    story = story_of(run(services, lab, monkeypatch))
    assert story.end == "several", story.verdict
    assert {one.commit for one in story.culprits} <= {commits[1], commits[6]}
    assert (story.address, story.proven) == (None, False)


def test_what_comes_after_it_can_stand_in_the_way_of_its_revert(land, services, monkeypatch):
    commits = asked(land, services)
    land.change("neutron", {"neutron/db/part5.py": "VALUE = 55\n"}, "Rewrite it")
    lab = BisectLab(land, services, {commits[4]: 1.3})
    found = run(services, lab, monkeypatch)
    story = story_of(found)
    assert story.end == "culprit"
    assert not found.result.reverted
    assert "later changes of neutron/db/part5.py are in the way" in story.verdict


def test_a_change_of_comments_alone_is_refused_and_the_search_goes_on(land, services, monkeypatch):
    good = nights(services, JOB, land)
    commits = merge(land, 4, slow_at=3)
    text = '"""A module."""\n\n# and more\nVALUE   =   3\n'
    comments = land.change("neutron", {"neutron/db/part3.py": text}, "Comment it")
    bad = nights(services, JOB, land, number=1, factor=1.3, start=SOON - timedelta(days=1))
    alert(services, good, bad)
    lab = BisectLab(land, services, {commits[2]: 1.3})
    question = of_alert(services, "3f2a")
    assert [question.course.steps[number - 1].change.commit for number in question.course.refused] == [
        comments
    ]
    found = run(services, lab, monkeypatch)
    assert [one.commit for one in story_of(found).culprits] == [commits[2]]
    assert any("comments and the layout" in one for one in story_of(found).remarks)


def test_a_slow_change_that_is_no_suspect_is_not_blamed_on_its_neighbour(land, services, monkeypatch):
    good = nights(services, JOB, land)
    merge(land, 4, slow_at=0)
    hidden = land.change("neutron", {"neutron/tests/test_b.py": "import time\n"}, "Tests, they say")
    land.change("neutron", {"neutron/db/part9.py": "VALUE = 9\n"}, "Innocent")
    bad = nights(services, JOB, land, number=1, factor=1.3, start=SOON - timedelta(days=1))
    alert(services, good, bad)
    story = story_of(run(services, BisectLab(land, services, {hidden: 1.3}), monkeypatch))
    assert (story.end, story.address) == ("unproven", None)
    assert "not slower than its parent" in story.verdict


def test_too_few_runs_say_how_many_more(land, services, monkeypatch):
    commits = asked(land, services)
    lab = BisectLab(land, services, {commits[4]: 1.3})
    found = run(services, lab, monkeypatch, most_runs=4)
    assert (found.result.end, found.exit_code) == ("too noisy", 3)
    assert "more run" in story_of(found).verdict
    assert len(lab.jobs) <= 4


def test_time_that_is_up_ends_it_for_now(land, services, monkeypatch):
    commits = asked(land, services)
    lab = BisectLab(land, services, {commits[4]: 1.3})
    monkeypatch.setattr(bisecting, "night", lab)
    question = of_alert(services, "3f2a")
    found = bisect(services, question, holder="t", progress=Silent(), until=SOON - timedelta(days=9))
    assert (found.result, found.exit_code, lab.jobs) == (None, 3, [])
    assert "no time" in story_of(found).verdict


def test_without_a_suspect_there_is_nothing_to_bisect(land, services):
    good = nights(services, JOB, land)
    land.change("neutron", {"doc/source/ports.rst": "words\n"}, "Only words")
    bad = nights(services, JOB, land, number=1, factor=1.3, start=SOON - timedelta(days=1))
    alert(services, good, bad)
    with pytest.raises(BisectImpossible, match="no change can have reached the cloud"):
        of_alert(services, "3f2a")


def test_what_may_be_nothing_at_all_is_not_bisected(land, services):
    good = nights(services, JOB, land)
    merge(land, 2)
    bad = nights(services, JOB, land, number=1, start=SOON - timedelta(days=1))
    alert(services, good, bad, metric=Metric.FAILURE_RATE)
    with pytest.raises(BisectImpossible, match="failure_rate"):
        of_alert(services, "3f2a")
