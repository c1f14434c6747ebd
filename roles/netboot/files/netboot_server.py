"""HTTP for the machines of a lab: images, environments, the orders for one machine, and its reports.

    netboot_server.py --address 192.168.240.1 --port 8480 --folder STATE/netboot --images STATE/images

`deploy.sh` of the role deploy_ramdisk says what is served and what is reported. The folder has
    nodes.json               {"node-1": {"mac": "52:54:00:aa:bb:01", "address": "192.168.240.11"}}
    boot/MAC/                the orders for one machine; removed here once it reports `deployed` or `wiped`
    environments/            packed Python environments, which the role environment_copy offers
    phone-home/NODE.jsonl    its reports: {"time": ..., "attempt": ..., "step": ..., "text": ...}
Images and environments go to so many machines at a time (`--streams`); the others wait for their turn.
Their reports say so (`queued`, then `turn`), and nobody takes them for dead.
Only the addresses in nodes.json are answered, and each gets its own orders alone: keys are among them.
Standard library only; nothing is kept in memory, so that it may be killed and started again at any time.
"""

from __future__ import annotations

import argparse
import http.server
import json
import re
import shutil
import socketserver
import threading
import time
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

ORDERS = frozenset({"boot.ipxe", "boot.conf", "authorized_keys", "host_key", "host_key.pub"})
LAST_STEPS = frozenset({"deployed", "wiped"})
STEP = re.compile(r"[a-z]{1,20}")
TEXT_CHARACTERS = 500
REPORT_BYTES = 4096
LARGE_BYTES = 32 << 20
"""Whoever asks for as much waits for a turn; kernels and ramdisks go at once: iPXE does not wait for long."""
STREAMS = 32
LOG_BYTES = 1_000_000
"""A machine that reports without end does not fill the controller's disk."""
FROM_DISK = """#!ipxe
# There is nothing to install on this machine.
iseq ${platform} efi && exit ||
sanboot --no-describe --drive 0x80 || exit
"""


class Refused(Exception):
    """A request that can't be answered, with its status."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class Machine(NamedTuple):
    """One machine of the lab; its MAC with hyphens."""

    name: str
    mac: str


class Site:
    """What is known and kept about the machines, all of it in files."""

    def __init__(self, folder: Path, images: Path) -> None:
        self.folder, self.images = folder, images

    def machine_at(self, address: str) -> Machine | None:
        """Return the machine with this address, None for a stranger's."""
        for name, node in self._nodes().items():
            if node["address"] == address:
                return Machine(name, node["mac"].lower().replace(":", "-"))
        return None

    def order(self, mac: str, name: str) -> bytes:
        """Return one file of a machine's orders; whoever has none boots from disk. Raises Refused."""
        path = self.folder / "boot" / mac / name
        if name in ORDERS and path.is_file():
            return path.read_bytes()
        if name == "boot.ipxe":
            return FROM_DISK.encode()
        raise Refused(HTTPStatus.NOT_FOUND, "there are no such orders for this machine")

    def image(self, name: str) -> Path:
        """Return a file below the folder of images. Raises Refused."""
        return _below(self.images, name)

    def environment(self, name: str) -> Path:
        """Return a packed environment. Raises Refused."""
        return _below(self.folder / "environments", name)

    def note(self, machine: Machine, step: str, text: str) -> None:
        """Write down what happens to a machine here, as a report of its present attempt."""
        attempt = _attempt(self.folder / "boot" / machine.mac)
        if attempt is not None:
            self._append(machine, {"attempt": attempt, "step": step, "text": text})

    def report(self, machine: Machine, body: bytes) -> None:
        """Write one report down; the last one of an attempt withdraws its orders. Raises Refused."""
        line = _parsed(body)
        orders = self.folder / "boot" / machine.mac
        if line["step"] in LAST_STEPS and line["attempt"] == _attempt(orders):
            (orders / "boot.ipxe").unlink(missing_ok=True)  # first what would install once more
            shutil.rmtree(orders)
        self._append(machine, line)

    def _append(self, machine: Machine, report: dict[str, str]) -> None:
        log = self.folder / "phone-home" / f"{machine.name}.jsonl"
        log.parent.mkdir(mode=0o700, exist_ok=True)
        if log.exists() and log.stat().st_size > LOG_BYTES:
            raise Refused(HTTPStatus.INSUFFICIENT_STORAGE, "this machine has reported too much")
        with log.open("a", encoding="utf-8") as target:
            target.write(json.dumps({"time": round(time.time(), 3), **report}) + "\n")

    def _nodes(self) -> dict[str, Any]:
        try:
            nodes: dict[str, Any] = json.loads((self.folder / "nodes.json").read_text())
        except FileNotFoundError:
            return {}
        return nodes


def _below(folder: Path, name: str) -> Path:
    """Return a file below a folder. Raises Refused."""
    path = None if "\0" in name else (folder / name).resolve()
    if path is None or not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise Refused(HTTPStatus.NOT_FOUND, "there is no such file")
    return path


def _attempt(orders: Path) -> str | None:
    try:
        lines = (orders / "boot.conf").read_text().splitlines()
    except FileNotFoundError:
        return None
    return next((line.removeprefix("attempt=") for line in lines if line.startswith("attempt=")), None)


def _parsed(body: bytes) -> dict[str, str]:
    try:
        report = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(HTTPStatus.BAD_REQUEST, "the report is not JSON") from None
    if not isinstance(report, dict):
        raise Refused(HTTPStatus.BAD_REQUEST, "the report is not an object")
    fields = {name: report.get(name, "") for name in ("attempt", "step", "text")}
    if not all(isinstance(value, str) for value in fields.values()) or not STEP.fullmatch(fields["step"]):
        raise Refused(HTTPStatus.BAD_REQUEST, "the report has no step, or not only texts")
    return {name: value[:TEXT_CHARACTERS] for name, value in fields.items()}


class Handler(http.server.BaseHTTPRequestHandler):
    """One request of one machine."""

    server: Server
    timeout = 60
    """Seconds that a machine may be silent within a request or an answer."""

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_HEAD(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, act: Any) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.split("/")[1:]]
        try:
            act(parts)
        except Refused as refusal:
            self.send_error(refusal.status, str(refusal))
        except (ConnectionError, TimeoutError):
            self.close_connection = True  # it was switched off in the middle

    def _get(self, parts: list[str]) -> None:
        match parts:
            case ["boot", mac, name]:
                self._send(self.server.site.order(self._machine(mac).mac, name))
            case ["images", *names]:
                self._send_file(self.server.site.image("/".join(names)))
            case ["environments", name]:
                self._send_file(self.server.site.environment(name))
            case _:
                raise Refused(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _post(self, parts: list[str]) -> None:
        match parts:
            case ["phone-home", node]:
                self.server.site.report(self._machine(node), self._body())
                self.send_response(HTTPStatus.NO_CONTENT)
                self.end_headers()
            case _:
                raise Refused(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _machine(self, named: str) -> Machine:
        """Return the asking machine, if that is its name or its MAC."""
        machine = self.server.site.machine_at(self.client_address[0])
        if machine is None or named not in machine:
            raise Refused(HTTPStatus.FORBIDDEN, "this is another machine's")
        return machine

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,9}", length):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "the report has no length")
        if int(length) > REPORT_BYTES:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the report is too long")
        return self.rfile.read(int(length))

    def _send(self, content: bytes) -> None:
        self._head(len(content))
        if self.command != "HEAD":
            self.wfile.write(content)

    def _send_file(self, path: Path) -> None:
        with path.open("rb") as source:
            size = path.stat().st_size
            self._head(size)
            if self.command != "HEAD":
                self.wfile.flush()
                with self.server.turn(self.client_address[0], size):
                    self.connection.sendfile(source)

    def _head(self, length: int) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(length))
        self.end_headers()


class Server(http.server.ThreadingHTTPServer):
    """Answers the machines of the lab, and the controller itself."""

    request_queue_size = 1024
    """Hundreds of machines ask in the same second; Python's 5 would reset the connections of most."""

    def __init__(self, address: tuple[str, int], site: Site, streams: int = STREAMS) -> None:
        self.site = site
        self._streams = threading.Semaphore(streams)
        super().__init__(address, Handler)

    @contextmanager
    def turn(self, host: str, size: int) -> Iterator[None]:
        """Wait until a machine may be sent so many bytes, for as long as it gets them."""
        if size < LARGE_BYTES:
            yield
            return
        waited = not self._streams.acquire(blocking=False)
        machine = self.site.machine_at(host) if waited else None
        if waited:
            if machine:
                self.site.note(machine, "queued", "others get their image first")
            self._streams.acquire()
        try:
            if machine:
                self.site.note(machine, "turn", "the image is sent")
            yield
        finally:
            self._streams.release()

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the DNS for a name, and waits where there is none.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - its base gives both
        host = str(client_address[0])
        return host == self.server_address[0] or self.site.machine_at(host) is not None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--streams", type=int, default=STREAMS)
    given = parser.parse_args()
    with Server((given.address, given.port), Site(given.folder, given.images), given.streams) as server:
        print(f"listening on {server.server_name}:{server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
