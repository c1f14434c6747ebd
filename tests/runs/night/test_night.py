"""A whole night with tiny playbooks: the lease, the archive, and every way to be cut short."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from git_repositories import Landscape

from perfci import config
from perfci.errors import PerfciError
from perfci.lab.errors import NodesBusy
from perfci.lab.model import Node
from perfci.lab.sql import open_ledger
from perfci.runs.jobs.load import load_job
from perfci.runs.night import reference
from perfci.runs.night.assemble import night
from perfci.runs.state import run_folder as work
from perfci.runs.state.archive import run_folders
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.processes import processes_of
from perfci.runs.state.progress import Silent
from perfci.runs.state.state_folder import StateFolder
from perfci.runs.verdicts.lab_services import ArchivedJobInvalid

pytestmark = pytest.mark.slow
JOB = """name: tiny
scenarios:
  - {task: ports, times: 4, warmup: 2}
"""


@pytest.fixture
def settings(project):
    (project.root / "jobs" / "tiny.yml").write_text(JOB)
    (project.root / "jobs" / "tasks" / "ports.yml.j2").write_text("{}\n")
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = probe.getsockname()[1]
    environ = {
        "PERFCI_ROOT_DIR": str(project.root),
        "PERFCI_STATE_DIR": str(project.state),
        "PERFCI_INFLUX__URL": f"http://127.0.0.1:{nobody}",
    }
    return config.load(environ=environ)


def a_night(settings):
    return night(load_job("tiny", settings.jobs_dir), settings, holder="tester", progress=Silent())


@pytest.fixture
def background(settings):
    """Start a night in a process of its own; return it when its hammer has begun."""
    started = []

    def start():
        environ = {
            **os.environ,
            "PERFCI_ROOT_DIR": str(settings.root_dir),
            "PERFCI_STATE_DIR": str(settings.state_dir),
            "PERFCI_INFLUX__URL": settings.influx.url,
        }
        command = [sys.executable, "-m", "perfci", "run", "tiny"]
        process = subprocess.Popen(command, env=environ, cwd=settings.root_dir, stdout=subprocess.DEVNULL)
        started.append(process)
        until((settings.state_dir / "hammering").exists)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def hang(project):
    project.playbook("hammer", f"ansible.builtin.shell: touch {project.state}/hammering; sleep 600")


def last(settings):
    return ArchivedRun(run_folders(StateFolder(settings.state_dir).archive)[-1]).document


def test_a_night_ends_in_the_archive_and_gives_the_node_back(project, settings):
    outcome = a_night(settings).run()
    document = ArchivedRun(outcome.folder).document
    assert document["status"] == "finished"
    assert [stage["name"] for stage in document["stages"]] == [
        "reserve",
        "provision",
        "deploy",
        "hammer",
        "collect",
        "release",
    ]
    assert document["code"]["services"][0]["service"] == "glance"
    assert document["partial"]["message"].startswith("2 of 7")
    assert not document["validity"]["valid"], "the sample was taken on a busy machine"
    assert outcome.judgements
    assert open_ledger(settings).held() == ()
    manifest = json.loads((outcome.folder / work.MANIFEST).read_text())["files"]
    assert {"run.json", "job.yml", "tasks.json", "logs/deploy.log"} <= set(manifest)


def test_without_memory_for_two_clouds_the_night_has_one_and_says_so(project, settings, monkeypatch):
    (project.root / "jobs" / "tiny.yml").write_text(JOB + "reference: accepted\n")
    little = SimpleNamespace(available=2 * reference.GIB)
    monkeypatch.setattr(reference.psutil, "virtual_memory", lambda: little)
    document = ArchivedRun(a_night(settings).run().folder).document
    assert document["status"] == "finished"
    assert document["alone"].startswith("This night has no reference: 2.0 GiB of memory are available")
    assert "reference" not in document


def test_on_machines_behind_bmcs_the_night_has_one_cloud_and_says_so(project, settings):
    (project.root / "jobs" / "tiny.yml").write_text(JOB + "reference: accepted\n")
    machines = SimpleNamespace(nodes=(Node("node-7", has_bmc=True),))
    night = replace(a_night(settings), ledger=machines)._with_reference()
    assert night.job.reference is None
    assert night.alone.startswith(
        "This night has no reference: two clouds side by side run only on the controller"
    )
    assert "node-7" in night.alone


def test_where_the_accepted_code_can_not_be_read_the_night_has_no_reference_and_says_so(
    project, settings, monkeypatch
):
    (project.root / "jobs" / "tiny.yml").write_text(JOB + "reference: accepted\n")
    monkeypatch.setattr(
        reference.psutil, "virtual_memory", lambda: SimpleNamespace(available=99 * reference.GIB)
    )

    def unreadable(*_):
        raise ArchivedJobInvalid(run_id="20261120T041500Z-tiny-aaaa", reason="nested too deeply")

    monkeypatch.setattr("perfci.runs.night.night.accepted_reference", unreadable)
    document = ArchivedRun(a_night(settings).run().folder).document
    assert document["status"] == "finished"
    assert document["alone"].startswith("This night has no reference: perfci can't read job.yml of run 2026")
    assert "reference" not in document


def test_a_second_night_is_told_who_holds_the_node(project, settings, background):
    hang(project)
    background()
    with pytest.raises(NodesBusy, match=r"run \d+T\d+Z-tiny-"):
        a_night(settings).run()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(project, settings, background, number):
    hang(project)
    process = background()
    process.send_signal(number)
    assert process.wait(60) == 1
    document = last(settings)
    assert document["failure"]["class"] == "lab"
    assert "stopped by a signal" in document["failure"]["message"]
    assert project.trace()[-1] == "teardown"
    assert open_ledger(settings).held() == ()
    assert processes_of(settings.state_dir) == []


def test_after_a_kill_the_next_start_cleans_up(project, settings, background):
    hang(project)
    process = background()
    orphans = {found.pid for found in processes_of(settings.state_dir)}
    assert orphans
    process.kill()
    process.wait()
    project.hammer()
    outcome = a_night(settings).run()
    killed, mine = [
        ArchivedRun(folder).document for folder in run_folders(StateFolder(settings.state_dir).archive)
    ]
    assert "killed in the stage hammer" in killed["failure"]["message"]
    assert mine["run_id"] == outcome.record.run_id
    assert mine["status"] == "finished"
    assert not [pid for pid in orphans if psutil.pid_exists(pid)]
    mails = list((settings.state_dir / "mail" / "new").iterdir())
    assert any("killed in the stage hammer" in mail.read_text() for mail in mails)


def test_what_is_wrong_with_a_job_shows_before_anything_is_made(project, settings):
    path = project.root / "jobs" / "tiny.yml"
    path.write_text(path.read_text().replace("warmup: 2", "args: {nonsense: 1}"))
    with pytest.raises(PerfciError, match="nonsense"):
        a_night(settings).run()
    assert work.unfinished(StateFolder(settings.state_dir).runs) == []
    assert project.trace() == []


def test_no_secret_of_settings_or_inventory_stands_in_what_a_night_leaves(project, settings, tmp_path):
    """Looked for are the secrets themselves, in every file; files with suspicious names are none, too."""
    secrets = {name: f"s3cr3t-{name}-5d1f" for name in ("influx", "smtp", "bmc")}
    for name, value in secrets.items():
        (tmp_path / f"{name}.key").write_text(f"{value}\n")
    hosts = project.root / "inventory" / "embedded" / "hosts.yml"
    hosts.write_text(hosts.read_text() + f"  vars: {{bmc_password: {secrets['bmc']}}}\n")
    influx = settings.influx.model_copy(update={"token_file": tmp_path / "influx.key"})
    smtp = settings.mail.smtp.model_copy(update={"password_file": tmp_path / "smtp.key", "username": "me"})
    mail = settings.mail.model_copy(update={"smtp": smtp})
    outcome = a_night(settings.model_copy(update={"influx": influx, "mail": mail})).run()
    assert influx.secret_token() == secrets["influx"], "the night could read it"
    assert not list(Path(outcome.folder).rglob("*secret*"))
    assert not list(Path(outcome.folder).rglob("extravars"))
    contents = {file: file.read_bytes() for file in project.state.rglob("*") if file.is_file()}
    assert any(outcome.record.run_id.encode() in content for content in contents.values()), "files were read"
    for name, value in secrets.items():
        assert [str(file) for file, content in contents.items() if value.encode() in content] == [], name


def test_a_night_at_one_moment_deploys_its_commits_and_records_the_step(project, settings, tmp_path):
    land = Landscape(tmp_path / "base")
    for name in ("keystone", "placement", "glance", "nova", "neutron"):
        land.project(name)
    (project.root / "jobs" / "tiny.yml").write_text(JOB + "sources: {all: master}\n")
    (project.root / "playbooks" / "deploy.yml").write_text(
        (project.root / "playbooks" / "deploy.yml").read_text()
        + f"    - ansible.builtin.copy: {{content: '{{{{ openstack_sources | to_json }}}}', dest: {project.state}/sources}}\n"
    )
    outcome = a_night(settings.model_copy(update={"git_base": str(land.base)})).run()
    document = ArchivedRun(outcome.folder).document
    assert document["step"] == land.steps[-1]
    deployed = json.loads((project.state / "sources").read_text())
    assert {name: one["ref"] for name, one in deployed.items()} == {
        name: repo.head for name, repo in land.repos.items()
    }
