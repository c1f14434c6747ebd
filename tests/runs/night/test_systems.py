"""Which system machines get for a run: decided on plain values, then seen over a whole night with re-runs."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

import pytest
from recorded_playbooks import Recorded, raising

from perfci import config
from perfci.errors import InternalError
from perfci.lab.sql import open_ledger
from perfci.runs.ansible.playbook import PlaybookFailed
from perfci.runs.jobs.load import load_job
from perfci.runs.night import night as night_module
from perfci.runs.night.assemble import night
from perfci.runs.night.systems import DIFFERENCES, Reuse, System, candidates, why_not
from perfci.runs.night.take_back import LOG, NotTakenBack, kept_machines
from perfci.runs.publish.after_run import Aftermath
from perfci.runs.publish.hardware_alarms import HardwareLook
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.progress import Silent
from perfci.runs.state.run_folder import utc_now
from perfci.runs.verdicts.rerun_jobs import rerun_job

JOB = "name: tiny\nprovision: {{reimage_every: {every}}}\nscenarios:\n  - {{task: ports, times: 4, warmup: 2}}\n"
RUN = ["setup", "deploy", "hammer", "collect", "teardown"]
FRESH = ["supplies", "provision", *RUN]
AGAIN = ["supplies", "reuse", *RUN]
FIRST = System("r1", 1)


def chosen(kept, taken=("n1", "n2"), **more):
    return candidates(kept, taken, **{"count": 2, "reimage_every": 3, **more})


def test_machines_of_an_earlier_run_may_be_used_again():
    kept = dict.fromkeys(("n1", "n2", "n3"), FIRST)
    assert chosen(kept, ("n2", "n1")) == Reuse(("n1", "n2"), FIRST)
    assert chosen(kept, ("n3", "n2", "n1")) == Reuse(("n1", "n2"), FIRST), "a spare stays as it is"
    assert chosen(dict.fromkeys(kept, System("r1", 2))) == Reuse(("n1", "n2"), System("r1", 2))


def test_the_first_run_needs_no_reason():
    assert chosen({}) == ""


@pytest.mark.parametrize(
    ("kept", "more", "reason"),
    [
        ({"n1": FIRST}, {}, "only n1 of the 2 machines had a system of an earlier run"),
        ({"n1": FIRST, "n2": System("r2", 1)}, {}, "different runs provisioned the machines"),
        (dict.fromkeys(("n1", "n2"), System("r1", 3)), {}, "provision.reimage_every allows 3 deployments"),
        (dict.fromkeys(("n1", "n2"), FIRST), {"unfit": "devstack is it"}, "devstack is it"),
    ],
)
def test_why_machines_get_a_fresh_image(kept, more, reason):
    assert chosen(kept, **more).startswith(reason)


def test_only_machines_without_any_difference_are_used_again():
    assert why_not({"n1": [], "n2": [], "n3": ["x"]}, ("n1", "n2")) == ""
    assert why_not({"n1": ["a", "b", "c", "d"], "n2": []}, ("n1", "n2")) == "n1: a; b; c; and 1 more"
    assert why_not({"n1": []}, ("n1", "n2")) == "n2: nothing is known of it"
    for garbage in (None, [], "x", {"n1": "x"}, {"n1": None}):
        assert why_not(garbage, ("n1",)) == "n1: nothing is known of it"


@pytest.fixture
def settings(tmp_path):
    for folder in ("playbooks", "inventory/embedded", "jobs/tasks"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "inventory/embedded/hosts.yml").write_text(
        "cloud: {hosts: {node-1: {bmc_address: 192.0.2.1}, node-2: {bmc_address: 192.0.2.2}}}\n"
    )
    (tmp_path / "jobs/tiny.yml").write_text(JOB.format(every=3))
    (tmp_path / "jobs/tasks/ports.yml.j2").write_text("{}\n")
    return config.load(
        environ={
            "PERFCI_ROOT_DIR": str(tmp_path),
            "PERFCI_STATE_DIR": str(tmp_path / "state"),
            "PERFCI_INFLUX__URL": "http://127.0.0.1:9",
        }
    )


class Told(Silent):
    """Remembers what was said."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def finds(*differences):
    """Return a playbook `reuse` that finds these on node-1."""
    return lambda folder: (folder / DIFFERENCES).write_text(json.dumps({"node-1": list(differences)}))


@pytest.fixture(autouse=True)
def looked(monkeypatch):
    """At which machines' hardware was looked, in place of asking BMCs that are not there."""
    looked = []

    def look(_settings, nodes):
        looked.append(list(nodes))
        return HardwareLook()

    monkeypatch.setattr(night_module, "look_at_hardware", look)
    return looked


@pytest.fixture
def played(monkeypatch):
    return Recorded(instead={"reuse": finds()}).install(monkeypatch)


def with_reruns(monkeypatch, number, between=lambda _: None):
    """Let a night run again so many times after it was archived; return where the runs are archived."""
    folders, report = [], Aftermath.of

    def of(self, run, stages, nodes=None):
        folders.append(run.folder)
        job = rerun_job(run_job(self, run), run_job(self, run), (), [0])
        for index in range(number):
            between(index)
            folders.append(nodes.rerun(job, threading.Event(), stages.progress))
        return report(self, run, stages)

    monkeypatch.setattr(Aftermath, "of", of)
    return folders


def run_job(aftermath, run):
    return aftermath.controller.archived_job(run.run_id)


def systems(folders):
    return [ArchivedRun(folder).document["system"] for folder in folders]


def a_night(settings, progress=None, **more):
    job = load_job("tiny", settings.jobs_dir)
    return night(job, settings, holder="tester", progress=progress or Silent(), **more)


def test_re_runs_deploy_on_the_system_of_the_night_and_reimage_every_third_time(
    settings, played, monkeypatch
):
    folders, progress, held = with_reruns(monkeypatch, 3), Told(), []
    played.instead["reclaim"] = lambda _: held.extend(open_ledger(settings).held())
    outcome = a_night(settings, progress).run()
    first, fourth = folders[0].name, folders[3].name
    assert played.played == [*FRESH, *AGAIN, *AGAIN, *FRESH, "reclaim"]
    assert set(played.nodes) <= {("node-1",), ()}
    assert systems(folders) == [
        {"fresh": True, "since": first, "deployments": 1, "reason": ""},
        {"fresh": False, "since": first, "deployments": 2, "reason": ""},
        {"fresh": False, "since": first, "deployments": 3, "reason": ""},
        {
            "fresh": True,
            "since": fourth,
            "deployments": 1,
            "reason": "provision.reimage_every allows 3 deployments on one system",
        },
    ]
    assert progress.lines[:3] == [
        f"The machines get no new image: deployment 2 on the system that {first} installed.",
        f"The machines get no new image: deployment 3 on the system that {first} installed.",
        "The machines get a fresh image: provision.reimage_every allows 3 deployments on one system.",
    ]
    assert [one.nodes for one in held] == [("node-1",)], "nobody else got them before they were taken back"
    assert not [one for one in outcome.later if isinstance(one, NotTakenBack)]
    assert open_ledger(settings).held() == ()


@pytest.mark.parametrize(
    ("reuse", "reason"),
    [
        (finds("runs now: dnsmasq"), "node-1: runs now: dnsmasq"),
        (lambda _: None, "node-1: nothing is known of it"),
        (
            raising(PlaybookFailed(playbook="reuse.yml", where="SSH", detail="no route", log="x")),
            "perfci could not check them: reuse.yml: SSH: no route",
        ),
    ],
    ids=["different", "silent", "unreachable"],
)
def test_a_machine_that_differs_gets_a_fresh_image(settings, played, monkeypatch, reuse, reason):
    played.instead["reuse"] = reuse
    folders = with_reruns(monkeypatch, 1)
    a_night(settings).run()
    assert played.played == [*FRESH, "supplies", "reuse", "provision", *RUN, "reclaim"]
    assert systems(folders)[1] == {
        "fresh": True,
        "since": folders[1].name,
        "deployments": 1,
        "reason": reason,
    }


@pytest.mark.parametrize("broken", ["hammer", "teardown"])
def test_after_a_run_that_did_not_go_well_the_machines_are_taken_back_at_once(
    settings, played, monkeypatch, broken
):
    error = PlaybookFailed(playbook=broken, where="x", detail="y", log="z")

    def fails_once(index):
        played.instead = {"reuse": finds(), **({broken: raising(error)} if index == 0 else {})}

    folders = with_reruns(monkeypatch, 2, fails_once)
    a_night(settings).run()
    assert played.played == [*FRESH, *AGAIN, "reclaim", *FRESH, "reclaim"]
    assert [one["fresh"] for one in systems(folders)] == [True, False, True]


@pytest.mark.parametrize(
    "job", ["provision: {reimage_every: 1}\n", "analysis: {confirm: {enabled: false}}\n"]
)
def test_where_nothing_is_used_again_the_machines_are_taken_back_as_part_of_the_run(settings, played, job):
    path = settings.jobs_dir / "tiny.yml"
    limits = "limits: {provision: 4321, deploy: 987}\n"
    path.write_text(f"name: tiny\n{job}{limits}scenarios:\n  - {{task: ports, times: 4, warmup: 2}}\n")
    outcome = a_night(settings).run()
    assert played.played == [*FRESH, "reclaim"]
    assert {name: played.limits[name] for name in ("provision", "deploy")} == {
        "provision": 4321,
        "deploy": 987,
    }
    assert [one["name"] for one in outcome.run.document["stages"]][-2:] == ["release", "reclaim"]
    assert played.given.get("node_baseline_mark", "") == ""


def test_the_hardware_is_looked_at_while_the_machines_are_held_and_costs_no_night(
    settings, played, monkeypatch
):
    held = []

    def look(_settings, nodes):
        held.append((list(nodes), played.played[-1], [one.nodes for one in open_ledger(settings).held()]))
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(night_module, "look_at_hardware", look)
    outcome = a_night(settings).run()
    assert held == [(["node-1"], "teardown", [("node-1",)])]
    assert outcome.record.status == "finished"
    assert not [one for one in outcome.later if isinstance(one, InternalError)]


def test_machines_that_can_not_be_taken_back_are_told_with_the_order_that_does(settings, played):
    played.instead["reclaim"] = raising(
        PlaybookFailed(playbook="reclaim", where="BMC", detail="dead", log="x")
    )
    outcome = a_night(settings).run()
    (problem,) = [one for one in outcome.later if isinstance(one, NotTakenBack)]
    assert str(problem) == "node-1 could not be taken back: reclaim: BMC: dead"
    assert "provision_nodes=node-1" in problem.advice
    assert (settings.state_dir / "logs" / LOG).exists()
    assert open_ledger(settings).held() == ()


def test_runs_of_a_trial_leave_their_machines_for_each_other(settings, played):
    progress = Silent()
    with kept_machines(settings, holder="tester", progress=progress) as kept:
        folders = [a_night(settings, kept=kept).run().folder for _ in range(2)]
        assert played.played == [*FRESH, *AGAIN]
    assert played.played[-1] == "reclaim"
    assert [one["fresh"] for one in systems(folders)] == [True, False]
    assert open_ledger(settings).held() == ()


def test_a_machine_that_somebody_else_has_got_meanwhile_is_left_alone(settings, played):
    ledger = open_ledger(settings)
    with kept_machines(settings, holder="tester", progress=Silent()) as kept:
        kept.systems.update(dict.fromkeys(("node-1", "node-2"), FIRST))
        ledger.reserve(
            nodes=frozenset({"node-1"}), holder="other", purpose="x", until=utc_now() + timedelta(hours=1)
        )
    assert (played.played, played.nodes) == (["reclaim"], [("node-2",)])
    assert kept.systems == {}
