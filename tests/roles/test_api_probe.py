"""The probe against an API that really goes away and comes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import api_probe
import pytest

SCRIPT = Path(api_probe.__file__)
AUTH = {
    "username": "admin",
    "password": "secret-of-the-cloud",
    "project_name": "admin",
    "user_domain_name": "Default",
    "project_domain_name": "Default",
}


def test_an_outage_goes_from_the_first_failure_to_the_next_answer():
    record = api_probe.Record()
    answers = [(0, 1, True), (1, 2, False), (2, 3, False), (3, 4, True), (4, 5, True), (5, 6, False)]
    changes = [record.add(began, ended, answered=ok) for began, ended, ok in answers]
    assert changes == [False, True, False, True, False, True]
    assert record.as_dict() == {"requests": 6, "failed": 3, "outages": [[1, 4], [5, None]]}


class Cloud(BaseHTTPRequestHandler):
    """Keystone and one more API. A token is good for the server that gave it."""

    protocol_version = "HTTP/1.0"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        user = body["auth"]["identity"]["password"]["user"]
        self.send_response(201 if user["password"] == AUTH["password"] else 401)
        self.send_header("X-Subject-Token", str(id(self.server)))
        self.end_headers()

    def do_GET(self):
        known = self.headers["X-Auth-Token"] == str(id(self.server))
        self.send_response(200 if known else 401)
        self.end_headers()

    def log_message(self, *arguments):
        pass


def serve(port=0):
    server = ThreadingHTTPServer(("127.0.0.1", port), Cloud)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def until(true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_it_sees_an_api_go_and_come_back_and_needs_no_password_in_its_arguments(tmp_path):
    server = serve()
    port = server.server_port
    clouds = {"clouds": {"perfci": {"auth": {**AUTH, "auth_url": f"http://127.0.0.1:{port}/v3"}}}}
    output = tmp_path / "api_probe.json"
    (tmp_path / "clouds.yaml").write_text(json.dumps(clouds))
    settings = {
        "output": str(output),
        "clouds_file": str(tmp_path / "clouds.yaml"),
        "cloud": "perfci",
        "period_seconds": 0.05,
        "timeout_seconds": 2,
        "apis": {"keystone": "unused", "nova": f"http://127.0.0.1:{port}/v2.1/servers"},
    }
    (tmp_path / "settings.json").write_text(json.dumps(settings))

    def seen(name="nova"):
        return json.loads(output.read_text())["apis"][name]

    command = [sys.executable, str(SCRIPT), str(tmp_path / "settings.json")]
    with subprocess.Popen(command, env={**os.environ, "PYTHONWARNINGS": "error"}) as probe:
        try:
            until(lambda: output.exists() and seen()["requests"] > 3)
            assert seen()["outages"] == seen("keystone")["outages"] == []
            gone = time.time()
            server.shutdown()
            server.server_close()
            until(lambda: seen()["outages"] and seen("keystone")["outages"])
            back = time.time()
            server = serve(port)  # takes no token of the old one
            until(lambda: seen()["outages"][0][1] and seen("keystone")["outages"][0][1])
        finally:
            probe.send_signal(signal.SIGTERM)
            assert probe.wait(30) == 0
            server.shutdown()
            server.server_close()
    for name in ("nova", "keystone"):
        (since, until_) = seen(name)["outages"][0]
        assert gone - 1 < since < back < until_
        assert seen(name)["failed"] >= 1
    assert AUTH["password"] not in output.read_text()
