import os
import signal
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def supervise(plugin):
    return plugin("supervise")


@pytest.fixture
def lab(supervise, lab_processes, short_path):
    """Start and stop units in a state folder, and leave nothing behind."""

    class Lab:
        state = short_path

        def params(self, **more):
            return {
                "state_dir": str(short_path),
                "group": "cloud",
                "run": "r1",
                "supervisord": str(Path(sys.executable).with_name("supervisord")),
                "units": [],
                "start_seconds": 1,
                "start_retries": 1,
                "log_bytes": 100_000,
                "grace_seconds": 1,
                "keep": [],
                "only": [],
                **more,
            }

        def start(self, *units, **more):
            return supervise.started(self.params(units=list(units), **more))

        def stop(self, **more):
            return supervise.stopped(self.params(**more))

        def services(self):
            return lab_processes.services(str(short_path))

        def pid(self, service):
            return next((pid for pid, name in self.services().items() if name == service), None)

        def process(self, service):
            return next(
                p
                for p in supervise.Supervisor(str(short_path), "cloud").rpc.getAllProcessInfo()
                if p["name"] == service
            )

    yield Lab()
    lab_processes.reap(str(short_path), grace_seconds=1)


@pytest.fixture
def short_path(tmp_path_factory):
    # Paths of sockets are short.
    return tmp_path_factory.mktemp("s")


def unit(name, code, **more):
    return {"name": name, "command": [sys.executable, "-c", code], **more}


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


SLEEP = "import time; time.sleep(600)"


def test_runs_a_service_with_its_marks_and_environment_and_no_input(lab):
    code = "import os, sys, time; print(os.environ['PERCENT'], repr(sys.stdin.read()), flush=True); time.sleep(600)"
    assert lab.start(unit("glance", code, environment={"PERCENT": "100%"})) == ["glance"]
    log = lab.state / "logs" / "glance.log"
    until(lambda: log.exists() and log.read_text())
    assert log.read_text() == "100% ''\n"
    assert sorted(lab.services().values()) == ["glance", "supervisord"]
    assert lab.start(unit("glance", code, environment={"PERCENT": "100%"})) == []
    assert lab.stop() == ["glance"]
    assert lab.services() == {}
    assert lab.stop() == []


def test_they_carry_their_runs_mark(lab, lab_processes):
    lab.start(unit("glance", SLEEP))
    until(lambda: lab.pid("glance"))
    assert {lab_processes.environment_of(pid).get("PERFCI_RUN") for pid in lab.services()} == {"r1"}


def test_services_of_the_controller_are_not_ended_for_a_run(lab, lab_processes):
    lab.start(unit("influxdb", SLEEP), run="")
    until(lambda: lab.pid("influxdb"))
    os.kill(lab.pid("supervisord"), signal.SIGKILL)
    until(lambda: lab.pid("supervisord") is None)
    assert lab.stop() == []
    assert lab.pid("influxdb")


def test_more_services_join_later(lab):
    lab.start(unit("glance", SLEEP))
    assert lab.start(unit("nova-api", SLEEP)) == ["nova-api"]
    until(lambda: sorted(lab.services().values()) == ["glance", "nova-api", "supervisord"])


def test_what_crashes_is_started_again_but_not_for_ever(lab):
    lab.start(unit("glance", SLEEP), unit("nova-api", "raise SystemExit(3)"))
    until(lambda: lab.process("glance")["statename"] == "RUNNING")
    first = lab.pid("glance")
    os.kill(first, signal.SIGKILL)
    until(lambda: lab.pid("glance") not in {None, first})
    until(lambda: lab.process("nova-api")["statename"] == "FATAL")


def test_some_can_be_stopped_and_started_anew_while_others_go_on(lab):
    lab.start(unit("mariadb", SLEEP), unit("nova-api", SLEEP), unit("glance", SLEEP))
    until(lambda: len(lab.services()) == 4)
    database, supervisor = lab.pid("mariadb"), lab.pid("supervisord")
    assert lab.stop(only=["nova-api", "glance", "never-started"]) == ["glance", "nova-api"]
    assert sorted(lab.services().values()) == ["mariadb", "supervisord"]
    log = lab.state / "logs" / "nova-api.log"
    log.write_text("of the old code\n")
    assert lab.start(unit("nova-api", "import time; print('new', flush=True); time.sleep(600)")) == [
        "nova-api"
    ]
    until(lambda: log.exists() and log.read_text() == "new\n")
    assert (lab.pid("mariadb"), lab.pid("supervisord")) == (database, supervisor)


def test_some_are_ended_also_without_their_supervisor(lab):
    lab.start(unit("mariadb", SLEEP), unit("glance", SLEEP))
    until(lambda: len(lab.services()) == 3)
    os.kill(lab.pid("supervisord"), signal.SIGKILL)
    until(lambda: lab.pid("supervisord") is None)
    assert lab.stop(only=["glance"]) == ["glance"]
    assert list(lab.services().values()) == ["mariadb"]


def test_orphans_of_a_killed_supervisor_are_found(lab):
    lab.start(unit("glance", SLEEP))
    until(lambda: lab.pid("glance"))
    os.kill(lab.pid("supervisord"), signal.SIGKILL)
    until(lambda: lab.pid("supervisord") is None)
    assert lab.stop() == ["glance"]
    assert lab.services() == {}


def test_a_new_supervisor_ends_the_orphans_of_its_services_first(lab):
    lab.start(unit("influxdb", SLEEP))
    until(lambda: lab.pid("influxdb"))
    orphan = lab.pid("influxdb")
    os.kill(lab.pid("supervisord"), signal.SIGKILL)
    until(lambda: lab.pid("supervisord") is None)
    assert lab.start(unit("influxdb", SLEEP)) == ["influxdb"]
    until(lambda: lab.pid("influxdb") not in {None, orphan})
    assert sorted(lab.services().values()) == ["influxdb", "supervisord"]


def test_all_are_stopped_at_the_same_time(lab):
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    lab.start(*(unit(f"nova-{n}", stubborn, stop_seconds=2) for n in range(5)))
    logs = [lab.state / "logs" / f"nova-{n}.log" for n in range(5)]
    until(lambda: all(log.exists() and log.read_text() for log in logs))
    lab.stop()
    text = (lab.state / "logs" / "supervisord-cloud.log").read_text()
    lines = text.splitlines()
    killed = [n for n, line in enumerate(lines) if "killing" in line]
    stopped = [n for n, line in enumerate(lines) if "stopped:" in line]
    # One after the other, the second would be killed after the first had stopped.
    assert len(killed) == 5
    assert max(killed) < min(stopped)
