"""Re-runs on the nodes of a night, with tiny playbooks: where they are archived, and what a kill leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perfci import config
from perfci.database.engine import open_database
from perfci.errors import PerfciError
from perfci.lab.sql import open_ledger
from perfci.results.archive import read_archive
from perfci.results.model import Purpose
from perfci.runs.jobs.load import load_job
from perfci.runs.night.assemble import night
from perfci.runs.state.archive import rerun_folders, run_folders
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.processes import processes_of
from perfci.runs.state.progress import Silent
from perfci.runs.state.state_folder import StateFolder
from perfci.runs.state.unreported import left_owing, owe, owing
from perfci.runs.verdicts.judgement_store import read_judgements
from perfci.runs.verdicts.rerun_jobs import rerun_job

pytestmark = pytest.mark.slow
SAMPLE = Path(__file__).parents[2] / "data" / "archive" / "20261121T052400Z-sample-7c3d"
JOB = """name: tiny
scenarios:
  - {task: ports, times: 4, warmup: 2}
  - {task: ports, times: 5, warmup: 2}
"""
SCRIPT = """
import sys, threading
from datetime import timedelta
from pathlib import Path
from perfci import config
from perfci.runs.verdicts.rerun_jobs import rerun_job
from perfci.runs.night.assemble import night
from perfci.runs.jobs.load import load_job
from perfci.runs.state.progress import Silent
from perfci.runs.night.night import _RunOf
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.stages import Stages
from perfci.runs.state.run_folder import utc_now

settings = config.load()
job = load_job("tiny", settings.jobs_dir)
tonight = night(job, settings, holder="tester", progress=Silent())
until = utc_now() + timedelta(hours=1)
with tonight.ledger.lease(nodes=1, holder="tester", purpose="x", until=until) as lease:
    run = _RunOf("20261121T000000Z-tiny-0001", job.job_digest)
    tonight._measured(run, lease.nodes, Stages(Silent()), threading.Event())
    Path(sys.argv[1]).touch()
    tonight._nodes(run.run_id, lease).rerun(rerun_job(job, job, (), [0]), threading.Event(), Silent())
"""


@pytest.fixture
def environ(project):
    (project.root / "jobs" / "tiny.yml").write_text(JOB)
    (project.root / "jobs" / "tasks" / "ports.yml.j2").write_text("{}\n")
    return {
        "PERFCI_ROOT_DIR": str(project.root),
        "PERFCI_STATE_DIR": str(project.state),
        "PERFCI_INFLUX__URL": "http://127.0.0.1:9",
    }


@pytest.fixture
def settings(environ):
    return config.load(environ=environ)


def until_true(true, seconds=300):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_a_re_run_is_archived_beside_the_nights_in_the_nights_environment(project, settings):
    job = load_job("tiny", settings.jobs_dir)
    tonight = night(job, settings, holder="tester", progress=Silent())
    outcome = tonight.run()
    assert left_owing(tonight.aftermath.controller.database, tonight.state) == []
    assert owing(tonight.aftermath.controller.database, tonight.state) == (), "all is told"
    ledger = open_ledger(settings)
    until = datetime.now(UTC) + timedelta(hours=1)
    with ledger.lease(nodes=1, holder="tester", purpose="x", until=until) as lease:
        nodes = tonight._nodes(outcome.record.run_id, lease)
        assert nodes.until == lease.ends_at
        folder = nodes.rerun(rerun_job(job, job, (), [1]), threading.Event(), Silent())
    record = read_archive(folder).record
    assert folder.parent == tonight.state.reruns
    assert (record.purpose, record.confirms) == (Purpose.CONFIRM, outcome.record.run_id)
    assert record.environment == outcome.record.environment, "though it takes fewer scenarios"
    assert record.code.digest == outcome.record.code.digest
    assert record.job == "tiny-confirm"
    assert run_folders(tonight.state.archive) == [outcome.folder]
    assert owing(tonight.aftermath.controller.database, tonight.state) == (), "a re-run owes nothing"
    assert project.trace()[-5:] == ["setup", "deploy", "hammer", "collect", "teardown"]


def test_a_re_run_that_is_told_to_stop_takes_the_cloud_down(project, settings):
    job = load_job("tiny", settings.jobs_dir)
    tonight = night(job, settings, holder="tester", progress=Silent())
    project.playbook("hammer", f"ansible.builtin.shell: touch {project.state}/hammering; sleep 600")
    stop = threading.Event()
    watcher = threading.Thread(
        target=lambda: (until_true((project.state / "hammering").exists), stop.set()), daemon=True
    )
    watcher.start()
    ledger = open_ledger(settings)
    until = datetime.now(UTC) + timedelta(hours=1)
    with ledger.lease(nodes=1, holder="tester", purpose="x", until=until) as lease:
        folder = tonight._nodes("20261121T000000Z-tiny-0001", lease).rerun(job, stop, Silent())
    watcher.join()
    assert "stopped by a signal" in ArchivedRun(folder).document["failure"]["message"]
    assert project.trace()[-1] == "teardown"
    assert processes_of(project.state) == []


def test_killed_in_a_re_run_the_next_start_tells_the_night_and_not_the_re_run(project, settings, environ):
    flag, begun = project.root / "again", project.state / "hammering"
    project.playbook(
        "hammer",
        f"ansible.builtin.shell: cp -r {SAMPLE}/* {{{{ perfci_run_dir }}}}/; "
        f"if [ -e {flag} ]; then touch {begun}; sleep 600; fi",
    )
    script = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(flag)], env={**os.environ, **environ}, cwd=project.root
    )
    try:
        until_true(begun.exists)
    finally:
        script.kill()
        script.wait()
    state = StateFolder(project.state)
    database = open_database(settings)
    assert [run.run_id for run in left_owing(database, state)] == ["20261121T000000Z-tiny-0001"]
    flag.unlink()
    night(load_job("tiny", settings.jobs_dir), settings, holder="tester", progress=Silent()).run()
    (killed,) = rerun_folders(state.archive)
    document = ArchivedRun(killed).document
    assert "killed in the stage hammer" in document["failure"]["message"]
    assert document["confirms"] == "20261121T000000Z-tiny-0001"
    assert len(run_folders(state.archive)) == 2
    assert read_judgements(database, "20261121T000000Z-tiny-0001"), "the night was judged"
    assert owing(database, state) == ()
    mails = [mail.read_text() for mail in (project.state / "mail" / "new").iterdir()]
    assert not [mail for mail in mails if "was killed" in mail], "nobody has to know of a re-run"


def test_one_that_can_not_be_reported_stays_owed_and_is_not_in_the_way(project, settings, monkeypatch):
    tonight = night(load_job("tiny", settings.jobs_dir), settings, holder="tester", progress=Silent())
    run = tonight.run().run
    monkeypatch.setattr("perfci.runs.night.night.left_owing", lambda *_: [run])
    monkeypatch.setattr(
        type(tonight.aftermath), "of", lambda *_: (_ for _ in ()).throw(PerfciError(message="x"))
    )
    database = tonight.aftermath.controller.database
    owe(database, tonight.state, run.run_id)
    tonight._make_up_for([])
    assert owing(database, tonight.state) == (run.run_id,)
