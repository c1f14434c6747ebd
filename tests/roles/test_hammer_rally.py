"""Rally's engine without a cloud: Rally's own Dummy scenarios, run, failing, hanging and killed."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from perfci.results.rally import read_report

RALLY_FILES = Path(__file__).parents[2] / "roles" / "rally" / "files"

TEMPLATE = """
version: 2
title: dummy
subtasks:
  - title: {{ scenario }}
    workloads:
      - scenario: { {{ scenario }}: {{ arguments | tojson }} }
        runner: {{ runner | default({"constant": {"times": times, "concurrency": 1}}) | tojson }}
"""

RUN = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import hammer_rally
from hammer_loop import Hammer
hammer_rally._ABORT_GRACE_SECONDS = 2

class Engine(hammer_rally.RallyEngine):
    def unreachable(self):
        return None  # there is no cloud to ask, nor one to leave anything in

folder = Path(sys.argv[2])
plan = json.loads((folder / "plan.json").read_text())
engine = Engine(plan["cloud"], config=folder / "rally.conf", database=folder / "rally.db", log=folder / "rally.log")
say = lambda text: print(text, end="", flush=True)
sys.exit(Hammer(plan, engine, say=say, idle_seconds=0).run())
"""


def prepare(folder: Path, *tasks: tuple[str, dict, int]) -> None:
    """Write a plan of (scenario, arguments, limit in seconds)."""
    auth = {
        "auth_url": "http://127.0.0.1:9/v3",
        "username": "admin",
        "password": "verysecret",
        "project_name": "a",
    }
    (folder / "clouds.yaml").write_text(json.dumps({"clouds": {"perfci": {"auth": auth}}}))
    (folder / "rally.conf").write_text("[DEFAULT]\nuse_stderr = false\n")
    plan = {
        "output": str(folder / "run"),
        "cloud": {"clouds_file": str(folder / "clouds.yaml"), "name": "perfci", "services": []},
        "tasks": [
            {
                "slug": f"{position:02d}-dummy",
                "task": "dummy",
                "template": "dummy.yml.j2",
                "source": TEMPLATE,
                "times": 2,
                "warmup": 1,
                "concurrency": 1,
                "timeout_seconds": limit,
                "clean": False,
                "variables": {"scenario": scenario, "arguments": arguments, "times": 3},
            }
            for position, (scenario, arguments, limit) in enumerate(tasks, 1)
        ],
    }
    (folder / "plan.json").write_text(json.dumps(plan))


def command(python: Path, folder: Path) -> list[str]:
    return [str(python), "-c", RUN, str(RALLY_FILES), str(folder)]


def marked(folder: Path) -> list[psutil.Process]:
    """Return the processes that carry this test's mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PERFCI_STATE_DIR") == str(folder) and process.status() != "zombie":
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def records(folder: Path) -> list[dict]:
    return json.loads((folder / "run" / "tasks.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_runner_that_loads_for_a_time_is_measured(rally_python: Path, tmp_path: Path) -> None:
    prepare(tmp_path, ("Dummy.dummy", {"sleep": 0.05}, 60))
    plan = json.loads((tmp_path / "plan.json").read_text())
    runner = {"constant_for_duration": {"duration": 1, "concurrency": 1}}
    plan["tasks"][0]["variables"]["runner"] = runner
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    done = subprocess.run(
        command(rally_python, tmp_path),
        env={**os.environ, "HOME": str(tmp_path), "PERFCI_STATE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [(one["status"], one["error"]) for one in records(tmp_path)] == [("finished", None)]
    (load,) = read_report(tmp_path / "run" / "rally" / "01-dummy.json", lab="lab", job="job", run_id="run")
    assert load.iterations > 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_tasks_run_fail_and_hang_without_hurting_each_other(rally_python: Path, tmp_path: Path) -> None:
    prepare(
        tmp_path,
        ("Dummy.dummy", {"sleep": 0.01}, 60),
        ("Dummy.dummy", {"sleep": 300}, 2),
        ("Dummy.dummy_exception", {"message": "on purpose"}, 60),
        ("Dummy.no_such_thing", {}, 60),
        ("Dummy.dummy", {"sleep": 0.01}, 60),
    )
    environment = {**os.environ, "HOME": str(tmp_path), "PERFCI_STATE_DIR": str(tmp_path)}
    done = subprocess.run(
        command(rally_python, tmp_path),
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [r["status"] for r in records(tmp_path)] == [
        "finished",
        "crashed",
        "finished",
        "crashed",
        "finished",
    ]
    assert "2 s" in records(tmp_path)[1]["error"]
    assert "no_such_thing" in records(tmp_path)[3]["error"]
    assert "Dummy.dummy_exception 3 iterations ... " in done.stdout
    assert "3 failed" in done.stdout
    assert marked(tmp_path) == []
    report = json.loads((tmp_path / "run" / "rally" / "01-dummy.json").read_text())
    assert report["info"]["format_version"] == "1.2"
    workload = report["tasks"][0]["subtasks"][0]["workloads"][0]
    assert workload["total_iteration_count"] == 3
    for path in (tmp_path / "run", tmp_path / "rally.log"):
        for file in [path] if path.is_file() else path.rglob("*.json"):
            assert "verysecret" not in file.read_text()
    assert (tmp_path / "rally.db").stat().st_mode & 0o077 == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("signal_name", ["terminate", "kill"])
def test_nothing_is_left_when_the_hammer_is_stopped(
    rally_python: Path, tmp_path: Path, signal_name: str
) -> None:
    prepare(tmp_path, ("Dummy.dummy", {"sleep": 0.01}, 60), ("Dummy.dummy", {"sleep": 300}, 200))
    environment = {**os.environ, "HOME": str(tmp_path), "PERFCI_STATE_DIR": str(tmp_path)}
    with subprocess.Popen(
        command(rally_python, tmp_path), env=environment, stdout=subprocess.PIPE, text=True
    ) as hammer:
        assert hammer.stdout is not None
        said = ""
        while "[2/2]" not in said:
            said += hammer.stdout.read(1)
        # The hammer, the task's process and the load generator.
        wait_for_processes(tmp_path, 3)
        left = marked(tmp_path)
        getattr(hammer, signal_name)()
        hammer.wait(60)
    _, alive = psutil.wait_procs(left, timeout=60)
    assert alive == []
    assert [r["status"] for r in records(tmp_path)] == ["finished", "crashed"]
    assert records(tmp_path)[1]["error"] == "did not end: the hammer was stopped"


def wait_for_processes(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(marked(folder)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.1)
