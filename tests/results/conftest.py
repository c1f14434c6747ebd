import json
import os
import shutil
import socket
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from programs import require

from perfci.results.model import CodeUnderTest, RunRecord, ServiceRevision, Validity
from perfci.results.record import record_to_dict

REPORTS = Path(__file__).parents[1] / "data" / "rally"


@pytest.fixture
def make_record():
    def make(number=1, **changed):
        started = datetime(2026, 11, 1, 4, 15, tzinfo=UTC) + timedelta(days=number)
        fields = {
            "run_id": f"{started:%Y%m%dT%H%M%SZ}-nightly-{number:04x}",
            "lab": "embedded",
            "job": "nightly",
            "cloud": "embedded",
            "started_at": started,
            "finished_at": started + timedelta(minutes=7, milliseconds=250),
            "environment": "0123456789ab",
            "code": CodeUnderTest(
                "ba9876543210",
                (ServiceRevision("nova", "34.0.0", "wheel", "34.0.0", ("slow.patch@1f2e3d4c",)),),
            ),
            "validity": Validity(valid=True),
        }
        return RunRecord(**{**fields, **changed})

    return make


def _task(slug, report, warmup):
    data = json.loads(report.read_text())["tasks"][0]["subtasks"][0]["workloads"][0]["data"]
    return {
        "slug": slug,
        "task": slug,
        "scenario": "any",
        "warmup": warmup,
        "times": len(data),
        "concurrency": 4,
        "started_at": min(i["timestamp"] for i in data) - 2.5,
        "finished_at": max(i["timestamp"] + i["duration"] for i in data) + 1.5,
        "status": "finished",
        "error": None,
    }


def _counters(tasks):
    for second in range(int(tasks[0]["started_at"]) - 1, int(tasks[-1]["finished_at"]) + 3):
        at = second - int(tasks[0]["started_at"]) + 1
        yield {
            "t": float(second),
            "services": {"nova-api": {"cpu_seconds": 0.5 * at, "rss_bytes": 1000 + at, "processes": 2}},
            "sql": {"nova": 10 * at},
            "machine": {"busy_seconds": float(at), "steal_seconds": 0.0, "cpus": 2},
            "foreign_seconds": 0.1 * at,
        }


@pytest.fixture
def archive_run(tmp_path):
    """Write an archive folder out of the recorded reports; returns its path."""

    def write(record, *, warmup=1, root=tmp_path / "archive", disk=0.2, **extra):
        folder = root / record.run_id
        for part in ("rally", "counters", "canaries"):
            (folder / part).mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps({**record_to_dict(record), **extra}))
        tasks = []
        for number, name in enumerate(("authenticate", "create-and-list-ports"), 1):
            slug = f"{number:02d}-{name}"
            shutil.copyfile(REPORTS / f"{name}.json", folder / "rally" / f"{slug}.json")
            tasks.append(_task(slug, REPORTS / f"{name}.json", warmup))
        (folder / "tasks.json").write_text(json.dumps(tasks))
        lines = "".join(json.dumps(one) + "\n" for one in _counters(tasks))
        (folder / "counters" / "node-1.jsonl").write_text(lines)
        canaries = {"node": "node-1", "canaries": {"disk": {"unit": "seconds", "values": [disk]}}}
        for moment in ("before", "after"):
            (folder / "canaries" / f"node-1-{moment}.json").write_text(json.dumps(canaries))
        return folder

    return write


INFLUX_CONFIG = """
reporting-enabled = false
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{root}/meta"
[data]
  dir = "{root}/data"
  wal-dir = "{root}/wal"
  query-log-enabled = false
[http]
  bind-address = "127.0.0.1:{http}"
  log-enabled = false
  auth-enabled = {auth}
[monitor]
  store-enabled = false
"""


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Influxd:
    """A real InfluxDB as a child process."""

    def __init__(self, root, *, auth=False):
        require("influxd")
        self.root = root
        self.http, self.rpc = _free_ports(2)
        self.url = f"http://127.0.0.1:{self.http}"
        config = INFLUX_CONFIG.format(rpc=self.rpc, root=root, http=self.http, auth=str(auth).lower())
        (root / "influxdb.conf").write_text(config)
        self.process = None

    def start(self):
        log = (self.root / "log").open("ab")
        with log:
            self.process = subprocess.Popen(
                ["influxd", "run", "-config", str(self.root / "influxdb.conf")],
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "HOME": str(self.root), "GOMAXPROCS": "2"},
            )
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert self.process.poll() is None, (self.root / "log").read_text()
            try:
                if requests.get(f"{self.url}/ping", timeout=5).status_code == 204:
                    return self
            except requests.ConnectionError:
                time.sleep(0.05)
        self.stop()
        raise TimeoutError((self.root / "log").read_text())

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session")
def influxd(tmp_path_factory):
    """The InfluxDB of Debian, shared by all tests of the session."""
    server = Influxd(tmp_path_factory.mktemp("influxd")).start()
    yield server
    server.stop()


@pytest.fixture
def own_influxd(tmp_path_factory):
    """An InfluxDB that a test may stop and start."""
    server = Influxd(tmp_path_factory.mktemp("own-influxd")).start()
    yield server
    server.stop()


@pytest.fixture
def own_auth_influxd(tmp_path_factory):
    """An InfluxDB that wants a user and password, and has no user yet."""
    server = Influxd(tmp_path_factory.mktemp("auth-influxd"), auth=True).start()
    yield server
    server.stop()
