"""`perfci bisect --due`: which alerts are bisected in free time, once each, and that it gives way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from bisect_lab import SOON, BisectLab, alert, carries_two, nights, services_on
from git_repositories import Landscape

from perfci.alerts.model import Closing, SeriesStatus
from perfci.analysis.decision import Decision
from perfci.analysis.types import Basis, Confirmation
from perfci.lab.errors import NodesBusy
from perfci.runs.ansible.playbook import Interrupted
from perfci.runs.jobs.model import Job
from perfci.runs.state.progress import Silent
from perfci.runs.studies import bisect as bisecting
from perfci.runs.studies.bisect_due import bisect_due, due

JOB = Job(
    name="tiny",
    cloud={"services": ["keystone", "neutron"]},
    scenarios=({"task": "neutron-create-and-list-ports", "times": 28},),
    analysis={"bisect": True},
)


@pytest.fixture
def land(tmp_path):
    found = Landscape(tmp_path / "base")
    for name in ("keystone", "neutron"):
        found.project(name, {f"{name}/db/api.py": "VALUE = 0\n"})
    return found


@pytest.fixture
def services(land, tmp_path, monkeypatch):
    carries_two(monkeypatch, yes=False)
    return services_on(land, tmp_path / "state")


def asked(land, services, *, job=JOB, number=4, decision=Decision.DIFFERENT):
    good = nights(services, job, land)
    commits = [
        land.change(name, {f"{name}/db/part{index}.py": f"VALUE = {index}\n"}, f"Change {index}")
        for index in range(number)
        for name in (("keystone", "neutron")[index % 2],)
    ]
    bad = nights(services, job, land, number=1, factor=1.3, start=SOON - timedelta(days=1))
    alert(services, good, bad)
    confirmation = Confirmation(
        decision, Basis.RERUNS, "told", asked=bad, since=bad, worse=True, tail=False, claimed=True
    )
    change(services, series=lambda one: (replace(one.series[0], confirmation=confirmation),))
    return commits


def change(services, **fields):
    state = services.alerts.load()
    (one,) = state.alerts
    made = {name: value(one) if callable(value) else value for name, value in fields.items()}
    services.alerts.save(replace(state, alerts=(replace(one, **made),)))


def go(services, lab, monkeypatch):
    monkeypatch.setattr(bisecting, "night", lab)
    return bisect_due(services, holder="timer", progress=Silent(), until=None, most_runs=60)


def test_a_confirmed_alert_is_bisected_once_and_mailed(land, services, monkeypatch):
    commits = asked(land, services)
    lab = BisectLab(land, services, {commits[1]: 1.3})
    end = go(services, lab, monkeypatch)
    assert (end.stopped, [one.done for one in end.found]) == ("", [True])
    assert set(lab.gave_way) == {True}
    assert commits[1][:10] in end.found[0].story.verdict
    assert (services.state.mail / "new").is_dir()
    assert len(list((services.state.mail / "new").iterdir())) == 1
    measured = len(lab.jobs)
    assert go(services, lab, monkeypatch).found == ()
    assert len(lab.jobs) == measured


@pytest.mark.parametrize("fault", ["not confirmed", "not wanted", "closed", "of another lab"])
def test_what_is_not_due(land, services, fault):
    job = JOB.model_copy(
        update={"analysis": JOB.analysis.model_copy(update={"bisect": fault != "not wanted"})}
    )
    asked(
        land, services, job=job, decision=Decision.UNKNOWN if fault == "not confirmed" else Decision.DIFFERENT
    )
    if fault == "closed":
        change(services, status=SeriesStatus.CLOSED, closing=Closing.FIXED)
    if fault == "of another lab":
        change(services, lab="elsewhere")
    assert due(services) == ()


def test_one_suspect_alone_needs_none(land, services, monkeypatch):
    asked(land, services, number=1)
    lab = BisectLab(land, services)
    end = go(services, lab, monkeypatch)
    assert (lab.jobs, end.stopped) == ([], "")
    assert "one suspect alone" in end.found[0].reason


@pytest.mark.parametrize("how", ["busy", "stopped"])
def test_who_wants_the_nodes_gets_them_and_the_next_start_goes_on(land, services, monkeypatch, how):
    commits = asked(land, services)
    lab = BisectLab(land, services, {commits[1]: 1.3})

    def given_up(job, settings, **options):
        if len(lab.jobs) < 3:
            return lab(job, settings, **options)
        if how == "busy":
            return SimpleNamespace(run=busy)
        return SimpleNamespace(run=lambda: SimpleNamespace(failure={"message": str(Interrupted())}))

    def busy():
        raise NodesBusy(wanted="1 of lab embedded", reservations=())

    end = go(services, given_up, monkeypatch)
    assert end.stopped
    assert not end.found[0].done
    assert services.outbox.status().waiting == 0
    after = go(services, lab, monkeypatch)
    assert after.found[0].done
    assert len(lab.jobs) == len(after.found[0].story.runs)
