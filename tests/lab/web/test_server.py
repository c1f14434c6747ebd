"""`perfci lab serve` as a process: where it listens, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing

import pytest

from perfci.lab.web.errors import AddressUnusable, PortTaken
from perfci.lab.web.server import listen


def test_a_port_that_is_taken_is_said_so():
    with listen("127.0.0.1", 0) as taken, pytest.raises(PortTaken, match="another program listens there"):
        listen("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "a" * 70, "\udcff"])
def test_an_address_that_is_not_this_machines(host):
    with pytest.raises(AddressUnusable):
        listen(host, 0)


def test_it_listens_on_one_address_alone():
    with listen("127.0.0.1", 0) as found:
        assert found.getsockname()[0] == "127.0.0.1"
        with (
            pytest.raises(ConnectionRefusedError),
            socket.create_connection(("127.0.0.2", found.getsockname()[1])),
        ):
            pass


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "playbooks").mkdir()
    inventory = tmp_path / "inventory" / "embedded"
    inventory.mkdir(parents=True)
    (inventory / "hosts.yml").write_text("nodes: {hosts: {node-0: {}}}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERFCI_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("PERFCI_CONFIG", raising=False)
    return tmp_path


def command(*words):
    return [sys.executable, "-m", "perfci", "lab", *words, "--json"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(project, number):
    with subprocess.Popen(
        command("serve", "--port", "0"), stdout=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        try:
            text = ""
            while not text.endswith("}\n"):
                line = process.stdout.readline()
                assert line, "it ended before it listened"
                text += line
            told = json.loads(text)
            with closing(http.client.HTTPConnection("127.0.0.1", told["port"])) as connection:
                connection.request("GET", "/api/v1/nodes")
                assert json.load(connection.getresponse())[0]["name"] == "node-0"
            refused = subprocess.run(
                command("serve", "--port", str(told["port"])), capture_output=True, text=True, check=False
            )
            assert (refused.returncode, json.loads(refused.stdout)["error"]) == (3, "PortTaken")
        finally:
            process.send_signal(number)
        assert process.wait() == 0
    assert told["host"] == "127.0.0.1"
