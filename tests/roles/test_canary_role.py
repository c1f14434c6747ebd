"""The canaries: their form, and real work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import canary
import pytest

SCRIPT = Path(canary.__file__)


def test_each_round_runs_each_canary_once_after_one_round_that_is_left_out() -> None:
    calls: list[str] = []
    values = canary.measure({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert calls == ["a", "b"] + ["a", "b"] * 3
    assert {name: len(seconds) for name, seconds in values.items()} == {"a": 3, "b": 3}
    assert all(second >= 0 for seconds in values.values() for second in seconds)


def test_the_report_has_units_and_all_values() -> None:
    assert canary.report("node1", 12.5, {"cpu": [0.1, 0.2]}) == {
        "node": "node1",
        "taken_at": 12.5,
        "canaries": {"cpu": {"unit": "seconds", "values": [0.1, 0.2]}},
    }


def test_a_canary_that_fails_is_an_error_and_not_a_value() -> None:
    def broken() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        canary.measure({"rabbitmq": broken})


def test_memory_really_copies() -> None:
    work = canary.Memory(mebibytes=1, copies=1)
    work()
    assert bytes(work._target[:64]) == bytes(work._source[:64])


def test_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    canary.Disk(tmp_path, blocks=2, block_bytes=512)()
    assert list(tmp_path.iterdir()) == []


def test_the_script_writes_its_report(tmp_path: Path) -> None:
    output = tmp_path / "run" / "canaries" / "node1-before.json"
    command = [
        sys.executable,
        str(SCRIPT),
        "--node",
        "node1",
        "--folder",
        str(tmp_path),
        "--output",
        str(output),
    ]
    subprocess.run(command, check=True, timeout=100)
    report = json.loads(output.read_text())
    assert set(report) == {"node", "taken_at", "canaries"}
    assert set(report["canaries"]) == {"cpu", "memory", "disk"}
    for found in report["canaries"].values():
        assert found["unit"] == "seconds"
        assert len(found["values"]) == canary.ROUNDS
        assert min(found["values"]) > 0


def test_the_script_fails_without_its_database(tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    command = [sys.executable, str(SCRIPT), "--node", "n", "--folder", str(tmp_path), "--output", str(output)]
    access = ["--mariadb", "127.0.0.1:1", "--mariadb-password-file", str(tmp_path / "none")]
    done = subprocess.run([*command, *access], capture_output=True, timeout=60, check=False)
    assert done.returncode != 0
    assert not output.exists()
