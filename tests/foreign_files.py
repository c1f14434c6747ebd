"""Files and answers that others make, damaged in every way: what reads them ends in a PerfciError or a result.

`TARGETS` names what is read; each takes a folder to write into and a source of chance, damages a real file, and
reads it. `benchmarks/fuzz.py` runs millions of these, `tests/test_foreign_files.py` some.
"""

from __future__ import annotations

import copy
import gzip
import io
import json
import random
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import archives
import requests
import yaml

from perfci.errors import PerfciError
from perfci.lab import inventory as lab_inventory
from perfci.report.grafana import AlertNote, GrafanaSettings, annotate, push
from perfci.results.archive import RunFiles
from perfci.results.rally import read_report
from perfci.results.rally_forms import write_reports
from perfci.results.record import record_from_bytes, record_to_dict
from perfci.results.stores.influx import InfluxStore
from perfci.results.stores.influx_http import InfluxServer, InfluxSettings
from perfci.runs.jobs.load import load_job
from perfci.runs.studies.history_csv import read_csv

ROOT = Path(__file__).parents[1]
REPORTS = [path.read_bytes() for path in sorted((ROOT / "tests" / "data" / "rally").glob("*.json"))]
JOBS = [path.read_text() for path in sorted((ROOT / "jobs").glob("*.yml"))]
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 1.5, -0.0, 1e308, -1e308, 1e-320, float("nan"), float("inf"), 2**63, -(2**70),
    "", " ", "0", "1.5", "nan", "null", "a" * 300, "\x00", "\ud800", "../../etc/passwd", "/", "é\u202e", "%s{0}${x}{{",
    [], {}, [[]], {"": None}, [None], {"a": {"b": []}},
]  # fmt: skip
TOKENS = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\x00", b"\xff", b"\xed\xa0\x80", b"1e999", b"NaN",
          b"-", b"9" * 5000, b"[" * 3000, b"\r\n", b"\t", b";", b"'", b"|", b"&a ", b"*a", b"!!python/object:os.system ",
          b"\xef\xbb\xbf", b"null", b"true", b"{{", b"%"]  # fmt: skip


def nodes(value: Any, at: tuple = ()) -> list[tuple]:
    """Return the places of all values in JSON."""
    found = [at]
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        found += nodes(child, (*at, key))
    return found


def damaged(document: Any, chance: random.Random) -> Any:
    """Return JSON with one to three values replaced, removed, repeated, moved or renamed."""
    document = copy.deepcopy(document)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        place = chance.choice(nodes(document))
        if not place:
            return chance.choice(ODD)
        parent = document
        for step in place[:-1]:
            parent = parent[step]
        key, what = place[-1], chance.randrange(6)
        if what < 3:
            parent[key] = copy.deepcopy(chance.choice(ODD))
        elif what == 3:
            del parent[key]
        elif isinstance(parent, list):
            parent[key:key] = [copy.deepcopy(parent[key])] * chance.choice((1, 2, 40))
        else:
            name = chance.choice(["", "x", "data", "name", "\ud800", str(key).upper()])
            parent[name] = parent.pop(key) if what == 4 else parent[key]
    return document


def garbled(content: bytes, chance: random.Random) -> bytes:
    """Return bytes that are cut off, spliced, or have others in them."""
    for _ in range(chance.choice((1, 1, 2, 4))):
        first, last = sorted((chance.randint(0, len(content)), chance.randint(0, len(content))))
        content = chance.choice(
            (
                content[:first],
                content[:first] + content[last:],
                content[:first] + chance.choice(TOKENS) + content[first:],
                content[:first] + chance.choice(TOKENS) + content[last:],
                content[:last] + content[first:],
                content[:first] + bytes([chance.randrange(256)]) + content[first + 1 :],
            )
        )
    return content


def written(document: Any, chance: random.Random) -> bytes:
    """Return JSON as bytes, damaged as a document or as bytes."""
    if chance.random() < 0.3:
        return garbled(json.dumps(document).encode(), chance)
    return json.dumps(damaged(document, chance), ensure_ascii=chance.random() < 0.8).encode(
        errors="surrogatepass"
    )


def rally_report(folder: Path, chance: random.Random) -> None:
    path = folder / "report.json"
    path.write_bytes(written(json.loads(chance.choice(REPORTS)), chance))
    read_report(path, lab="lab", job="job", run_id="run", warmup=chance.choice((0, 0, 2)))


def old_rally_results(folder: Path, chance: random.Random) -> None:
    report = json.loads(chance.choice(REPORTS))
    workloads = report["tasks"][0]["subtasks"][0]["workloads"]
    old = [
        {
            "key": {
                "name": next(iter(w["scenario"])),
                "kw": {"args": {}, "runner": {"type": "constant"}, "context": w["contexts"]},
            },
            "result": [
                {**one, "atomic_actions": {a["name"]: 0.5 for a in one["atomic_actions"]}}
                for one in w["data"]
            ],
        }
        for w in workloads
    ]
    content = written(chance.choice((report, old)), chance)
    if chance.random() < 0.2:
        content = garbled(gzip.compress(content, 1), chance)
    for one in write_reports(io.BytesIO(content), "old.json", folder):
        read_report(one.path, lab="lab", job="job", run_id="run")


def histories_in_csv(folder: Path, chance: random.Random) -> None:
    separator = chance.choice(",;\t")
    rows = [["time", "commit", "branch", "boot", "list"]]
    rows += [
        [
            f"2026-11-{day:02}T04:15:00Z",
            f"{day:07x}",
            "main",
            f"{4 + day / 100}",
            chance.choice(["0.21", "", "n/a"]),
        ]
        for day in range(1, 12)
    ]
    for _ in range(chance.randrange(4)):
        row = chance.choice(rows)
        row[chance.randrange(5)] = chance.choice(
            [
                "",
                "x",
                "1e999",
                "-1",
                "nan",
                "9" * 400,
                "2026-13-45",
                "\x00",
                "1,5",
                '"',
                "main2",
                "time",
                "1970",
            ]
        )
    content = "\n".join(separator.join(row) for row in rows).encode()
    path = folder / "history.csv"
    path.write_bytes(garbled(content, chance) if chance.random() < 0.6 else content)
    read_csv(path, otava=chance.random() < 0.6, only=chance.choice(((), ("branch=main",), ("=",), ("x=1",))))


def job_file(folder: Path, chance: random.Random) -> None:
    text = chance.choice(JOBS)
    document = yaml.safe_load(text)
    if chance.random() < 0.5:
        content = garbled(text.encode(), chance)
    else:
        content = yaml.safe_dump(damaged(document, chance), allow_unicode=True).encode(errors="surrogatepass")
    path = folder / f"{document['name']}.yml"
    path.write_bytes(content)
    load_job(str(path), ROOT / "jobs")


def run_record(folder: Path, chance: random.Random) -> None:
    made = folder / "made"
    if not made.exists():
        archives.night(made, 1)
    document = json.loads(next(made.glob("*/run.json")).read_text())
    record_to_dict(record_from_bytes(written(document, chance), folder / "run.json"))


def archived_run(folder: Path, chance: random.Random) -> None:
    """One file of an archive folder that somebody hands over is damaged; everything in it is read."""
    made, run = folder / "sample", folder / archives.SAMPLE.name
    if not made.exists():
        made.mkdir()
        archives.recorded(made)
        (made / archives.SAMPLE.name / "leftovers.json").write_text(
            json.dumps([{"slug": "01-keystone-authenticate", "found": [], "error": None}])
        )
        shutil.copytree(made / archives.SAMPLE.name, run)
    files = [path for path in sorted(run.rglob("*")) if path.suffix in {".json", ".jsonl", ".yml"}]
    victim = chance.choice(files)
    whole = victim.read_bytes()
    try:
        if victim.suffix == ".json":
            victim.write_bytes(written(json.loads(whole), chance))
        else:
            victim.write_bytes(garbled(whole, chance))
        files_of_run = RunFiles(run)
        for read in ("results", "canaries", "shares", "curves", "rates", "leftovers", "document"):
            with suppress(PerfciError):
                getattr(files_of_run, read)
    finally:
        victim.write_bytes(whole)


VARIABLES = {
    "bmc_address": "192.0.2.1", "bmc_username": "admin", "bmc_password": "secret", "bmc_port": 623,
    "bmc_cipher_suite": 17, "bmc_power_seconds": 5.0, "pdu_outlet": None, "pdu_command": None, "bmc_password_file": None,
}  # fmt: skip


def _mapping(value: Any) -> dict[str, Any]:
    """Return variables: of a host they are a mapping, whatever is in it."""
    return value if isinstance(value, dict) else {}


def inventory(folder: Path, chance: random.Random) -> None:
    """The variables of the nodes are damaged, as Ansible hands them on; it reads the files itself."""
    hosts = {f"node-{n}": {"bmc_address": f"192.0.2.{n}", "node_labels": {"rack": "a1"}} for n in (1, 2)}
    names = [*hosts, *chance.sample(["", "a b", "é", "node_3", "-x"], chance.randrange(3))]
    listed = {
        "nodes": {"hosts": names},
        "cloud": {"children": ["nodes"]},
        "_meta": {"hostvars": {name: _mapping(damaged(values, chance)) for name, values in hosts.items()}},
    }
    resolved = _mapping(damaged(VARIABLES, chance))
    line = f"perfci-bmc:{json.dumps({'node': 'node-1', **resolved})}"
    answers = {
        "ansible-inventory": json.dumps(listed),
        "ansible": f"localhost => {json.dumps({'msg': line})}",
    }
    with patch.object(lab_inventory, "_ansible", lambda name, *_, **__: answers[name]):
        with suppress(PerfciError):
            lab_inventory.nodes(folder)
        with suppress(PerfciError):
            lab_inventory.targets(folder, ["node-1"])


RECORD = {
    "schema": 1, "run_id": "20261121T041500Z-nightly-1f2e", "lab": "lab", "job": "nightly", "cloud": "embedded",
    "started_at": "2026-11-21T04:15:00+00:00", "finished_at": "2026-11-21T04:25:00+00:00",
    "environment": {"digest": "0123456789ab"}, "code": {"digest": "ba9876543210", "services": []},
    "validity": {"valid": True, "reasons": []}, "status": "finished", "purpose": "night",
}  # fmt: skip
INFLUX = {
    "results": [
        {
            "statement_id": 0,
            "series": [
                {
                    "name": "run_value",
                    "tags": {"scenario": "A.b", "arguments": "0a", "action": "total", "metric": "sql_statements"},
                    "columns": ["time", "run_id", "record", "n", "at", "until", "median", "attempts", "failures"],
                    "values": [[1795238100000000000, RECORD["run_id"], json.dumps(RECORD), 1, 1.8e9, 1.8e9, 2.5, 9, 0]],
                }
            ],
        }
    ]
}  # fmt: skip


def influx_answer(folder: Path, chance: random.Random) -> None:
    store = InfluxStore(InfluxSettings("http://127.0.0.1:9", database="db"))
    answer = requests.Response()
    answer.status_code = chance.choice((200, 200, 200, 200, 400, 401, 404, 500, 302))
    answer._content = written(INFLUX, chance)
    with patch.object(InfluxServer, "_request", lambda *_, **__: answer):
        for read in (
            lambda: store.records("lab", "nightly"),
            lambda: store.record(RECORD["run_id"]),
            lambda: store.series("lab", "nightly"),
            lambda: store.measurements([record_from_bytes(json.dumps(RECORD).encode(), Path("run.json"))]),
            store.server.version,
        ):
            with suppress(PerfciError):
                read()


DASHBOARD = {"uid": "trends", "title": "Trends", "panels": []}
GRAFANA = {
    "dashboard": {**DASHBOARD, "id": 3, "version": 2}, "meta": {"folderUid": "perfci"}, "uid": "perfci", "id": 1,
}  # fmt: skip
NOTE = {"id": 7, "time": 1, "timeEnd": 2, "text": "slower"}


def grafana_answer(folder: Path, chance: random.Random) -> None:
    from datetime import UTC, datetime

    from grafana_client.client import GrafanaClient

    def answered(_self: object, method: str) -> Any:
        def ask(path: str, *_: object, **__: object) -> Any:
            if path == "/health":
                return {"database": "ok"}
            return damaged([NOTE] if "annotations" in path else GRAFANA, chance)

        return ask if method.isupper() else object.__getattribute__(_self, method)

    settings = GrafanaSettings("http://127.0.0.1:9", "token")
    with patch.object(GrafanaClient, "__getattr__", answered):
        with suppress(PerfciError):
            push(settings, [DASHBOARD])
        with suppress(PerfciError):
            annotate(settings, [AlertNote("a1", "nightly", "slower", datetime(2026, 11, 21, tzinfo=UTC))])


TARGETS = {
    "Rally reports": rally_report,
    "older Rally results": old_rally_results,
    "histories in CSV": histories_in_csv,
    "job files": job_file,
    "inventories": inventory,
    "run.json": run_record,
    "archived runs": archived_run,
    "InfluxDB's answers": influx_answer,
    "Grafana's answers": grafana_answer,
}


def run(target: str, folder: Path, seed: int) -> None:
    """Damage and read one thing; the seed says which. Raises what is no PerfciError."""
    with suppress(PerfciError):
        TARGETS[target](folder, random.Random(seed))  # noqa: S311
