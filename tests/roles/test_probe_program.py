"""The probes on a node, on a real Open vSwitch in user space: two nodes as namespaces, VXLAN between them.

There is no neutron here: the bridges switch by themselves, so what is tested is plugging, measuring and
cleaning up. Needs root.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from ovs_machines import Machine, needed, two_machines
from probe import Node, RequestFailed, serve
from probe_client import Host, ProbeFailed, Probes

if TYPE_CHECKING:
    from collections.abc import Iterator

MTU = 8950


class Recorder(Node):
    """A node that only notes what it is asked."""

    def __init__(self) -> None:
        super().__init__("br-int", "")
        self.done: list[str] = []

    def plug(self, port: str, **_: object) -> dict:
        self.done.append(f"plug {port}")
        if port == "bad":
            raise RequestFailed("RTNETLINK answers: File exists")
        return {}

    def clear(self) -> None:
        self.done.append("clear")


def answers(*lines: str) -> tuple[list[dict], Recorder]:
    node, given, left = Recorder(), [], [*lines, ""]
    serve(node, lambda: left.pop(0), lambda text: given.append(json.loads(text)))
    return given, node


def test_everything_is_removed_before_the_first_request_and_after_the_last() -> None:
    _, node = answers('{"do": "plug", "port": "a"}')
    assert node.done == ["clear", "plug a", "clear"]


def test_a_request_that_fails_is_answered_and_the_next_one_is_carried_out() -> None:
    given, node = answers(
        '{"do": "plug", "port": "bad"}', "garbage", '{"do": "format"}', "[]", '{"do": "plug", "port": "b"}'
    )
    assert given[1] == {"error": "RTNETLINK answers: File exists"}
    assert all("not a request" in one["error"] for one in given[2:5])
    assert given[5] == {"ok": {}}
    assert node.done == ["clear", "plug bad", "plug b", "clear"]


def test_a_router_that_says_unreachable_is_asked_again(tmp_path, monkeypatch) -> None:
    counter = tmp_path / "asked"
    program = tmp_path / "ping"
    program.write_text(f'#!/bin/sh\necho >> {counter}\n[ "$(wc -l < {counter})" -ge 3 ]\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert Node("br-int", "").first_reply("", "192.0.2.1", 20) == {}
    assert counter.read_text() == "\n" * 3


def test_whole_packets_are_sent_whatever_mtu_the_path_had_a_minute_ago(tmp_path, monkeypatch) -> None:
    log = tmp_path / "log"
    for name in ("ip", "ping"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    Node("br-int", "").ping("", "192.0.2.1", 2)
    Node("br-int", "").ping("", "192.0.2.1", 2, 8922, whole=True)
    asked = [line.split(" -")[0] for line in log.read_text().splitlines()]
    assert asked == ["ping", "ip route flush cache", "ping"]


def test_an_interruption_removes_everything_too() -> None:
    node = Recorder()

    def read() -> str:
        raise SystemExit(143)

    with pytest.raises(SystemExit):
        serve(node, read, lambda _: None)
    assert node.done == ["clear", "clear"]


@pytest.fixture(scope="module")
def machines(tmp_path_factory) -> Iterator[tuple[Machine, Machine]]:
    with two_machines(tmp_path_factory.mktemp("ovs")) as both:
        yield both


def host(machine: Machine) -> Host:
    return Host(machine.name, tuple(machine.probe))


def port(number: int) -> dict:
    return {
        "port": f"{number:08d}-0000-4000-8000-000000000000",
        "mac": f"fa:16:3e:00:00:{number:02x}",
        "address": f"10.7.0.{number}/24",
        "gateway": None,
        "mtu": MTU,
    }


@pytest.fixture
def plugged(machines) -> Iterator[tuple[Probes, Probes]]:
    """Two ports on each machine: 1 and 3 on the first, 2 and 4 on the second."""
    with Probes(host(machines[0])) as first, Probes(host(machines[1])) as second:
        for number in (1, 3):
            first.ask("plug", **port(number))
            second.ask("plug", **port(number + 1))
        first.ask("first_reply", port=port(1)["port"], target="10.7.0.2", reply_seconds=20)
        yield first, second


class TestReally:
    """Against a real Open vSwitch."""

    pytestmark = needed

    def test_ports_on_two_nodes_reach_each_other_unfragmented(self, plugged) -> None:
        first, _ = plugged
        fits = first.ask("ping", port=port(1)["port"], target="10.7.0.2", count=5, size=MTU - 28, whole=True)
        assert len(fits["round_trips"]) == 5
        assert all(0 < trip < 1 for trip in fits["round_trips"])
        larger = first.ask(
            "ping", port=port(1)["port"], target="10.7.0.2", count=2, size=MTU - 27, whole=True
        )
        assert larger["round_trips"] == []

    def test_an_address_that_nobody_has_gives_no_first_reply(self, plugged) -> None:
        with pytest.raises(ProbeFailed, match=r"node-1: no answer from 10\.7\.0\.99 in 1 s"):
            plugged[0].ask("first_reply", port=port(1)["port"], target="10.7.0.99", reply_seconds=1)

    def test_a_switch_in_user_space_is_given_packets_with_checksums(self, machines, plugged) -> None:
        def offload(machine: Machine) -> str:
            found = machine.run(
                "ip", "netns", "exec", "probe-00000001-00", "ethtool", "--show-offload", "eth0"
            )
            return next(line for line in found.splitlines() if line.startswith("tx-checksumming"))

        assert offload(machines[0]) == "tx-checksumming: off"

    def test_tcp_is_sent_over_one_pair_and_over_two_at_once(self, plugged) -> None:
        first, second = plugged
        for number in (2, 4):
            second.ask("serve", port=port(number)["port"], tcp=5200 + number, address=f"10.7.0.{number}")
        assert first.ask("connect", port=port(1)["port"], target="10.7.0.2", tcp=5202, connect_seconds=3)[
            "connected"
        ]
        assert not first.ask("connect", port=port(1)["port"], target="10.7.0.2", tcp=5999, connect_seconds=1)[
            "connected"
        ]
        pairs = [{"port": port(n)["port"], "target": f"10.7.0.{n + 1}", "tcp": 5201 + n} for n in (1, 3)]
        for some in (pairs[:1], pairs):
            # On a busy machine a switch in user space may forward nothing for a second.
            for seconds in (1, 5, 25):
                found = first.ask("send", pairs=some, send_seconds=seconds)
                if all(found["bits_per_second"]):
                    break
            assert len(found["bits_per_second"]) == len(some)
            assert all(rate > 0 for rate in found["bits_per_second"])

    def test_sending_to_nobody_is_an_error_with_iperfs_words(self, plugged) -> None:
        with pytest.raises(ProbeFailed, match=r"node-1: iperf3: .*refused"):
            plugged[0].ask(
                "send",
                pairs=[{"port": port(1)["port"], "target": "10.7.0.2", "tcp": 5777}],
                send_seconds=1,
            )

    def test_unplugging_removes_the_namespace_and_the_port(self, machines, plugged) -> None:
        plugged[0].ask("unplug", port=port(1)["port"])
        assert "probe-00000001" not in machines[0].namespaces
        assert "tap00000001" not in machines[0].ports
        assert "probe-00000003" in machines[0].namespaces

    def test_nothing_is_left_when_the_orders_end(self, machines) -> None:
        with Probes(host(machines[0])) as probes:
            probes.ask("plug", **port(1))
            probes.ask("serve", port=port(1)["port"], tcp=5201, address="10.7.0.1")
            assert "probe-00000001" in machines[0].namespaces
        assert machines[0].namespaces == ""
        assert "tap" not in machines[0].ports

    def test_what_a_killed_probe_left_is_removed_by_the_next(self, machines) -> None:
        with Probes(host(machines[0])) as probes:
            probes.ask("plug", **port(1))
            probes._process.kill()
            probes._process.wait()
        assert "probe-00000001" in machines[0].namespaces
        with Probes(host(machines[0])):
            assert machines[0].namespaces == ""
            assert "tap" not in machines[0].ports
