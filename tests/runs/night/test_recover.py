"""What a killed run leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from perfci.results.model import Purpose
from perfci.runs.night.record import RunEnd, document
from perfci.runs.night.recover import recover
from perfci.runs.state import run_folder as work
from perfci.runs.state.processes import processes_of
from perfci.runs.state.state_folder import StateFolder


def killed_run(state, **notes):
    """Make a run in another process that kills itself."""
    code = (
        "import os, signal; from pathlib import Path; from perfci.runs.state import run_folder as work;"
        f"f = work.create(Path({str(state / 'runs')!r}), 'r1', **{notes!r});"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)


def sleeper(state, run="r1"):
    marks = {
        "PERFCI_STATE_DIR": str(state),
        "PERFCI_SERVICE": "nova-api",
        **({"PERFCI_RUN": run} if run else {}),
    }
    return subprocess.Popen(["sleep", "60"], env={**os.environ, **marks})


def test_a_killed_run_is_archived_as_the_labs_failure(tmp_path):
    killed_run(
        tmp_path, stage="deploy", lab="embedded", job="nightly", started_at="2026-11-21T04:00:00+00:00"
    )
    child = sleeper(tmp_path)
    (run,) = recover(StateFolder(tmp_path))
    child.wait(5)
    found = json.loads((run.folder / "run.json").read_text())
    assert found["status"] == "failed"
    assert found["failure"]["class"] == "lab"
    assert found["failure"]["stage"] == "deploy"
    assert "killed in the stage deploy" in found["failure"]["message"]
    assert (found["lab"], found["job"]) == ("embedded", "nightly")
    assert processes_of(tmp_path) == []


IDENTITY = {
    "lab": "embedded",
    "job": "nightly",
    "cloud": "embedded",
    "job_digest": "x",
    "nodes": ["node-0"],
    "started_at": "2026-11-21T04:15:00+00:00",
}
SEALS = """
import os, signal, sys
from pathlib import Path
from perfci.runs.night.record import RunEnd, document
from perfci.runs.state import run_folder as work
from perfci.runs.state.state_folder import StateFolder

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

point, identity = sys.argv[2], eval(sys.argv[3])
state = StateFolder(Path(sys.argv[1]))
folder = work.create(state.runs, "20261121T041500Z-nightly-1f2e", **identity)
folder.note(stage="archive")
record = document(folder, RunEnd())
real = work.write_json
if point == "before the manifest":
    work.write_json = lambda path, value: die() if path.name == work.MANIFEST else real(path, value)
if point == "before the hashes":
    work._digests = die
if point == "before the rename":
    work.write_json = lambda path, value: (real(path, value), path.name == work.MANIFEST and die())
work.seal(folder, state.archive_for(identity.get("confirms")), record)
"""


@pytest.mark.parametrize("point", ["before the hashes", "before the manifest", "before the rename"])
@pytest.mark.parametrize("confirms", [None, "20261120T041500Z-nightly-0a0a"])
def test_a_run_that_is_killed_while_it_is_sealed_is_archived_as_it_ended(tmp_path, point, confirms):
    identity = {**IDENTITY, "confirms": confirms}
    command = [sys.executable, "-c", SEALS, str(tmp_path), point, repr(identity)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    state = StateFolder(tmp_path)
    (run,) = recover(state)
    assert run.folder.parent == state.archive_for(confirms)
    found = json.loads((run.folder / "run.json").read_text())
    assert (found["lab"], found["job"], found["status"]) == ("embedded", "nightly", "finished")
    assert found["started_at"].startswith("2026-11-21T04:15:00")
    assert found["failure"] is None
    manifest = json.loads((run.folder / work.MANIFEST).read_text())["files"]
    assert set(manifest) == {"run.json", "start.json"}
    assert recover(state) == []


def test_a_run_that_is_being_sealed_by_a_living_process_is_left_alone(tmp_path, monkeypatch):
    state = StateFolder(tmp_path)
    folder = work.create(state.runs, "20261121T041500Z-nightly-1f2e", **IDENTITY)
    seen = []

    def hashing(root):
        seen.append(recover(state))
        return ()

    monkeypatch.setattr(work, "_digests", hashing)
    target = work.seal(folder, state.archive, document(folder, RunEnd())).folder
    assert seen == [[]]
    assert json.loads((target / "run.json").read_text())["status"] == "finished"


def test_a_run_that_lost_its_identity_is_told_by_its_id(tmp_path):
    folder = tmp_path / "runs" / "20261121T041500Z-nightly-1f2e"
    folder.mkdir(parents=True)
    (run,) = recover(StateFolder(tmp_path))
    found = json.loads((run.folder / "run.json").read_text())
    assert (found["job"], found["status"]) == ("nightly", "failed")
    assert found["started_at"].startswith("2026-11-21T04:15:00")


def test_a_re_run_that_lost_its_identity_is_none_of_the_nights(tmp_path):
    folder = tmp_path / "runs" / "20261121T041500Z-nightly-confirm-1f2e"
    folder.mkdir(parents=True)
    state = StateFolder(tmp_path)
    (run,) = recover(state)
    assert run.folder.parent == state.reruns
    assert run.record.purpose is Purpose.CONFIRM


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("code.json", '{"services": [{}]}'),
        ("code.json", '{"services": 7}'),
        ("code.json", "[1]"),
        ("mirror.json", '{"nova": 3}'),
        ("environment.json", "[]"),
        ("progress.json", '{"stages": 1, "nodes": "x", "started_at": 5}'),
        ("progress.json", '{"ended": {"at": "yesterday", "failure": null}}'),
        ("run.json", '{"status": "fini'),
    ],
)
def test_damaged_files_of_a_killed_run_are_in_nobodys_way(tmp_path, name, text):
    killed_run(tmp_path, **IDENTITY)
    (tmp_path / "runs" / "r1" / name).write_text(text)
    (run,) = recover(StateFolder(tmp_path))
    found = json.loads((run.folder / "run.json").read_text())
    assert (found["lab"], found["job"], found["status"]) == ("embedded", "nightly", "failed")


def test_a_run_that_can_not_be_archived_now_is_in_nobodys_way(tmp_path, monkeypatch):
    killed_run(tmp_path, **IDENTITY)
    state = StateFolder(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(work, "_digests", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        assert recover(state) == []
    assert [run.run_id for run in recover(state)] == ["r1"]


def test_recovering_twice_finds_nothing_more(tmp_path):
    killed_run(tmp_path)
    assert len(recover(StateFolder(tmp_path))) == 1
    assert recover(StateFolder(tmp_path)) == []


def test_a_living_run_and_its_services_are_left_alone(tmp_path):
    mine = work.create(tmp_path / "runs", "r2")
    killed_run(tmp_path)
    child, orphan = sleeper(tmp_path, "r2"), sleeper(tmp_path, "r1")
    assert [run.run_id for run in recover(StateFolder(tmp_path))] == ["r1"]
    orphan.wait(5)
    assert child.poll() is None
    assert mine.path.exists()
    child.kill()
    child.wait()


def test_what_belongs_to_no_run_any_more_is_ended_and_the_controllers_services_are_not(tmp_path):
    archived, by_hand, controller = (sleeper(tmp_path, run) for run in ("r0", "none", ""))
    assert recover(StateFolder(tmp_path)) == []
    archived.wait(5)
    by_hand.wait(5)
    assert controller.poll() is None
    controller.kill()
    controller.wait()


def test_of_two_that_clean_up_at_a_time_one_archives_a_run(tmp_path):
    killed_run(tmp_path)
    code = f"from pathlib import Path; from perfci.runs.state.state_folder import StateFolder; from perfci.runs.night.recover import recover; print(len(recover(StateFolder(Path({str(tmp_path)!r})))))"
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert sorted(process.communicate(timeout=60)[0] for process in both) == ["0\n", "1\n"]
    assert (tmp_path / "archive" / "r1" / "run.json").exists()
