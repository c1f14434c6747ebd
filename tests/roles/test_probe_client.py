"""Talking to the probes on the nodes: real processes that behave, fail, fall silent and die."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from probe_client import Host, Places, ProbeFailed, Probes, read_places

if TYPE_CHECKING:
    from pathlib import Path

PROBE = """
import json, sys, time, pathlib
print(json.dumps({"ok": {}}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "die":
        sys.exit("out of memory")
    if request["do"] == "sleep":
        time.sleep(300)
    answer = {"error": "no such bridge"} if request["do"] == "plug" else {"ok": request}
    print(json.dumps(answer), flush=True)
pathlib.Path(sys.argv[1]).write_text("removed everything")
"""


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host("node-2", (sys.executable, "-c", PROBE, str(tmp_path / "end")))


def test_requests_are_answered_one_by_one_and_the_end_is_told(host: Host, tmp_path: Path) -> None:
    with Probes(host) as probes:
        for number in range(3):
            assert probes.ask("ping", count=number) == {"do": "ping", "count": number}
    assert (tmp_path / "end").read_text() == "removed everything"


def test_what_a_probe_cannot_do_is_told_with_its_node_and_it_goes_on(host: Host) -> None:
    with Probes(host) as probes:
        with pytest.raises(ProbeFailed, match="node-2: no such bridge"):
            probes.ask("plug")
        assert probes.ask("ping") == {"do": "ping"}


def test_the_end_is_told_after_an_error_as_well(host: Host, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Probes(host):
        raise ZeroDivisionError
    assert (tmp_path / "end").exists()


def test_a_probe_that_dies_is_told_with_its_last_words(host: Host) -> None:
    with Probes(host) as probes:
        with pytest.raises(ProbeFailed, match="node-2: the probe ended"):
            probes.ask("die")
        with pytest.raises(ProbeFailed, match=r"out of memory|the probe ended|Broken pipe"):
            probes.ask("ping")


def test_a_probe_that_falls_silent_is_not_waited_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe_client._END_SECONDS", 0.2)
    with Probes(host) as probes, pytest.raises(ProbeFailed, match="node-2: no answer in 0 s"):
        probes.ask("sleep", limit_seconds=0.2)


def test_a_node_that_can_not_be_reached_is_told() -> None:
    unreachable = Host("node-3", (sys.executable, "-c", "import sys; sys.exit('Connection refused')"))
    with pytest.raises(ProbeFailed, match="node-3: the probe ended"), Probes(unreachable):
        pass


PLACES = {
    "computes": [{"name": "node-2", "command": ["ssh", "a"]}, {"name": "node-3", "command": ["python3"]}],
    "outside": {"name": "node-1", "command": ["ssh", "b"], "address": "203.0.113.1"},
}


def test_the_places_are_read(tmp_path: Path) -> None:
    file = tmp_path / "places.json"
    file.write_text(json.dumps(PLACES))
    computes = (Host("node-2", ("ssh", "a")), Host("node-3", ("python3",)))
    assert read_places(file) == Places(computes, Host("node-1", ("ssh", "b")), "203.0.113.1")
    file.write_text(json.dumps({**PLACES, "outside": None}))
    assert read_places(file).outside is None


@pytest.mark.parametrize("content", [None, "", "{}", '{"computes": 3, "outside": null}'])
def test_a_cloud_without_probes_is_told(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "places.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ProbeFailed, match="no probes on this cloud"):
        read_places(file)
