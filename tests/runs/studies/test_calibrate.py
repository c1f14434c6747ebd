"""A calibration with recorded playbooks: fresh runs of one revision, nothing told, and what they show."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest
from made_up_nights import Killed, MadeUpNights
from recorded_playbooks import Recorded, raising

from perfci import config
from perfci.results.model import Purpose
from perfci.results.record import read_record
from perfci.runs.ansible.playbook import PlaybookFailed
from perfci.runs.jobs.load import load_job
from perfci.runs.publish.calibration_store import read_calibration
from perfci.runs.state.archive import run_folders
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.progress import Silent
from perfci.runs.studies import calibrate
from perfci.runs.studies.calibrate import CalibrationFailed, run
from perfci.runs.verdicts.lab_services import LabServices

pytestmark = pytest.mark.slow
JOB = """name: tiny
scenarios:
  - {task: ports, times: 4, warmup: 2}
"""


@pytest.fixture
def controller(project):
    (project.root / "jobs" / "tiny.yml").write_text(JOB)
    (project.root / "jobs" / "tasks" / "ports.yml.j2").write_text("{}\n")
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


def calibrated(controller, number):
    job = load_job("tiny", controller.settings.jobs_dir)
    return run(controller.settings, controller, job, number, holder="tester", progress=Silent())


@pytest.fixture
def nights(controller, monkeypatch):
    made_up = MadeUpNights(controller.state.archive)
    monkeypatch.setattr(calibrate, "night", made_up)
    return made_up


@pytest.fixture
def recorded(monkeypatch):
    """Let each playbook leave what it left on a recorded night."""
    return Recorded().install(monkeypatch)


def test_every_run_is_a_fresh_deployment_and_none_is_told(controller, recorded):
    found = calibrated(controller, 3)
    records = [read_record(folder / "run.json") for folder in run_folders(controller.state.archive)]
    assert recorded.played.count("deploy") == 3
    assert {(one.job, one.purpose) for one in records} == {("tiny-calibrate", Purpose.CALIBRATE)}
    assert ArchivedRun(controller.state.archive / records[0].run_id).document["purpose"] == "calibrate"
    assert found.runs == tuple(one.run_id for one in records)
    assert found.series
    assert {one.key.job for one in found.series} == {"tiny"}
    assert {one.runs for one in found.series} == {3}
    assert read_calibration(controller.database, found.lab, "tiny") == found
    assert controller.outbox.status().waiting == 0


def test_runs_that_fail_again_and_again_end_it(controller, recorded):
    failed = PlaybookFailed(playbook="deploy", where="here", detail="no", log="x")
    recorded.instead["deploy"] = raising(failed)
    with pytest.raises(CalibrationFailed, match="3 runs in a row"):
        calibrated(controller, 3)
    assert len(run_folders(controller.state.archive)) == 3


def test_one_that_was_cut_short_goes_on_where_it_was(controller, nights):
    nights.kill_at = 3
    with pytest.raises(Killed):
        calibrated(controller, 3)
    assert len(nights.jobs) == 2
    found = calibrated(controller, 3)
    assert len(nights.jobs) == len(found.runs) == 3
    calibrated(controller, 2)
    assert len(nights.jobs) == 5, "one that came to its end is not gone on with"


def test_another_job_begins_from_the_start(project, controller, nights):
    nights.kill_at = 2
    with pytest.raises(Killed):
        calibrated(controller, 2)
    (project.root / "jobs" / "tiny.yml").write_text(JOB.replace("times: 4", "times: 5"))
    calibrated(controller, 2)
    assert len(nights.jobs) == 3
