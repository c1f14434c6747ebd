"""Finding and ending what belongs to a state folder: real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from perfci.runs.state.processes import end, of_run, processes_of, reap

if TYPE_CHECKING:
    from pathlib import Path


def start(
    state: Path,
    *,
    service: str = "sleeper",
    run: str = "",
    first: str = "",
    code: str = "import time; time.sleep(60)",
) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PERFCI_STATE_DIR": str(state), "PERFCI_SERVICE": service}
    if run:
        environment["PERFCI_RUN"] = run
    process = subprocess.Popen(
        [sys.executable, "-c", f"{first}\nprint('up', flush=True)\n{code}"],
        env=environment,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process


@pytest.fixture
def started(tmp_path):
    processes: list[subprocess.Popen[bytes]] = []
    yield lambda **options: processes.append(start(tmp_path, **options)) or processes[-1]
    for process in processes:
        process.kill()
        process.wait()


def test_only_marked_processes_of_this_folder_are_found(tmp_path, started) -> None:
    mine = started()
    other = start(tmp_path / "elsewhere")
    try:
        assert [process.pid for process in processes_of(tmp_path)] == [mine.pid]
    finally:
        other.kill()
        other.wait()


def test_a_shell_with_the_state_folder_in_its_environment_is_not_ours(tmp_path):
    environment = {**os.environ, "PERFCI_STATE_DIR": str(tmp_path)}
    environment.pop("PERFCI_SERVICE", None)
    shell = subprocess.Popen(["sleep", "60"], env=environment)
    try:
        assert processes_of(tmp_path) == []
    finally:
        shell.kill()
        shell.wait()


def test_a_process_that_ignores_term_is_killed(tmp_path, started):
    started(first="import signal; signal.signal(15, signal.SIG_IGN)")
    assert end(processes_of(tmp_path), grace_seconds=0.5) == ["sleeper"]
    assert processes_of(tmp_path) == []


def test_reap_keeps_what_it_is_told_to(tmp_path, started) -> None:
    kept, ended = started(service="influxdb"), started(service="nova-api")
    assert reap(tmp_path, keep={"influxdb"}) == ["nova-api"]
    assert psutil.Process(kept.pid).is_running()
    ended.wait(5)


def test_grandchildren_whose_parent_died_are_found(tmp_path, started) -> None:
    parent = started(
        code="import subprocess, sys, os\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\nos._exit(0)"
    )
    parent.wait(5)
    assert reap(tmp_path) == ["sleeper"]
    assert processes_of(tmp_path) == []


def test_a_run_ends_its_own_processes_only(tmp_path, started) -> None:
    mine, other, controller = started(run="r1"), started(run="r2"), started(service="influxdb")
    assert reap(tmp_path, of_run("r1")) == ["sleeper"]
    mine.wait(5)
    assert sorted(process.pid for process in processes_of(tmp_path)) == sorted([other.pid, controller.pid])
    assert reap(tmp_path) == ["influxdb", "sleeper"]


def test_the_caller_is_never_among_them(monkeypatch, tmp_path) -> None:
    code = (
        "from pathlib import Path; from perfci.runs.state.processes import reap, processes_of;"
        f"print(reap(Path({str(tmp_path)!r})))"
    )
    environment = {**os.environ, "PERFCI_STATE_DIR": str(tmp_path), "PERFCI_SERVICE": "x"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
