"""What nobody expects in a night: the nodes are given back, it is archived, and the admins hear of it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import tarfile
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from recorded_playbooks import Recorded, raising

from perfci import config
from perfci.database.schema import unreported
from perfci.errors import FailureClass, InternalError
from perfci.lab.sql import open_ledger
from perfci.logs import FILE
from perfci.runs.ansible.lab_playbooks import playbooks
from perfci.runs.ansible.playbook import PlaybookFailed
from perfci.runs.jobs.load import load_job
from perfci.runs.jobs.procedures import PROCEDURES
from perfci.runs.night import night as night_module
from perfci.runs.night.assemble import night
from perfci.runs.night.lease_time import LimitsBeyondLease
from perfci.runs.night.measure import StageTimeouts, measure, service_logs
from perfci.runs.night.night import RunNotArchived
from perfci.runs.publish import after_run
from perfci.runs.publish.after_run import Aftermath
from perfci.runs.state import run_folder as work
from perfci.runs.state.archive import run_folders
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.progress import Silent
from perfci.runs.state.stages import Stages
from perfci.runs.state.state_folder import StateFolder
from perfci.runs.state.unreported import owing
from perfci.runs.verdicts.lab_services import LabServices

if TYPE_CHECKING:
    from pathlib import Path

JOB = "name: tiny\nscenarios:\n  - {task: ports, times: 4, warmup: 2}\n"
DISK_FULL = OSError(28, "No space left on device")
OLD = "20261120T041500Z-tiny-0a0a"


@pytest.fixture
def settings(tmp_path):
    for folder in ("playbooks", "inventory/embedded", "jobs/tasks"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "inventory/embedded/hosts.yml").write_text("cloud: {hosts: {node-0: {}}}\n")
    (tmp_path / "jobs/tiny.yml").write_text(JOB)
    (tmp_path / "jobs/tasks/ports.yml.j2").write_text("{}\n")
    return config.load(
        environ={
            "PERFCI_ROOT_DIR": str(tmp_path),
            "PERFCI_STATE_DIR": str(tmp_path / "state"),
            "PERFCI_INFLUX__URL": "http://127.0.0.1:9",
            "PERFCI_MAIL__ADMINS": '["admins@example.org"]',
            "PERFCI_MAIL__TO": '["team@example.org"]',
        }
    )


@pytest.fixture
def played(monkeypatch):
    return Recorded().install(monkeypatch)


@pytest.fixture
def state(settings):
    return StateFolder(settings.state_dir)


def a_night(settings):
    return night(load_job("tiny", settings.jobs_dir), settings, holder="tester", progress=Silent())


def mails(state):
    return [path.read_text() for path in sorted((state.mail / "new").glob("*"))]


ERRORS = [
    DISK_FULL,
    MemoryError(),
    ZeroDivisionError("a bug"),
    UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
    KeyboardInterrupt(),
    SystemExit(3),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("stage", ["provision", "deploy", "hammer"])
def test_whatever_ends_a_stage_the_machines_are_given_back(tmp_path, played, settings, stage, error):
    played.instead[stage] = raising(error)
    folder = work.create(tmp_path / "runs", "r1")
    measured = measure(
        playbooks=replace(playbooks(settings), nodes=("n1", "n2")),
        stages=Stages(Silent(), folder),
        work=folder,
        state=StateFolder(tmp_path),
        limits=StageTimeouts(1, 1, 1),
        cloud_variables={},
        plan=folder.path / "plan.json",
        procedure=PROCEDURES["hammer"],
    )
    assert played.played[-3:] == ["collect", "teardown", "reclaim"]
    assert measured.cleanup_errors == []
    assert (measured.failure.stage, measured.failure.failure_class) == (stage, FailureClass.LAB)
    if isinstance(error, Exception):
        assert f"unexpected {type(error).__name__}" in measured.failure.message
        assert measured.failure.source == f"logs/{FILE}"
        assert "Traceback (most recent call last):" in measured.failure.excerpt
    else:
        assert "stopped by a signal" in measured.failure.message


@pytest.mark.parametrize("stage", ["collect", "teardown"])
def test_an_unexpected_error_while_cleaning_up_stops_no_other_clean_up(settings, played, state, stage):
    played.instead |= {"hammer": raising(ZeroDivisionError("a bug")), stage: raising(DISK_FULL)}
    outcome = a_night(settings).run()
    document = ArchivedRun(outcome.folder).document
    assert played.played == ["setup", "deploy", "hammer", "collect", "teardown"]
    assert "ZeroDivisionError" in document["failure"]["message"], "the first one is reported"
    (beside,) = document["cleanup_errors"]
    assert "unexpected OSError: [Errno 28] No space left on device" in beside
    assert open_ledger(settings).held() == ()


def test_the_admins_hear_of_a_fault_of_ours_and_its_traceback_is_in_the_archive(settings, played, state):
    played.instead["hammer"] = raising(ZeroDivisionError("token=abcdef a bug"))
    outcome = a_night(settings).run()
    (mail,) = mails(state)
    assert "To: admins@example.org" in mail
    assert "ZeroDivisionError" in mail
    log = (outcome.folder / "logs" / FILE).read_text()
    assert "Traceback (most recent call last):" in log
    assert "token=******** a bug" in log
    assert "abcdef" not in log
    assert "Traceback" in (state.logs / FILE).read_text(), "the controller's log has it too"


def test_the_log_of_a_run_says_what_was_done_and_fits_its_manifest(settings, played):
    outcome = a_night(settings).run()
    log = outcome.folder / "logs" / FILE
    assert [f"stage {name} begins" in log.read_text() for name in ("deploy", "release")] == [True, True]
    manifest = json.loads((outcome.folder / work.MANIFEST).read_text())["files"]
    assert manifest[f"logs/{FILE}"] == hashlib.sha256(log.read_bytes()).hexdigest()


def damaged_archive(folder: Path, how: str) -> None:
    path = folder / "logs" / "node-0.tar.gz"
    (folder / "first.log").write_text("Traceback: the first one is whole\n")
    (folder / "nova.log").write_bytes(os.urandom(200_000))
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder / "first.log", "first.log")
        archive.add(folder / "nova.log", "nova.log")
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[: len(content) // 2],
            "empty": b"",
            "garbage": os.urandom(5000),
            "flipped": content[:20] + os.urandom(40) + content[60:],
        }[how]
    )
    for name in ("first.log", "nova.log"):
        (folder / name).unlink()


@pytest.mark.parametrize("how", ["cut", "empty", "garbage", "flipped"])
def test_a_damaged_archive_of_logs_costs_no_night(settings, played, how):
    played.instead["collect"] = lambda folder: damaged_archive(folder, how)
    document = ArchivedRun(a_night(settings).run().folder).document
    assert document["status"] == "finished"
    (beside,) = document["cleanup_errors"]
    assert beside.startswith("collect: logs/node-0.tar.gz is damaged: ")


def test_what_stands_before_the_damage_is_evidence(tmp_path):
    (tmp_path / "logs").mkdir()
    damaged_archive(tmp_path, "cut")
    found, damaged = service_logs(tmp_path / "logs")
    assert found == {"node-0/first.log": "Traceback: the first one is whole\n"}
    assert len(damaged) == 1


@pytest.mark.parametrize("part", ["problems", "diagnose", "service_logs"])
def test_a_bug_in_what_explains_a_run_is_filed_as_ours(settings, played, monkeypatch, part):
    def bug(*_args, **_options):
        raise IndexError("a bug")

    monkeypatch.setattr(f"perfci.runs.night.measure.{part}", bug)
    document = ArchivedRun(a_night(settings).run().folder).document
    assert document["failure"]["class"] == "lab"
    assert "unexpected IndexError: a bug" in document["failure"]["message"]
    assert "Traceback" in document["failure"]["excerpt"]
    assert document["code"]["services"], "what was measured is in the archive"


def test_a_bug_in_what_judges_the_lab_makes_the_night_invalid(settings, played, monkeypatch):
    monkeypatch.setattr(night_module, "validity", lambda **_: 1 / 0)
    document = ArchivedRun(a_night(settings).run().folder).document
    assert document["status"] == "finished"
    assert "can't be read: division by zero" in document["validity"]["reasons"][0]


def test_what_fails_before_the_first_stage_is_archived_as_ours(settings, played, monkeypatch):
    monkeypatch.setattr(night_module, "playbooks_on_used", lambda *_: 1 / 0)
    document = ArchivedRun(a_night(settings).run().folder).document
    assert document["failure"]["stage"] == "prepare"
    assert played.played == []


def test_a_full_disk_while_sealing_loses_nothing(settings, played, state, monkeypatch):
    with monkeypatch.context() as full:
        full.setattr(work, "_digests", lambda _: (_ for _ in ()).throw(DISK_FULL))
        with pytest.raises(RunNotArchived, match="No space left"):
            a_night(settings).run()
    assert open_ledger(settings).held() == ()
    (folder,) = work.unfinished(state.runs)
    monkeypatch.setattr(work.WorkFolder, "alive", lambda one: False)  # as the process would have ended
    a_night(settings).run()
    first = ArchivedRun(state.archive / folder.run_id).document
    assert (first["status"], first["failure"]) == ("finished", None)


@pytest.mark.parametrize("fails", [False, True])
def test_an_error_before_the_end_of_a_run_is_written_loses_nothing(
    settings, played, state, monkeypatch, fails
):
    real = work.write_json

    def write(path, value):
        if path.name == work.RUN:
            raise OSError(5, "Input/output error")
        real(path, value)

    with monkeypatch.context() as broken:
        broken.setattr(work, "write_json", write)
        if fails:
            played.instead["deploy"] = raising(
                PlaybookFailed(playbook="deploy", where="x", detail="no luck", log="y")
            )
        played.instead["teardown"] = raising(
            PlaybookFailed(playbook="teardown", where="x", detail="worse", log="y")
        )
        with pytest.raises(RunNotArchived, match="Input/output error"):
            a_night(settings).run()
    (folder,) = work.unfinished(state.runs)
    ended = datetime.now(UTC)
    monkeypatch.setattr(work.WorkFolder, "alive", lambda one: False)  # as the process would have ended
    played.instead.clear()
    a_night(settings).run()
    first = ArchivedRun(state.archive / folder.run_id)
    assert first.document["status"] == ("failed" if fails else "finished")
    assert (first.document["failure"] or {}).get("stage") == ("deploy" if fails else None)
    assert first.document["cleanup_errors"] == ["release: teardown: x: worse"]
    assert first.record.finished_at < ended
    assert owed(settings, state) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_after_the_archive_gives_the_nodes_back_and_the_run_is_reported_later(
    settings, played, state, monkeypatch, number
):
    monkeypatch.setattr(Aftermath, "of", lambda *_: os.kill(os.getpid(), number))
    with pytest.raises(KeyboardInterrupt):
        a_night(settings).run()
    assert open_ledger(settings).held() == ()
    (folder,) = run_folders(state.archive)
    assert owed(settings, state) == [folder.name]


def test_limits_beyond_the_lease_are_refused_before_the_start(settings, played, state):
    job = load_job("tiny", settings.jobs_dir)
    long = job.model_copy(update={"limits": job.limits.model_copy(update={"hammer": 86_400})})
    with pytest.raises(LimitsBeyondLease, match=r"25\.\d h"):
        night(long, settings, holder="tester", progress=Silent()).run()
    assert not state.root.exists() or not state.runs.exists()


def test_a_re_run_holds_the_nodes_until_it_can_have_ended(settings, played):
    tonight = a_night(settings)
    soon = datetime.now(UTC) + timedelta(minutes=1)
    with tonight.ledger.lease(nodes=1, holder="x", purpose="x", until=soon) as lease:
        tonight._nodes(OLD, lease).rerun(tonight.job, threading.Event(), Silent())
        (held,) = tonight.ledger.held()
    assert held.ends_at > soon + timedelta(hours=1)


@pytest.fixture
def killed(settings, played, state, monkeypatch):
    """A night whose process died after the archive, before it was reported."""
    with monkeypatch.context() as dying:
        dying.setattr(Aftermath, "of", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            a_night(settings).run()
    database = LabServices(settings).database
    with database.transaction() as connection:
        connection.execute(unreported.update().values(owner_started_ticks=1))
    (folder,) = run_folders(state.archive)
    return folder


def owed(settings, state):
    return list(owing(LabServices(settings).database, state))


def test_ctrl_c_while_a_killed_night_is_made_up_for_loses_nothing(
    settings, state, killed, played, monkeypatch
):
    with monkeypatch.context() as interrupted:
        interrupted.setattr(Aftermath, "of", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            a_night(settings).run()
    assert owed(settings, state) == [killed.name], "it is still to be reported"
    reported = []
    real = Aftermath.of
    monkeypatch.setattr(
        Aftermath, "of", lambda self, run, *rest: (reported.append(run.folder), real(self, run, *rest))[1]
    )
    outcome = a_night(settings).run()
    assert reported == [killed, outcome.folder]
    assert owed(settings, state) == []


@pytest.mark.parametrize("text", ["{", "", "[]", '{"failure": null}', '{"run_id": "other"}'])
def test_a_killed_night_that_is_damaged_loses_neither_tonight_nor_the_word_about_it(
    settings, state, killed, played, text
):
    (killed / "run.json").write_text(text)
    outcome = a_night(settings).run()
    assert outcome.record.status == "finished"
    assert owed(settings, state) == []
    (mail,) = [one for one in mails(state) if killed.name in one]
    assert "To: admins@example.org" in mail


def test_a_fault_that_can_not_be_mailed_now_is_mailed_by_the_next_start(
    settings, state, killed, played, monkeypatch
):
    (killed / "run.json").write_text("{")
    with monkeypatch.context() as broken:
        broken.setattr(after_run, "compose_letters", lambda *_: 1 / 0)
        a_night(settings).run()
    assert killed.name in owed(settings, state)
    a_night(settings).run()
    assert killed.name not in owed(settings, state)


@pytest.mark.parametrize("step", ["write_site", "deliver", "put"])
def test_a_bug_in_a_step_after_the_archive_is_mailed_to_the_admins_and_the_night_goes_on(
    settings, state, played, monkeypatch, step
):
    real = getattr(after_run, step)
    calls = []

    def once(*args):
        calls.append(args)
        if len(calls) == 1:
            raise IndexError("a bug")
        return real(*args)

    played.instead["deploy"] = raising(ZeroDivisionError())  # so that there is something to mail
    monkeypatch.setattr(after_run, step, once)
    outcome = a_night(settings).run()
    assert any(isinstance(error, InternalError) for error in outcome.later)
    faults = [mail for mail in mails(state) if "IndexError" in mail]
    assert len(faults) == 1
    assert "To: admins@example.org" in faults[0]
    assert outcome.exit_code == 1
    again = Aftermath(LabServices(settings)).of(outcome.run, Stages(Silent()))
    assert again.exit_code == 1
