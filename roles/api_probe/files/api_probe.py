"""Ask APIs all the time, and write down when they did not answer.

usage: api_probe.py SETTINGS (JSON): {"output": file, "clouds_file": clouds.yaml, "cloud": name in it,
"period_seconds": 0.5, "timeout_seconds": 5, "apis": {"nova": address that a user with a token may read}}.
`keystone` is asked for a token; the others get one that was had before, until one of them does not take it.
The output is written anew whenever an API goes or comes, and every second:

{"from": ..., "until": ..., "apis": {"nova": {"requests": 100, "failed": 3, "outages": [[from, until]]}}}

Times are seconds since the epoch. An outage goes from the beginning of the first request that failed to the
end of the next one that was answered; `until` is null while it lasts.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import requests
import yaml

UNAUTHORISED, FIRST_ERROR = 401, 400
WRITE_SECONDS = 1.0


class Record:
    """How one API answered."""

    def __init__(self) -> None:
        self.requests = self.failed = 0
        self.outages: list[list[float | None]] = []

    def add(self, began: float, ended: float, *, answered: bool) -> bool:
        """Add a request; say whether the API has just gone or come."""
        self.requests += 1
        down = bool(self.outages) and self.outages[-1][1] is None
        if answered:
            if down:
                self.outages[-1][1] = ended
            return down
        self.failed += 1
        if not down:
            self.outages.append([began, None])
        return not down

    def as_dict(self) -> dict[str, Any]:
        """Return the record as it is written."""
        return {"requests": self.requests, "failed": self.failed, "outages": self.outages}


class Tokens:
    """A token of the administrator, had anew when it is not taken any more."""

    def __init__(self, auth: dict[str, str], timeout: float) -> None:
        self.address = f"{auth['auth_url']}/auth/tokens"
        self.timeout, self._lock, self._token = timeout, threading.Lock(), ""
        user = {
            "name": auth["username"],
            "password": auth["password"],
            "domain": {"name": auth["user_domain_name"]},
        }
        project = {"name": auth["project_name"], "domain": {"name": auth["project_domain_name"]}}
        self._body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": project},
            }
        }

    def fetch(self) -> str:
        """Return a new token. Raises requests.RequestException."""
        answer = requests.post(self.address, json=self._body, timeout=self.timeout)
        answer.raise_for_status()
        return str(answer.headers["X-Subject-Token"])

    def current(self) -> str:
        """Return the token in use. Raises requests.RequestException."""
        with self._lock:
            self._token = self._token or self.fetch()
            return self._token

    def drop(self, token: str) -> None:
        """Forget a token that was refused."""
        with self._lock:
            self._token = "" if self._token == token else self._token


class Probe:
    """Asks all APIs, each from a thread of its own."""

    def __init__(self, settings: dict[str, Any], auth: dict[str, str]) -> None:
        self.settings, self.output = settings, Path(settings["output"])
        self.timeout = float(settings["timeout_seconds"])
        self.tokens = Tokens(auth, self.timeout)
        self.records = {name: Record() for name in settings["apis"]}
        self.began = time.time()
        self.stop = threading.Event()
        self._lock = threading.Lock()

    def run(self) -> None:
        """Ask until `stop` is set."""
        threads = [threading.Thread(target=self._ask_on, args=pair) for pair in self.settings["apis"].items()]
        for thread in threads:
            thread.start()
        while not self.stop.wait(WRITE_SECONDS):
            self.write()
        for thread in threads:
            thread.join()
        self.write()

    def write(self) -> None:
        """Write the output so that a reader never sees half of it."""
        with self._lock:
            apis = {name: record.as_dict() for name, record in self.records.items()}
            value = {"from": self.began, "until": time.time(), "apis": apis}
            partial = self.output.with_name(f".{self.output.name}.partial")
            partial.write_text(json.dumps(value), encoding="utf-8")
            partial.replace(self.output)

    def _ask_on(self, name: str, address: str) -> None:
        while not self.stop.is_set():
            began = time.time()
            answered = self._ask(name, address)
            ended = time.time()
            with self._lock:
                changed = self.records[name].add(began, ended, answered=answered)
            if changed:
                self.write()
            self.stop.wait(max(0.0, float(self.settings["period_seconds"]) - (ended - began)))

    def _ask(self, name: str, address: str) -> bool:
        """Say whether an API answered as it should."""
        try:
            if name == "keystone":
                self.tokens.fetch()
                return True
            token = self.tokens.current()
            answer = requests.get(address, headers={"X-Auth-Token": token}, timeout=self.timeout)
        except requests.RequestException:
            return False
        if answer.status_code == UNAUTHORISED:
            self.tokens.drop(token)
        return answer.status_code < FIRST_ERROR


def main() -> int:
    """Return 0 when it was told to stop."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    clouds = yaml.safe_load(Path(settings["clouds_file"]).read_text(encoding="utf-8"))["clouds"]
    probe = Probe(settings, clouds[settings["cloud"]]["auth"])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: probe.stop.set())
    probe.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
