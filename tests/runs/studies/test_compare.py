"""`perfci pins bump` with tiny playbooks: fresh runs under both files of pins, and what is then changed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from contextlib import closing
from pathlib import Path

import pytest
from made_up_nights import Killed, MadeUpNights
from recorded_playbooks import Recorded, raising

from perfci import config
from perfci.results.model import Purpose
from perfci.results.record import read_record
from perfci.runs.ansible.playbook import PlaybookFailed
from perfci.runs.jobs.load import load_job
from perfci.runs.state.archive import run_folders
from perfci.runs.state.progress import Silent
from perfci.runs.studies import bump as bumping
from perfci.runs.studies import compare as comparing
from perfci.runs.studies.bump import PinUnused, bump
from perfci.runs.studies.pins import CONSTRAINTS, PinsConflict
from perfci.runs.verdicts.lab_services import LabServices

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parents[3]
JOB = """name: tiny
scenarios:
  - {task: ports, times: 4, warmup: 2}
analysis: {confirm: {most_runs: 4}}
"""
PINS = "nova==1.0\nparts==1.0\n"


@pytest.fixture
def controller(project, monkeypatch):
    (project.root / "jobs" / "tiny.yml").write_text(JOB)
    (project.root / "jobs" / "tasks" / "ports.yml.j2").write_text("{}\n")
    shutil.copytree(REPOSITORY / "roles/openstack_code", project.root / "roles/openstack_code")
    (project.root / CONSTRAINTS).write_text(PINS)
    monkeypatch.setattr(bumping, "check", lambda *_: None)  # the real one is in test_pins.py
    monkeypatch.setattr(bumping, "two_fit", lambda *_: False)  # in pairs: test_side_by_side.py
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = probe.getsockname()[1]
    environ = {
        "PERFCI_ROOT_DIR": str(project.root),
        "PERFCI_STATE_DIR": str(project.state),
        "PERFCI_INFLUX__URL": f"http://127.0.0.1:{nobody}",
        "PERFCI_LIMITS__FOREIGN_CPU_SHARE": "1",  # the recorded run was made on a busy machine
        "PERFCI_LIMITS__STEAL_SHARE": "1",
    }
    return LabServices(config.load(environ=environ))


def bumped(controller, job="tiny", name="parts", version="2.0"):
    loaded = load_job(job, controller.settings.jobs_dir) if job else None
    return bump(controller, name, version, loaded, holder="tester", progress=Silent())


def test_both_files_are_deployed_and_the_pin_moves_at_the_end(project, controller, monkeypatch):
    recorded, deployed, stood = Recorded().install(monkeypatch), [], []

    def deploy(folder):
        deployed.append(Path(recorded.given["openstack_code_constraints"]).read_text())
        stood.append((project.root / CONSTRAINTS).read_text())
        recorded.play("deploy", folder)

    recorded.instead["deploy"] = deploy
    found = bumped(controller)
    assert {"parts==2.0" in one for one in deployed} == {True, False}
    assert set(stood) == {PINS}
    assert (project.root / CONSTRAINTS).read_text() == PINS.replace("parts==1.0", "parts==2.0")
    records = [read_record(folder / "run.json") for folder in run_folders(controller.state.archive)]
    assert {(one.job, one.purpose) for one in records} == {("tiny-compare", Purpose.COMPARE)}
    assert found.compared is not None
    assert found.compared.runs == tuple(one.run_id for one in records)
    assert [one.old_runs >= 1 for one in found.compared.found.values()]
    assert json.loads(json.dumps(found.as_dict()))["undo"] == "perfci pins bump parts 1.0 --no-compare"
    assert controller.outbox.status().waiting == 0


def test_runs_that_fail_leave_nothing_compared(controller, monkeypatch):
    failed = PlaybookFailed(playbook="deploy", where="here", detail="no", log="x")
    Recorded(instead={"deploy": raising(failed)}).install(monkeypatch)
    found = bumped(controller)
    assert found.compared is not None
    assert (found.compared.runs, found.compared.slower) == ((), False)
    assert "3 runs in a row did not count" in found.compared.ended


def test_a_set_that_does_not_resolve_changes_nothing(project, controller, monkeypatch):
    def refuse(*_):
        raise PinsConflict(name="parts", version="2.0", reason="because")

    monkeypatch.setattr(bumping, "check", refuse)
    with pytest.raises(PinsConflict):
        bumped(controller)
    assert (project.root / CONSTRAINTS).read_text() == PINS
    assert run_folders(controller.state.archive) == []


def test_without_a_job_the_pin_just_moves(project, controller):
    assert bumped(controller, job=None).compared is None
    assert "parts==2.0" in (project.root / CONSTRAINTS).read_text()


@pytest.mark.parametrize(
    "line",
    ["sources: {nova: {version: '2'}}", "cloud: {variables: {openstack_code_constraints: /srv/other}}"],
)
def test_a_pin_that_the_job_does_not_deploy_is_not_compared(project, controller, line):
    (project.root / "jobs" / "tiny.yml").write_text(f"{JOB}{line}\n")
    with pytest.raises(PinUnused):
        bumped(controller, name="nova")
    assert (project.root / CONSTRAINTS).read_text() == PINS


def test_one_that_was_cut_short_goes_on_where_it_was(project, controller, monkeypatch):
    nights = MadeUpNights(controller.state.archive, kill_at=3)
    an_hour_ago = time.time() - 3600
    os.utime(project.root / CONSTRAINTS, (an_hour_ago, an_hour_ago))
    monkeypatch.setattr(comparing, "night", nights)
    with pytest.raises(Killed):
        bumped(controller)
    assert (project.root / CONSTRAINTS).read_text() == PINS
    assert len(nights.jobs) == 2
    found = bumped(controller)
    assert len(found.compared.runs) == len(nights.jobs) == 4
    back = bumped(controller, version="1.0")
    assert not set(back.compared.runs) & set(found.compared.runs), "a pin that moved has ended its comparison"
