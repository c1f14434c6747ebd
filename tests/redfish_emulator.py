"""sushy-tools' Redfish emulator on its fake driver, and in front of it what real services have beside that.

The emulator knows neither sessions, nor orders for one start only, nor logs, nor restarts of the BMC, and it
always behaves. Those are added here, with the quirks of vendors, each switched on by a test.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sushy_tools.emulator import main as emulator
from sushy_tools.emulator import memoize
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from perfci.lab.bmc.base import BmcProtocol, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

memoize.PersistentDict = (
    dict  # else it keeps the state of its machines in the machine's folder for temporary files
)
DATA = Path(__file__).parent / "data" / "redfish"
NODE = "27946b59-9e44-4fa7-8e91-f3527a1ef094"
OTHER = "7a4e1d52-0000-4000-8000-f3527a1ef095"
USERNAME, PASSWORD = "perfci", "s3cret-of-bmc"
ROOT = "/redfish/v1"
SESSIONS = f"{ROOT}/SessionService/Sessions"
SYSTEM = f"{ROOT}/Systems/{NODE}"


@dataclass
class Quirks:
    """How the service differs from one that behaves. Counts go down as they are used up."""

    sessions: int = 4
    """How many sessions it has; 0: it knows none."""
    only_reads: bool = False
    """The user may only read: HTTP 403 for everything else."""
    conflicts: int = 0
    """So many orders are refused with HTTP 409."""
    unavailable: int = 0
    """So many requests are refused with HTTP 503."""
    broken: str | bytes = ""
    """What every answer is at the path `broken_at`."""
    broken_at: str = SYSTEM
    tasks: int = 0
    """Orders are accepted with HTTP 202, and done after their task was asked for so many times."""
    task_fails: str = ""
    task_forgets: bool = False
    """A task that is done is HTTP 404."""
    etag: str = "none"
    """none; strong: wanted and given; weak: given as weak, and only the strong one is taken."""
    power_unknown: int = 0
    """So many times the power state is null."""
    power_seconds: float = 0.0
    boot_ignored: bool = False
    boot_late: int = 0
    """So many times the old boot order is read after a new one was given."""
    modes: tuple[str, ...] | None = None
    """What BootSourceOverrideMode may be; empty: there is no such property."""
    systems: tuple[str, ...] = (NODE,)
    hang_seconds: float = 0.0


@dataclass
class Emulator:
    """One BMC; its machine is the emulator's."""

    url: str = ""
    quirks: Quirks = field(default_factory=Quirks)
    sessions: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    restarts: list[str] = field(default_factory=list)
    resets: list[str] = field(default_factory=list)
    boot: dict[str, Any] = field(default_factory=dict)
    led: str = "Off"
    logins_refused: int = 0
    _old_boot: dict[str, Any] = field(default_factory=dict)
    _tasks: dict[str, tuple[int, Request]] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        """How it is reached."""
        return Target(
            "node-1", "127.0.0.1", USERNAME, PASSWORD, power_seconds=3.0, protocol=BmcProtocol.REDFISH,
            redfish_url=self.url,
        )  # fmt: skip

    @property
    def power(self) -> str:
        return emulator.app.systems.get_power_state(NODE)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        environ["wsgi.input"] = BytesIO(request.get_data(cache=True))  # for the emulator, too
        self.requests.append((request.method, request.path))
        if self.quirks.broken and request.path.rstrip("/") == self.quirks.broken_at:
            answer = Response(self.quirks.broken, content_type="application/json")
        else:
            answer = self._answer(request)
        return answer(environ, start_response)

    def _answer(self, request: Request) -> Response:
        path = request.path.rstrip("/")
        if self.quirks.hang_seconds:
            time.sleep(self.quirks.hang_seconds)
        if path == ROOT:
            return self._root(request)
        if path == SESSIONS and request.method == "POST" and not self.quirks.unavailable:
            return self._log_in(request)
        if refused := self._refusal(request):
            return refused
        if path.startswith(f"{ROOT}/SessionService"):
            return self._session(request, path)
        if path.startswith(f"{ROOT}/TaskService/Tasks/"):
            return self._task(path)
        return self._accept(request) if self._becomes_a_task(request) else self._carry_out(request, path)

    def _refusal(self, request: Request) -> Response | None:
        """Return what comes in the place of an answer."""
        order = request.method != "GET" and not request.path.startswith(SESSIONS)
        if self.quirks.unavailable:
            self.quirks.unavailable -= 1
            return refusal(503, "Base.1.8.ServiceTemporarilyUnavailable", "The service is starting.")
        if not self._known(request):
            self.logins_refused += 1
            return refusal(401, "Base.1.8.NoValidSession", "There is no valid session.")
        if order and self.quirks.only_reads:
            return refusal(403, "Base.1.8.InsufficientPrivilege", "There are insufficient privileges.")
        if order and self.quirks.conflicts:
            self.quirks.conflicts -= 1
            return refusal(409, "Base.1.8.ResourceInStandby", "The machine is in POST.")
        return None

    def _becomes_a_task(self, request: Request) -> bool:
        return bool(self.quirks.tasks) and request.method != "GET"

    def _accept(self, request: Request) -> Response:
        place = f"{ROOT}/TaskService/Tasks/{len(self._tasks) + 1}"
        self._tasks[place] = (self.quirks.tasks, request)
        # Several services give the address under which they know themselves.
        where = f"https://bmc.example.com{place}"
        return document({"@odata.id": place, "TaskState": "New"}, 202, {"Location": where})

    def _root(self, request: Request) -> Response:
        found = self._emulated(request)
        if self.quirks.sessions:
            found["SessionService"] = {"@odata.id": f"{ROOT}/SessionService"}
            found["Links"] = {"Sessions": {"@odata.id": SESSIONS}}
        return document(found)

    def _log_in(self, request: Request) -> Response:
        if not self.quirks.sessions:
            return refusal(404, "Base.1.8.ResourceMissingAtURI", "There is no such resource.")
        if request.json != {"UserName": USERNAME, "Password": PASSWORD}:
            self.logins_refused += 1
            return refusal(401, "Base.1.8.ResourceAtUriUnauthorized", "Invalid credentials.")
        if len(self.sessions) >= self.quirks.sessions:
            return refusal(503, "Base.1.8.SessionLimitExceeded", "All sessions are taken.")
        token = f"token-{len(self.requests)}"
        self.sessions[token] = f"{SESSIONS}/{len(self.requests)}"
        headers = {"X-Auth-Token": token, "Location": self.sessions[token]}
        return document({"@odata.id": self.sessions[token]}, 201, headers)

    def _known(self, request: Request) -> bool:
        given = request.authorization
        basic = given is not None and (given.username, given.password) == (USERNAME, PASSWORD)
        return basic or request.headers.get("X-Auth-Token") in self.sessions

    def _session(self, request: Request, path: str) -> Response:
        if request.method == "DELETE":
            token = next((token for token, place in self.sessions.items() if place == path), None)
            if token is None:
                return refusal(404, "Base.1.8.ResourceMissingAtURI", "There is no such session.")
            del self.sessions[token]
            return Response(status=204)
        if path != SESSIONS:
            return document({"Sessions": {"@odata.id": SESSIONS}})
        return document({"Members": [{"@odata.id": place} for place in self.sessions.values()]})

    def _task(self, path: str) -> Response:
        left, request = self._tasks[path]
        if left > 0:
            self._tasks[path] = (left - 1, request)
            # Some services answer 200 for a task that still runs.
            return document({"Id": "1", "TaskState": "Running"}, 202 if left % 2 else 200)
        if self.quirks.task_fails:
            message = [{"Message": self.quirks.task_fails}]
            return document({"TaskState": "Exception", "TaskStatus": "Critical", "Messages": message})
        if left == 0:
            self._tasks[path] = (-1, request)
            self._carry_out(request, request.path.rstrip("/"))
        if self.quirks.task_forgets:
            return refusal(404, "Base.1.8.ResourceMissingAtURI", "There is no such task.")
        return document({"TaskState": "Completed", "TaskStatus": "OK", "Messages": []})

    def _carry_out(self, request: Request, path: str) -> Response:
        if path == SYSTEM:
            return self._patch(request) if request.method == "PATCH" else self._system(request)
        if path == f"{SYSTEM}/Actions/ComputerSystem.Reset":
            return self._reset(request)
        if path.endswith("/Actions/Manager.Reset"):
            self.restarts.append(request.json["ResetType"])
            self.sessions.clear()
            return Response(status=204)
        kept = DATA / f"{path.removeprefix(f'{SYSTEM}/').replace('/', '-')}.json"
        if kept.exists():
            return document(json.loads(kept.read_text()))
        if path.startswith(f"{ROOT}/Managers/"):
            reset = {"target": f"{path}/Actions/Manager.Reset"}
            reset["ResetType@Redfish.AllowableValues"] = ["ForceRestart"]
            return document({**self._emulated(request), "Actions": {"#Manager.Reset": reset}})
        return self._passed_on(request)

    def _system(self, request: Request) -> Response:
        found = self._emulated(request)
        if self.quirks.power_unknown:
            self.quirks.power_unknown -= 1
            found["PowerState"] = None
        found["LogServices"] = {"@odata.id": f"{SYSTEM}/LogServices"}
        found["IndicatorLED"] = self.led
        boot = self.boot
        if self.quirks.boot_late and self._old_boot is not self.boot:
            self.quirks.boot_late -= 1
            boot = self._old_boot
        possible = "BootSourceOverrideTarget@Redfish.AllowableValues"
        found["Boot"] |= {"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None"} | boot
        found["Boot"][possible] = ["None", "Pxe", "Hdd", "BiosSetup"]
        if self.quirks.modes is not None:
            found["Boot"].pop("BootSourceOverrideMode", None)
            if self.quirks.modes:
                found["Boot"]["BootSourceOverrideMode"] = boot.get("BootSourceOverrideMode", "UEFI")
                name = "BootSourceOverrideMode@Redfish.AllowableValues"
                found["Boot"][name] = list(self.quirks.modes)
        tag = self._tag
        return document(
            found, headers={"ETag": f"W/{tag}" if self.quirks.etag == "weak" else tag} if tag else {}
        )

    @property
    def _tag(self) -> str:
        return "" if self.quirks.etag == "none" else f'"{len(json.dumps(self.boot))}"'

    def _patch(self, request: Request) -> Response:
        if self._tag and request.headers.get("If-Match") != self._tag:
            return refusal(412, "Base.1.8.PreconditionFailed", "The ETag does not match.")
        if not self._tag and "If-Match" in request.headers:
            return refusal(412, "Base.1.8.PreconditionFailed", "ETags are not supported.")
        if "IndicatorLED" in request.json:
            if request.json["IndicatorLED"] == "Blinking":
                return refusal(400, "Base.1.8.PropertyValueNotInList", "Blinking is not in the list.")
            self.led = request.json["IndicatorLED"]
            return Response(status=204)
        if not self.quirks.boot_ignored:
            self._old_boot, self.boot = self.boot, {**self.boot, **request.json["Boot"]}
        return Response(status=204)

    def _reset(self, request: Request) -> Response:
        self.resets.append(request.json["ResetType"])
        if request.json["ResetType"] == "On" and self.boot.get("BootSourceOverrideEnabled") == "Once":
            self.boot = {
                **self.boot,
                "BootSourceOverrideEnabled": "Disabled",
                "BootSourceOverrideTarget": "None",
            }
        answer = self._passed_on(request)
        # The emulator's own delay is a whole and random number of seconds.
        system = emulator.app.systems._systems[NODE]
        if pending := system.get("pending_power"):
            emulator.app.systems._update(
                system, pending_power={**pending, "apply_time": time.time() + self.quirks.power_seconds}
            )
        return answer

    def _passed_on(self, request: Request) -> Response:
        environ = {**request.environ, "wsgi.input": BytesIO(request.get_data())}
        return Response.from_app(emulator.app.wsgi_app, environ)

    def _emulated(self, request: Request) -> dict[str, Any]:
        environ = {**request.environ, "REQUEST_METHOD": "GET"}
        found: dict[str, Any] = json.loads(Response.from_app(emulator.app.wsgi_app, environ).get_data())
        return found


def document(content: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(content), status, headers or {}, content_type="application/json")


def refusal(status: int, code: str, message: str) -> Response:
    """Refuse as DSP0266 wants it, 7.11."""
    more = [{"MessageId": code, "Message": message, "Severity": "Critical"}]
    general = "A general error has occurred. See ExtendedInfo for more information."
    error = {"code": "Base.1.8.GeneralError", "message": general, "@Message.ExtendedInfo": more}
    return document({"error": error}, status)


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object, **__: object) -> None:
        """Print nothing."""


@contextmanager
def emulated(*, tls: Any = None, **quirks: Any) -> Iterator[Emulator]:
    """Start a BMC whose machine is off; it is gone when the context ends."""
    systems = [
        {"uuid": uuid, "name": f"node-{number}", "power_state": "Off", "nics": []}
        for number, uuid in enumerate((NODE, OTHER), 1)
    ]
    bmc = Emulator(quirks=Quirks(**quirks))
    emulator.app.config["SUSHY_EMULATOR_FAKE_DRIVER"] = True
    emulator.app.config["SUSHY_EMULATOR_FAKE_SYSTEMS"] = systems[: len(bmc.quirks.systems)]
    emulator.app._cache = {}  # what it has made of the configuration before
    server = make_server("127.0.0.1", 0, bmc, threaded=True, request_handler=_Quiet, ssl_context=tls)
    bmc.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield bmc
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
