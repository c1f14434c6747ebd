"""Archived runs made from a recorded Rally report: the same iterations, slower by a factor."""

from __future__ import annotations

import json
import random
import shutil
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import yaml

from perfci.results.model import CodeUnderTest, RunRecord, ServiceRevision, Validity
from perfci.results.record import record_to_dict

SAMPLE = Path(__file__).parent / "data" / "archive" / "20261121T052400Z-sample-7c3d"
REPORT = Path(__file__).parent / "data" / "rally" / "create-and-list-ports.json"
FIRST_NIGHT = datetime(2026, 11, 1, 4, 15, tzinfo=UTC)
SCENARIO = "NeutronNetworks.create_and_list_ports"


@cache
def _source() -> str:
    return REPORT.read_text()


def report(*, factor: float = 1.0, seed: int = 0, iterations: int = 30) -> dict:
    """Return the recorded report with its durations times `factor` and some noise, `iterations` long."""
    source = json.loads(_source())
    chance = random.Random(seed)  # noqa: S311
    workload = source["tasks"][0]["subtasks"][0]["workloads"][0]
    recorded = workload["data"]
    data = []
    for number in range(iterations):
        one = recorded[number % len(recorded)]
        scale = factor * chance.uniform(0.97, 1.03)
        start = 1_700_000_000.0 + 10 * number
        shift = start - one["timestamp"]
        actions = []
        for action in one["atomic_actions"]:
            began = action["started_at"] + shift
            length = action["finished_at"] - action["started_at"]
            ended = began + length * scale
            actions.append({**action, "started_at": began, "finished_at": ended, "children": []})
        changed = {"timestamp": start, "duration": one["duration"] * scale, "atomic_actions": actions}
        data.append({**one, **changed})
    workload["data"] = data
    return source


def night(
    archive: Path,
    number: int,
    *,
    factor: float = 1.0,
    code: str = "aaaaaaaaaaaa",
    changes: tuple[str, ...] = (),
    **changed,
) -> Path:
    """Archive one run of the night with this number; return its folder."""
    started = FIRST_NIGHT + timedelta(days=number)
    run_id = f"{started:%Y%m%dT%H%M%SZ}-nightly-{number:04x}"
    version = "29.0.0" if code == "aaaaaaaaaaaa" else f"29.0.0+{code[:4]}"
    fields = {
        "run_id": run_id,
        "lab": "embedded",
        "job": "nightly",
        "cloud": "embedded",
        "started_at": started,
        "finished_at": started + timedelta(minutes=7),
        "environment": "0123456789ab",
        "code": CodeUnderTest(code, (ServiceRevision("neutron", version, "wheel", version, changes),)),
        "validity": Validity(valid=True),
    }
    record = RunRecord(**{**fields, **changed})
    folder = archive / record.run_id
    (folder / "rally").mkdir(parents=True)
    failure = (
        None
        if record.status == "finished"
        else {
            "stage": "deploy",
            "class": "product",
            "message": "nova-api did not answer",
            "help": "Look at the log.",
            "source": "nova-api",
            "excerpt": "ValueError: broken",
        }
    )
    (folder / "run.json").write_text(
        json.dumps(
            {
                **record_to_dict(record),
                "failure": failure,
                "stages": [{"name": "deploy", "seconds": 58.2, "ok": True}],
            }
        )
    )
    (folder / "rally" / "01-ports.json").write_text(json.dumps(report(factor=factor, seed=number)))
    task = {
        "slug": "01-ports", "task": "neutron-create-and-list-ports", "scenario": SCENARIO, "warmup": 2, "times": 28,
        "concurrency": 2, "started_at": 1_700_000_000.0, "finished_at": 1_700_000_400.0, "status": "finished", "error": None,
    }  # fmt: skip
    (folder / "tasks.json").write_text(json.dumps([task]))
    job = {
        "name": "nightly",
        "scenarios": [{"task": "neutron-create-and-list-ports", "times": 28}],
        "mail": {"to": ["team@example.org"]},
    }
    if version != "29.0.0":
        job["sources"] = {"neutron": {"version": version}}
    (folder / "job.yml").write_text(yaml.safe_dump(job))
    return folder


def recorded(archive: Path, **changed) -> Path:
    """Archive the recorded run of tests/data/archive as a night; return its folder."""
    folder = archive / SAMPLE.name
    shutil.copytree(SAMPLE, folder)
    started = datetime(2026, 11, 21, 5, 24, tzinfo=UTC)
    fields = {
        "run_id": SAMPLE.name,
        "lab": "embedded",
        "job": "sample",
        "cloud": "embedded",
        "started_at": started,
        "finished_at": started + timedelta(minutes=4),
        "environment": "0123456789ab",
        "code": CodeUnderTest("aaaaaaaaaaaa", ()),
        "validity": Validity(valid=True),
    }
    record = record_to_dict(RunRecord(**{**fields, **changed}))
    (folder / "run.json").write_text(json.dumps({**record, "failure": None, "stages": []}))
    (folder / "job.yml").write_text(yaml.safe_dump({"name": "sample"}))
    return folder
