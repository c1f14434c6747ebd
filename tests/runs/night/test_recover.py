"""What a killed run leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys

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
    (folder,) = recover(StateFolder(tmp_path))
    child.wait(5)
    document = json.loads((folder / "run.json").read_text())
    assert document["status"] == "failed"
    assert document["failure"]["class"] == "lab"
    assert document["failure"]["stage"] == "deploy"
    assert "killed in the stage deploy" in document["failure"]["message"]
    assert (document["lab"], document["job"]) == ("embedded", "nightly")
    assert processes_of(tmp_path) == []


def test_recovering_twice_finds_nothing_more(tmp_path):
    killed_run(tmp_path)
    assert len(recover(StateFolder(tmp_path))) == 1
    assert recover(StateFolder(tmp_path)) == []


def test_a_living_run_and_its_services_are_left_alone(tmp_path):
    mine = work.create(tmp_path / "runs", "r2")
    killed_run(tmp_path)
    child, orphan = sleeper(tmp_path, "r2"), sleeper(tmp_path, "r1")
    assert [folder.name for folder in recover(StateFolder(tmp_path))] == ["r1"]
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
