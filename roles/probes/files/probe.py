"""Probes on one node: network namespaces on the integration bridge, plugged as an instance would be.

Reads one JSON request a line from standard input, and answers each with one line: {"ok": ...}, or
{"error": "..."}. When the input ends, for whatever reason, everything that was made is removed; and before
the first request, what a probe left that had no time for it. Needs root, iproute2, ethtool, ping, iperf3 and
Open vSwitch; Python's standard library alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import re
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

PREFIX = "probe-"
"""How namespaces' names begin; the rest is the beginning of the port's id, as in its interface's name."""
_ID_CHARACTERS = 11
_ANSWER = re.compile(r"time=([0-9.]+) ms")
_ARP_RETRY_MILLISECONDS = 50
_RETRY_SECONDS = 0.05
_SLOW_START_SECONDS = 1
"""iperf3 leaves out what comes before."""
_COMMAND_SECONDS = 30.0
_START_SECONDS = 5.0


class RequestFailed(Exception):
    """A request could not be carried out; the text says why."""


class Node:
    """What is plugged on this node, and what runs in it."""

    def __init__(self, bridge: str, ovs_database: str) -> None:
        self._bridge = bridge
        self._ovs = ["ovs-vsctl", *([f"--db={ovs_database}"] if ovs_database else [])]
        self._plugged: set[str] = set()
        self._servers: dict[str, list[subprocess.Popen[bytes]]] = {}

    def plug(self, port: str, mac: str, address: str, gateway: str | None, mtu: int) -> dict[str, Any]:
        """Make a namespace with the port's interface; `address` has its prefix length."""
        inside, outside = _namespace(port), _interface(port)
        self._plugged.add(port)
        _run("ip", "netns", "add", inside)
        _run("ip", "link", "add", outside, "mtu", str(mtu), "type", "veth",
             "peer", "name", "eth0", "mtu", str(mtu), "netns", inside)  # fmt: skip
        _run("ip", "-n", inside, "link", "set", "lo", "up")
        _run("ip", "-n", inside, "link", "set", "eth0", "address", mac)
        if self._in_user_space():
            # It fills in no checksums that a card would have.
            _run("ip", "netns", "exec", inside, "ethtool", "-K", "eth0", "tx", "off")
        _run("ip", "-n", inside, "address", "add", address, "dev", "eth0")
        # An ARP request that is lost while the port is being wired would cost a whole second.
        _set_retry(inside)
        _run("ip", "link", "set", outside, "up")
        _run("ip", "-n", inside, "link", "set", "eth0", "up")
        if gateway:
            _run("ip", "-n", inside, "route", "add", "default", "via", gateway)
        ids = {"iface-id": port, "attached-mac": mac, "iface-status": "active"}
        external = [f'external_ids:{name}="{value}"' for name, value in ids.items()]
        add = ["--", "--may-exist", "add-port", self._bridge, outside]
        _run(*self._ovs, *add, "--", "set", "Interface", outside, *external)
        return {}

    def _in_user_space(self) -> bool:
        """Say whether Open vSwitch switches here by itself, not the kernel for it."""
        return _run(*self._ovs, "get", "Bridge", self._bridge, "datapath_type").strip() == "netdev"

    def unplug(self, port: str) -> dict[str, Any]:
        """Remove a port's interface and namespace, and end what runs in it."""
        for server in self._servers.pop(port, []):
            _end(server)
        self._remove(_namespace(port), _interface(port))
        self._plugged.discard(port)
        return {}

    def first_reply(self, port: str, target: str, reply_seconds: float) -> dict[str, Any]:
        """Ping until the first answer; without one in time that is an error."""
        until = time.monotonic() + reply_seconds
        # It also ends when a router says "unreachable", as one does that is still being wired.
        while (left := until - time.monotonic()) > 0:
            words = ["ping", "-n", "-q", "-i", "0.05", "-c", "1", "-w", str(math.ceil(left)), target]
            if not _in(port, *words, limit=left + _COMMAND_SECONDS).returncode:
                return {}
            time.sleep(_RETRY_SECONDS)
        raise RequestFailed(f"no answer from {target} in {reply_seconds:.0f} s")

    def ping(
        self, port: str, target: str, count: int, size: int = 56, *, whole: bool = False
    ) -> dict[str, Any]:
        """Return the round trips in seconds; `whole` forbids to fragment, `size` is that of the payload."""
        forbid = ["-M", "do"] if whole else []
        if whole:
            # A router's new port has a smaller MTU for a moment: the kernel would believe it for ten minutes.
            _in(port, "ip", "route", "flush", "cache")
        found = _in(
            port, "ping", "-n", "-i", "0.02", "-c", str(count), "-W", "1", "-s", str(size), *forbid, target
        )
        return {"round_trips": [float(one) / 1000 for one in _ANSWER.findall(found.stdout)]}

    def connect(self, port: str, target: str, tcp: int, connect_seconds: float) -> dict[str, Any]:
        """Say whether a TCP connection comes about in time."""
        words = [sys.executable, "-c", _CONNECT, target, str(tcp), str(connect_seconds)]
        return {"connected": _in(port, *words, limit=connect_seconds + _COMMAND_SECONDS).returncode == 0}

    def serve(self, port: str, tcp: int, address: str) -> dict[str, Any]:
        """Start an iperf3 server, which takes one sender after the other, and wait until it listens."""
        words = _inside(port, "iperf3", "--server", "--port", str(tcp), "--bind", address)
        server = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._servers.setdefault(port, []).append(server)
        until = time.monotonic() + _START_SECONDS
        while not _in(port, "ss", "-Hltn", f"sport = :{tcp}").stdout:
            if server.poll() is not None or time.monotonic() > until:
                raise RequestFailed(f"iperf3 does not listen on {address}:{tcp}")
            time.sleep(0.02)
        return {}

    def send(self, pairs: list[dict[str, Any]], send_seconds: int) -> dict[str, Any]:
        """Send over TCP from several ports at once; each pair has port, target and tcp.

        Returns what each receiver got, in bits/s.
        """
        senders = [
            subprocess.Popen(
                _inside(one["port"], "iperf3", "--client", one["target"], "--port", str(one["tcp"]),
                        "--time", str(send_seconds), "--omit", str(_SLOW_START_SECONDS), "--json"),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )
            for one in pairs
        ]  # fmt: skip
        try:
            limit = send_seconds + _COMMAND_SECONDS
            answers = [sender.communicate(timeout=limit)[0] for sender in senders]
        except subprocess.TimeoutExpired:
            raise RequestFailed(f"iperf3 has not ended after {limit:.0f} s") from None
        finally:
            for sender in senders:
                _end(sender)
        return {"bits_per_second": [_rate(answer) for answer in answers]}

    def clear(self) -> None:
        """Remove everything that was made here, and what was left by another one."""
        for port in list(self._servers.keys() | self._plugged):
            with contextlib.suppress(RequestFailed):
                self.unplug(port)
        for line in _run("ip", "netns", "list").splitlines():
            name = line.split()[0] if line.split() else ""
            if name.startswith(PREFIX):
                with contextlib.suppress(RequestFailed):
                    self._remove(name, f"tap{name.removeprefix(PREFIX)}")

    def _remove(self, namespace: str, interface: str) -> None:
        errors = []
        for words in (
            [*self._ovs, "--if-exists", "del-port", self._bridge, interface],
            ["ip", "link", "delete", interface],
            ["ip", "netns", "delete", namespace],
        ):
            try:
                _run(*words)
            except RequestFailed as error:
                errors.append(str(error))
        if namespace in _run("ip", "netns", "list").split():
            raise RequestFailed("; ".join(errors))


_CONNECT = """
import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3])).close()
"""


def _namespace(port: str) -> str:
    return f"{PREFIX}{port[:_ID_CHARACTERS]}"


def _interface(port: str) -> str:
    return f"tap{port[:_ID_CHARACTERS]}"


def _inside(port: str, *words: str) -> list[str]:
    """Return a command for a port's namespace, for the node's own where the port is empty."""
    return ["ip", "netns", "exec", _namespace(port), *words] if port else list(words)


def _in(port: str, *words: str, limit: float = _COMMAND_SECONDS) -> subprocess.CompletedProcess[str]:
    return _done(_inside(port, *words), limit)


def _run(*words: str) -> str:
    done = _done(list(words), _COMMAND_SECONDS)
    if done.returncode:
        raise RequestFailed(f"{' '.join(words)}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout


def _done(words: list[str], limit: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RequestFailed(f"{' '.join(words)}: {error}") from error


def _set_retry(namespace: str) -> None:
    setting = f"net.ipv4.neigh.eth0.retrans_time_ms={_ARP_RETRY_MILLISECONDS}"
    _run("ip", "netns", "exec", namespace, "sysctl", "-qw", setting)


def _rate(answer: bytes) -> float:
    try:
        found = json.loads(answer)
        if "error" in found:
            raise RequestFailed(f"iperf3: {found['error']}")
        return float(found["end"]["sum_received"]["bits_per_second"])
    except (ValueError, KeyError, TypeError) as error:
        raise RequestFailed(f"iperf3 gave no result: {answer[:200]!r}") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()


def serve(node: Node, read: Callable[[], str], write: Callable[[str], None]) -> None:
    """Carry out requests until the input ends; then, and before, nothing is left."""
    requests: dict[str, Callable[..., Any]] = {
        "plug": node.plug,
        "unplug": node.unplug,
        "first_reply": node.first_reply,
        "ping": node.ping,
        "connect": node.connect,
        "serve": node.serve,
        "send": node.send,
    }
    try:
        node.clear()
        write(json.dumps({"ok": {"host": socket.gethostname()}}))
        while line := read():
            try:
                request = json.loads(line)
                answer = {"ok": requests[request.pop("do")](**request)}
            except RequestFailed as error:
                answer = {"error": str(error)}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                answer = {"error": f"not a request: {error!r}: {line[:200]!r}"}
            write(json.dumps(answer))
    finally:
        node.clear()


def _stop(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def main() -> int:
    """Serve standard input."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bridge", default="br-int")
    parser.add_argument("--ovs-database", default="", help="as ovs-vsctl --db takes it; its own default")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _stop)

    def write(text: str) -> None:
        # Nobody may listen any more: then the input ends as well, and everything is removed.
        with contextlib.suppress(BrokenPipeError):
            print(text, flush=True)

    serve(Node(arguments.bridge, arguments.ovs_database), sys.stdin.readline, write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
