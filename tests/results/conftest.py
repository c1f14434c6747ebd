import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

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
