import http.server
import socket
import threading
import time

import pytest


@pytest.fixture
def wait_ready(plugin):
    return plugin("wait_ready")


@pytest.fixture
def api():
    """A server that answers with the statuses of a list, the last one for ever."""
    statuses = [200]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/", statuses
        server.shutdown()
        thread.join()


def soon(seconds=20):
    return time.monotonic() + seconds


def test_an_error_of_the_server_is_no_answer_yet(wait_ready, api):
    url, statuses = api
    statuses[:] = [503, 500, 300]
    assert wait_ready.wait({"name": "glance", "url": url}, soon(), None)[1] == ""
    assert statuses == [300]


def test_a_status_may_be_asked_for(wait_ready, api):
    url, _ = api
    assert (
        wait_ready.ask({"name": "influxdb", "url": url, "status": [204]}, 5) == "it answers with status 200"
    )


def test_the_deadline_passes(wait_ready, free_port):
    check = {"name": "nova-api", "url": f"http://127.0.0.1:{free_port}/"}
    assert "refused" in wait_ready.wait(check, soon(0.5), None)[1]


def test_a_service_that_is_gone_is_not_waited_for(wait_ready, free_port, tmp_path, monkeypatch):
    monkeypatch.setattr(wait_ready, "GONE_SECONDS", 0.5)
    check = {"name": "nova-api", "url": f"http://127.0.0.1:{free_port}/"}
    assert wait_ready.wait(check, soon(600), str(tmp_path))[1] == "it does not run any more"


def test_an_open_port_alone_is_no_answer(wait_ready):
    with socket.create_server(("127.0.0.1", 0)) as server:
        check = {"name": "rabbitmq", "address": "127.0.0.1", "port": server.getsockname()[1], "send": "AMQP"}
        assert "timed out" in wait_ready.ask(check, 0.3)


def test_the_end_of_the_log_is_told(wait_ready, tmp_path):
    log = tmp_path / "nova-api.log"
    log.write_text("\n".join(f"line {n}" for n in range(100)))
    assert wait_ready.tail(str(log)).splitlines()[1:] == [f"line {n}" for n in range(70, 100)]
    assert "No such file" in wait_ready.tail(str(tmp_path / "none"))
