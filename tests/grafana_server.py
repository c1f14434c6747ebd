"""A double of Grafana's HTTP API: the real paths, answers and refusals, state in memory.

It follows Grafana's documented API (folders, data sources, dashboards, annotations, health); the client
that talks to it is the real grafana-client.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

TOKEN = "glsa_right"


class GrafanaServer:
    """Listens on a free port of loopback while it is used as a context."""

    def __init__(self, path="", *, role="Admin"):
        self.path, self.role = path, role
        self.folders, self.sources, self.dashboards, self.annotations = {}, {}, {}, {}
        self.saved = []
        self.requests = []
        self.broken = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                parts = urlsplit(self.path)
                outer.requests.append((self.command, parts.path))
                status, content = outer.handle(
                    self.command, parts.path, parse_qs(parts.query), body, self.headers.get("Authorization")
                )
                kind = "text/html" if isinstance(content, str) else "application/json"
                data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_port}{self.path}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def handle(self, method, path, query, body, authorization):
        """Return status and content for one request."""
        if self.broken:
            return self.broken
        if not path.startswith(f"{self.path}/api/"):
            return 200, "<!DOCTYPE html><title>Grafana</title>"
        route = path.removeprefix(f"{self.path}/api")
        if (method, route) == ("GET", "/health"):
            return 200, {"commit": "1f2e3d4", "database": "ok", "version": "12.1.0"}
        if authorization != f"Bearer {TOKEN}":
            return 401, {"message": "Invalid API key", "messageId": "api-key.invalid", "statusCode": 401}
        if method != "GET" and self.role == "Viewer":
            return 403, {"message": "You'll need additional permissions to perform this action."}
        return self._route(method, route, query, body)

    def _route(self, method, route, query, body):  # noqa: C901, PLR0911  (a table of routes)
        kind, *rest = route.strip("/").split("/")
        match method, kind, rest:
            case "GET", "folders", [uid]:
                return self._found(self.folders, uid, "folder not found")
            case "POST", "folders", []:
                if body["uid"] in self.folders:
                    return 412, {"message": "a folder with that UID already exists"}
                self.folders[body["uid"]] = {**body, "id": len(self.folders) + 1}
                return 200, self.folders[body["uid"]]
            case "GET", "datasources", ["uid", uid]:
                return self._found(self.sources, uid, "Data source not found")
            case "POST", "datasources", []:
                if self.role != "Admin":
                    return 403, {"message": "You'll need additional permissions: datasources:create"}
                if body["name"] in {one["name"] for one in self.sources.values()}:
                    return 409, {"message": "data source with the same name already exists"}
                self.sources[body["uid"]] = body
                return 200, {"datasource": body, "message": "Datasource added"}
            case "GET", "dashboards", ["uid", uid]:
                return self._found(self.dashboards, uid, "Dashboard not found")
            case "POST", "dashboards", ["db"]:
                return self._save(body)
            case _, "annotations", _:
                return self._annotation(method, rest, query, body)
        return 404, {"message": "Not found"}

    def _save(self, body):
        dashboard, folder = body["dashboard"], body.get("folderUid", "")
        if folder and folder not in self.folders:
            return 400, {"message": "folder not found"}
        there = self.dashboards.get(dashboard["uid"])
        if there and not body.get("overwrite"):
            return 412, {"status": "version-mismatch", "message": "The dashboard has been changed"}
        version = there["dashboard"]["version"] + 1 if there else 1
        number = there["dashboard"]["id"] if there else len(self.dashboards) + 1
        self.dashboards[dashboard["uid"]] = {
            "dashboard": {**dashboard, "id": number, "version": version},
            "meta": {"folderUid": folder, "version": version, "canSave": True},
        }
        self.saved.append(dashboard["uid"])
        return 200, {"id": number, "uid": dashboard["uid"], "status": "success", "version": version}

    def _annotation(self, method, rest, query, body):
        if method == "GET":
            tags = set(query.get("tags", ()))
            return 200, [one for one in self.annotations.values() if tags <= set(one["tags"])]
        number = int(rest[0]) if rest else len(self.annotations) + 1
        if method == "PUT" and number not in self.annotations:
            return 404, {"message": "Could not find annotation to update"}
        self.annotations[number] = {**body, "id": number}
        return 200, {"id": number, "message": "Annotation added"}

    @staticmethod
    def _found(things, name, message):
        return (200, things[name]) if name in things else (404, {"message": message})
