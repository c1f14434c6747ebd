"""The HTTP server of the provisioning network: who gets what, and what becomes of garbage."""

from __future__ import annotations

import http.client
import importlib.util
import json
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from virtual_labs import until

FILE = Path(__file__).parents[2] / "roles" / "netboot" / "files" / "netboot_server.py"
MAC = "52-54-00-aa-bb-01"


@pytest.fixture(scope="session")
def module():
    spec = importlib.util.spec_from_file_location("netboot_server", FILE)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["netboot_server"] = loaded
    spec.loader.exec_module(loaded)
    return loaded


class Site:
    """A folder with two machines that are known, at loopback addresses, and orders for the first."""

    def __init__(self, folder):
        self.folder, self.images = folder / "netboot", folder / "images"
        self.images.mkdir()
        (self.images / "os-1").mkdir()
        (self.images / "os-1" / "disk.img.gz").write_bytes(bytes(range(256)) * 4096)
        (folder / "secret").write_text("not for machines")
        self.order("a1")
        nodes = {
            "node-1": {"mac": "52:54:00:AA:BB:01", "address": "127.0.0.1"},
            "node-2": {"mac": "52:54:00:aa:bb:02", "address": "127.0.0.2"},
        }
        (self.folder / "nodes.json").write_text(json.dumps(nodes))

    def order(self, attempt):
        (self.folder / "boot" / MAC).mkdir(parents=True, exist_ok=True)
        for name in ("boot.ipxe", "host_key", "host_key.pub", "authorized_keys"):
            (self.folder / "boot" / MAC / name).write_text(f"{name} of node-1")
        (self.folder / "boot" / MAC / "boot.conf").write_text(f"node=node-1\nattempt={attempt}\n")

    def reports(self, node="node-1"):
        file = self.folder / "phone-home" / f"{node}.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture
def ask(module, site):
    """Ask the server as one of the machines; return status and content."""
    with module.Server(("127.0.0.1", 0), module.Site(site.folder, site.images)) as server:
        port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def request(method, path, body=None, *, address="127.0.0.1", headers=None):
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=(address, 0))
            try:
                link.request(method, path, body, headers or {})
                answer = link.getresponse()
                return answer.status, answer.read()
            finally:
                link.close()

        request.port = port
        yield request
        server.shutdown()
        thread.join()


def phone(ask, attempt="a1", step="image", text="", **more):
    body = json.dumps({"attempt": attempt, "step": step, "text": text})
    return ask("POST", "/phone-home/node-1", body, **more)[0]


def test_a_machine_gets_its_orders(ask):
    for name in ("boot.ipxe", "host_key", "host_key.pub", "authorized_keys"):
        assert ask("GET", f"/boot/{MAC}/{name}") == (200, f"{name} of node-1".encode())
    assert ask("HEAD", f"/boot/{MAC}/host_key") == (200, b"")


def test_another_machine_does_not(ask):
    assert ask("GET", f"/boot/{MAC}/host_key", address="127.0.0.2")[0] == 403
    assert phone(ask, address="127.0.0.2") == 403


def test_a_stranger_gets_no_answer_at_all(ask):
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        ask("GET", f"/boot/{MAC}/host_key", address="127.0.0.3")


def test_without_orders_it_boots_from_disk(ask):
    status, script = ask("GET", "/boot/52-54-00-aa-bb-02/boot.ipxe", address="127.0.0.2")
    assert status == 200
    assert b"sanboot" in script
    assert ask("GET", "/boot/52-54-00-aa-bb-02/boot.conf", address="127.0.0.2")[0] == 404


def test_images_are_streamed(ask, site):
    expected = (site.images / "os-1" / "disk.img.gz").read_bytes()
    assert ask("GET", "/images/os-1/disk.img.gz") == (200, expected)
    assert ask("GET", "/images/os-1/disk.img.gz", address="127.0.0.2") == (200, expected)


def test_environments_are_served_and_nothing_beside_them(ask, site):
    (site.folder / "environments").mkdir()
    (site.folder / "environments" / "12ab.tar.gz").write_bytes(b"packed")
    assert ask("GET", "/environments/12ab.tar.gz") == (200, b"packed")
    for path in (
        "/environments/34cd.tar.gz",
        "/environments/..%2Fnodes.json",
        "/environments/",
        "/environments",
    ):
        assert ask("GET", path)[0] == 404


def test_images_go_to_so_many_machines_at_a_time(module, site, monkeypatch):
    """The second one waits until the first has its image, and its reports say so; small files don't wait."""
    monkeypatch.setattr(module, "LARGE_BYTES", 1000)
    (site.images / "vmlinuz").write_bytes(b"kernel")
    with module.Server(("127.0.0.1", 0), module.Site(site.folder, site.images), streams=1) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()

        def ask(path):
            link = http.client.HTTPConnection(
                "127.0.0.1", server.server_address[1], timeout=20, source_address=("127.0.0.1", 0)
            )
            link.request("GET", path)
            answer = link.getresponse()
            return answer.read()

        expected = (site.images / "os-1" / "disk.img.gz").read_bytes()
        got = []
        with server.turn("127.0.0.2", 1000):
            second = threading.Thread(target=lambda: got.append(ask("/images/os-1/disk.img.gz")))
            second.start()
            until(lambda: [one["step"] for one in site.reports()] == ["queued"])
            assert ask("/images/vmlinuz") == b"kernel"
            assert got == []
        second.join(20)
        assert got == [expected]
        assert [(one["step"], one["attempt"]) for one in site.reports()] == [("queued", "a1"), ("turn", "a1")]
        assert ask("/images/os-1/disk.img.gz") == expected
        assert len(site.reports()) == 2, "nobody was before it"
        server.shutdown()
        thread.join()


def test_hundreds_may_ask_in_the_same_moment(module, site):
    """Nobody is accepted yet, and all are waited for: with a short queue most would be reset."""
    with (
        module.Server(("127.0.0.1", 0), module.Site(site.folder, site.images)) as server,
        ExitStack() as links,
    ):
        for _ in range(150):
            link = socket.create_connection(server.server_address, timeout=2, source_address=("127.0.0.1", 0))
            links.enter_context(link)


def test_a_machine_that_was_switched_off_gives_its_turn_away(module, site):
    with module.Server(("127.0.0.1", 0), module.Site(site.folder, site.images), streams=1) as server:
        for _ in range(2):
            with pytest.raises(BrokenPipeError), server.turn("127.0.0.1", module.LARGE_BYTES):
                raise BrokenPipeError


@pytest.mark.parametrize(
    "path",
    [
        "/images/../secret",
        "/images/%2e%2e/secret",
        "/images/..%2fsecret",
        "/images//etc/passwd",
        "/images/os-1",
        "/images/",
        "/images/a%00b",
        f"/boot/{MAC}/../../nodes.json",
        f"/boot/{MAC}/nodes.json",
        f"/boot/{MAC}/",
        "/",
        "/phone-home/node-1",
    ],
)
def test_nothing_else_is_served(ask, path):
    assert ask("GET", path)[0] in {403, 404}


def test_reports_are_kept(ask, site):
    assert phone(ask, step="ramdisk", text="6.1") == 204
    assert phone(ask, step="ramdisk", text="6.1") == 204
    assert [(r["attempt"], r["step"], r["text"]) for r in site.reports()] == [("a1", "ramdisk", "6.1")] * 2
    assert all(report["time"] > 0 for report in site.reports())


@pytest.mark.parametrize("step", ["deployed", "wiped"])
def test_the_last_report_withdraws_the_orders(ask, site, step):
    assert phone(ask, step=step) == 204
    assert not (site.folder / "boot" / MAC).exists()
    assert b"sanboot" in ask("GET", f"/boot/{MAC}/boot.ipxe")[1]
    assert phone(ask, step=step) == 204, "it did not hear the answer, and says it again"


def test_a_late_report_of_an_earlier_attempt_does_not(ask, site):
    site.order("a2")
    assert phone(ask, attempt="a1", step="deployed") == 204
    assert ask("GET", f"/boot/{MAC}/boot.ipxe")[1] == b"boot.ipxe of node-1"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"\xff\xfe", 400),
        (b"[1]", 400),
        (b'"step"', 400),
        (b"{}", 400),
        (b'{"step": 1}', 400),
        (b'{"step": "no such/step"}', 400),
        (b'{"step": "image", "text": ["x"]}', 400),
        (b'{"step": "image", "attempt": null}', 400),
        (b"[" * 4000, 400),
        (b"x" * 5000, 413),
    ],
)
def test_garbage_is_refused_and_forgotten(ask, site, body, status):
    assert ask("POST", "/phone-home/node-1", body)[0] == status
    assert site.reports() == []
    assert (site.folder / "boot" / MAC).exists()


def test_a_report_needs_a_length(ask):
    with socket.create_connection(("127.0.0.1", ask.port), timeout=20) as link:
        link.sendall(b"POST /phone-home/node-1 HTTP/1.0\r\n\r\n")
        assert b" 411 " in link.recv(100)


def test_long_texts_are_cut_and_control_characters_stay_one_line(ask, site):
    assert phone(ask, text="a\nb" + "x" * 2000) == 204
    (report,) = site.reports()
    assert len(report["text"]) == 500


def test_a_machine_that_never_stops_does_not_fill_the_disk(ask, site, module, monkeypatch):
    monkeypatch.setattr(module, "LOG_BYTES", 300)
    codes = [phone(ask, text="x" * 100) for _ in range(4)]
    assert codes[0] == 204
    assert codes[-1] == 507


def test_unknown_nodes_have_no_place(ask):
    assert ask("POST", "/phone-home/node-9", b'{"step": "image"}')[0] == 403
    assert ask("POST", "/phone-home/../nodes", b'{"step": "image"}')[0] in {403, 404}


@pytest.mark.slow
def test_killed_and_started_again(site, tmp_path):
    """It keeps nothing in memory, so a second start knows what the first did."""
    command = [sys.executable, str(FILE), "--address", "127.0.0.1", "--port", "0"]
    command += ["--folder", str(site.folder), "--images", str(site.images)]
    for count in (1, 2):
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            try:
                port = int(process.stdout.readline().rpartition(":")[2])
                link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                link.request("POST", "/phone-home/node-1", '{"attempt": "a1", "step": "image"}')
                assert link.getresponse().status == 204
                link.close()
            finally:
                process.kill()
        assert len(site.reports()) == count
