"""A small HTTP server in the place of InfluxDB servers that can't be had: it records what reaches it."""

import gzip
import json
import re
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass
class Request:
    method: str
    path: str
    query: dict
    headers: dict
    body: bytes


class Recorder:
    """Answers /ping with a version, writes with 204 and queries with nothing; or what `answers` says.

    `answers` maps a path to (status, body), or to a function that is given the request's handler.
    """

    def __init__(self, version):
        self.version = version
        self.requests = []
        self.answers = {}
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self):
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                recorder.requests.append(Request(self.command, parts.path, query, dict(self.headers), body))
                answer = recorder.answers.get(parts.path, recorder.usual(parts.path))
                if callable(answer):
                    answer(self)
                    return
                status, text = answer
                self.send_response(status)
                if recorder.version:
                    self.send_header("X-Influxdb-Version", recorder.version)
                self.send_header("Content-Type", "application/json")
                if status != 204:
                    self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                if status != 204:
                    self.wfile.write(text.encode())

            do_GET = do_POST = _answer  # noqa: N815

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = False
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))

    @staticmethod
    def usual(path):
        return (200, '{"results": [{"statement_id": 0}]}') if path == "/query" else (204, "")

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def of(self, path):
        return [request for request in self.requests if request.path == path]


def hang_up(handler):
    handler.close_connection = True
    handler.connection.close()


def cut_short(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"results": [')
    handler.close_connection = True


def sleep(seconds):
    def answer(handler):
        time.sleep(seconds)
        hang_up(handler)

    return answer


_LINE = re.compile(r"((?:\\.|[^ ])+) (.+) (\d+)")
_FIELD = re.compile(r'(\w+)=("(?:\\.|[^"\\])*"|[^,]+)(?:,|$)')


def parse_line(line):
    """Return (measurement, tags, fields, nanoseconds) of a point in line protocol."""
    head, fields, at = _LINE.fullmatch(line).groups()
    name, *tags = re.split(r"(?<!\\),", head)
    pairs = (re.split(r"(?<!\\)=", tag, maxsplit=1) for tag in tags)
    return (
        name,
        {key: re.sub(r"\\([, =])", r"\1", value) for key, value in pairs},
        {found[1]: _value(found[2]) for found in _FIELD.finditer(fields)},
        int(at),
    )


def _value(text):
    if text.startswith('"'):
        return json.loads(text) if "\n" not in text else text
    if text in ("true", "false"):
        return text == "true"
    return int(text[:-1]) if text.endswith("i") else float(text)
