"""BMCs that speak Redfish over HTTPS, on sushy, the library of OpenStack's Ironic.

sushy does the login, retries and the workarounds for vendors' ETags. It waits for each answer, so that each
BMC has a thread of its own here.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import sushy
from sushy.auth import SessionAuth, SessionOrBasicAuth
from sushy.connector import Connector
from sushy.exceptions import AccessError, SushyError
from sushy.exceptions import ConnectionError as NoConnection

from perfci.lab.bmc import redfish_documents as documents
from perfci.lab.bmc.base import BootDevice, BootOrder, PowerOrder, Restart
from perfci.lab.bmc.errors import BmcRefused
from perfci.lab.bmc.redfish_errors import MALFORMED, error_for, garbled, unsupported
from perfci.parsing import NotReadable, json_value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from requests import Response

    from perfci.lab.bmc.base import Console, Event, Power, Reading, Target
    from perfci.lab.bmc.redfish_documents import Document

Value = TypeVar("Value")

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 20.0
BUSY_SECONDS = (0.5, 1.0, 2.0, 4.0)
"""How long to wait before a BMC that says "busy" is asked again."""
SETTLE_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""How long to wait before each look whether a boot order reads as it was given; some take it in later."""
TASK_SECONDS = 60.0
TASK_POLL_SECONDS = 0.5
CLOSE_SECONDS = 3.0
MOST_PAGES = 50
"""Of an event log; real ones have up to 20."""
_RESETS = {
    PowerOrder.ON: ("On", "ForceOn"),
    PowerOrder.OFF: ("ForceOff",),
    PowerOrder.SOFT: ("GracefulShutdown", "PushPowerButton"),
}
_RESTARTS = {
    Restart.WARM: ("GracefulRestart", "ForceRestart"),
    Restart.COLD: ("ForceRestart", "GracefulRestart"),
}
_LAMP_ON = ("Blinking", "Lit")

# sushy reports what it retries to whoever listens; without a handler that would be standard error.
logging.getLogger("sushy").addHandler(logging.NullHandler())


class _Login(SessionOrBasicAuth):  # type: ignore[misc]  # sushy ships no types
    """A session where the BMC has sessions and one is free; else the password with each request.

    sushy's own class tries a refused password a second time, and BMCs lock users out.
    """

    def _do_authenticate(self) -> None:
        try:
            SessionAuth._do_authenticate(self)  # noqa: SLF001 - what the class between would do
        except (AccessError, NoConnection):
            raise
        except SushyError:
            self._fallback_to_basic_authentication()

    def refresh_session(self) -> None:
        """Log in again, as sushy does after every refusal; give back the session that it would leave."""
        with suppress(SushyError):
            self._connector.delete(self.get_session_resource_id(), allow_reauth=False)
        super().refresh_session()


class _Service:
    """Asks a Redfish service in a thread of its own."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"redfish-{target.node}")
        self._asking = False
        self._login: _Login | None = None
        self._accepted: list[Response] = []
        self.logged_in = False

    async def ask(self, order: str, question: Callable[[], Value]) -> Value:
        """Return the answer; a busy BMC is asked again. `order` names it in errors, kinds of BmcError."""
        for seconds in (*BUSY_SECONDS, None):
            # It stays so where this is cancelled: the thread still waits for the answer then.
            self._asking = True
            try:
                answer = await asyncio.get_running_loop().run_in_executor(self._pool, question)
            except (SushyError, *MALFORMED) as error:
                self._asking = False
                told = error_for(self._target, order, error, logged_in=self.logged_in)
                if seconds is None or not (isinstance(told, BmcRefused) and told.passing):
                    raise told from error
            else:
                self._asking = False
                return answer
            await asyncio.sleep(seconds)
        raise AssertionError

    async def open(self) -> sushy.Sushy:
        """Log in."""
        root = await self.ask("log in", self._open)
        self.logged_in = True
        return root

    def _open(self) -> sushy.Sushy:
        target = self._target
        connector = _connector(target, verify=target.redfish_verify, heard=self._hear)
        self._login = _Login(target.username, target.password)
        return sushy.Sushy(url_of(target), auth=self._login, connector=connector)

    def _hear(self, response: Response) -> None:
        if response.status_code == 202 and response.request.method != "GET":  # noqa: PLR2004 - HTTP
            self._accepted.append(response)

    @contextmanager
    def accepted(self) -> Iterator[list[Response]]:
        """Give the list of answers that only accept an order: its task tells what came of it."""
        self._accepted.clear()
        yield self._accepted

    async def close(self) -> None:
        """Give the session back; never raises, and takes no longer than CLOSE_SECONDS."""
        closing = self._pool.submit(self._close)
        self._pool.shutdown(wait=False)
        # A request that we no longer wait for ends by its own limit, and the session after it.
        if not self._asking:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(closing), CLOSE_SECONDS)

    def _close(self) -> None:
        if self._login is None or not self._login.can_refresh_session():
            return
        with suppress(SushyError, *MALFORMED):
            self._login.close()
        with suppress(AttributeError):
            self._login.reset_session_attrs()


class RedfishBmc:
    """A BMC that somebody has logged in to. Use it through `connect`."""

    def __init__(self, target: Target, service: _Service, root: sushy.Sushy, system: Any) -> None:
        self._target, self._service = target, service
        self._root, self._system = root, system
        self._ordered_uefi = False

    async def power(self) -> Power:
        """Say whether the machine is on. A BMC that does not know it now is asked again."""
        for seconds in (*BUSY_SECONDS, None):
            found = documents.power_of(await self._fresh("tell its power"))
            if found is not None:
                return found
            if seconds is not None:
                await asyncio.sleep(seconds)
        raise garbled(self._target, "it does not know the machine's power")

    async def press(self, order: PowerOrder) -> None:
        """Give the order on, off or soft."""
        await self._reset(f"power {order}", self._system, _RESETS[order])

    async def boot(self) -> BootOrder:
        """Say what was ordered; a device that perfci has no name for (CD, say) counts as default."""
        return documents.boot_of(*await self._boots("tell its boot order"), uefi_unsaid=self._ordered_uefi)

    async def set_boot(self, order: BootOrder) -> None:
        """Order it, and give the BMC time to take it in."""
        boots = await self._boots("set its boot order")
        modes = documents.modes_of(*boots)
        wanted: dict[str, Any] = {"enabled": sushy.BootSourceOverrideEnabled.DISABLED}
        if order.device is not BootDevice.DEFAULT:
            enabled = sushy.BootSourceOverrideEnabled
            wanted["target"] = sushy.BootSource(documents.TARGETS[order.device])
            wanted["enabled"] = enabled.CONTINUOUS if order.persistent else enabled.ONCE
            mode = "UEFI" if order.uefi else "Legacy"
            if modes and mode not in modes:
                reason = f"its firmware boots by {' or '.join(modes)} only; correct provision_firmware"
                raise unsupported(self._target, reason)
            if modes:
                wanted["mode"] = sushy.BootSourceOverrideMode(mode)
        self._ordered_uefi = order.uefi
        with self._service.accepted() as accepted:
            await self._service.ask(
                "set its boot order", lambda: self._system.set_system_boot_options(**wanted)
            )
            await self._finish("set its boot order", accepted)
        for seconds in SETTLE_SECONDS:
            if await self.boot() == order:
                return
            await asyncio.sleep(seconds)

    async def identify(self, seconds: int | None) -> bool:
        """Light the lamp; nothing but another order puts it out."""
        on = seconds is None or seconds > 0
        system = await self._fresh("light its lamp")
        path = self._system.path
        if "LocationIndicatorActive" in system:
            await self._patch(path, {"LocationIndicatorActive": on})
            return not on
        for state in _LAMP_ON if on else ("Off",):
            try:
                await self._patch(path, {"IndicatorLED": state})
            except BmcRefused:
                if state != "Blinking":
                    raise
            else:
                break
        return not on

    async def sensors(self) -> tuple[Reading, ...]:
        """Read all sensors of the chassis that the machine is in."""

        def found() -> tuple[Reading, ...]:
            return documents.readings_of(
                one for path in _links(self._system.json, "Chassis") for one in self._measured(path)
            )

        return await self._service.ask("tell its sensors", found)

    async def events(self) -> tuple[Event, ...]:
        """Read the event log of the machine."""

        def found() -> tuple[Event, ...]:
            holders = [self._system.json, *map(self._get, _links(self._system.json, "ManagedBy"))]
            services = [one for holder in holders for one in self._members(holder.get("LogServices"))]
            logs = [one for one in services if documents.is_system_log(one)] or services
            return documents.events_of(entry for log in logs for entry in self._members(log.get("Entries")))

        return await self._service.ask("tell its events", found)

    def console(self, *, take_over: bool = False) -> AbstractAsyncContextManager[Console]:
        """Raise BmcUnsupported: Redfish says only over which other protocol a console can be reached."""
        del take_over
        raise unsupported(self._target, "Redfish carries no console; set bmc_protocol: ipmi for it")

    async def close_other_sessions(self) -> int:
        """End everybody else's sessions; return how many there were."""

        def others() -> list[str]:
            service = self._get(self._root.json["SessionService"]["@odata.id"])
            sessions = self._get(service["Sessions"]["@odata.id"])
            mine = urlsplit(self._root._auth.get_session_resource_id() or "").path  # noqa: SLF001 - no other way
            return [one for one in _paths(sessions.get("Members")) if one != mine]

        if "SessionService" not in self._root.json:
            return 0
        closed = 0
        for path in await self._service.ask("list its sessions", others):
            with suppress(BmcRefused):  # it has ended by itself meanwhile
                await self._service.ask("close a session", partial(self._connector.delete, path))
                closed += 1
        return closed

    async def restart(self, how: Restart) -> None:
        """Restart the BMC."""
        managers = await self._service.ask("restart its BMC", lambda: self._system.managers)
        if not managers:
            raise unsupported(self._target, "it names no manager that could be restarted")
        await self._reset(f"make a {how} restart", managers[0], _RESTARTS[how])

    # ------------------------------------------------------------------------------------------------

    @property
    def _connector(self) -> Any:
        return self._system._conn  # noqa: SLF001 - sushy's resources do so with each other

    def _get(self, path: str) -> Document:
        found: Document = json_value(self._connector.get(path).content)
        return found

    async def _fresh(self, order: str) -> Document:
        """Return what the BMC says of the system now."""

        def read() -> Document:
            self._system.refresh(force=True)
            found: Document = self._system.json
            return found

        return await self._service.ask(order, read)

    async def _boots(self, order: str) -> list[Document]:
        """Return the properties Boot: of the settings that wait for the next start, and of the system."""
        system = await self._fresh(order)
        pending = (system.get("@Redfish.Settings") or {}).get("SettingsObject") or {}
        path = pending.get("@odata.id")
        settings = await self._service.ask(order, lambda: self._get(path)) if path else {}
        return [one for one in (settings.get("Boot"), system.get("Boot")) if isinstance(one, dict)]

    async def _reset(self, order: str, resource: Any, wanted: tuple[str, ...]) -> None:
        """Give the first of these orders that the BMC lists; the first of all where it lists none."""
        actions: Document = resource.json.get("Actions") or {}
        action: Document = next((value for key, value in actions.items() if key.endswith(".Reset")), {})
        possible = action.get("ResetType@Redfish.AllowableValues") or wanted
        chosen = next((one for one in wanted if one in possible), None)
        if chosen is None or "target" not in action:
            raise unsupported(self._target, f"it can't {order}: it offers {', '.join(possible) or 'nothing'}")
        with self._service.accepted() as accepted:
            await self._service.ask(
                order, lambda: self._connector.post(action["target"], data={"ResetType": chosen})
            )
            if not isinstance(resource, sushy.resources.manager.manager.Manager):
                await self._finish(order, accepted)

    async def _patch(self, path: str, data: Document) -> None:
        etag = self._system._get_etag()  # noqa: SLF001 - as sushy's own methods do
        await self._service.ask("light its lamp", lambda: self._connector.patch(path, data=data, etag=etag))

    async def _finish(self, order: str, accepted: list[Response]) -> None:
        """Wait for the tasks of orders that were only accepted. Raises BmcRefused where one failed."""
        clock = asyncio.get_running_loop().time
        end = clock() + TASK_SECONDS
        for response in tuple(accepted):
            place = urlsplit(response.headers.get("Location") or "").path
            while place and clock() < end:
                answer = await self._service.ask(order, partial(self._task, place))
                if answer is None:
                    break
                status, task = answer
                if not documents.task_runs(status, task):
                    if reason := documents.task_failure(task):
                        raise BmcRefused(
                            node=self._target.node, order=order, reason=reason, code="its task", passing=False
                        )
                    break
                await asyncio.sleep(TASK_POLL_SECONDS)

    def _task(self, place: str) -> tuple[int, Document] | None:
        """Return the state of a task; None where it is gone, as some services forget one that is done."""
        try:
            response = self._connector.get(place)
        except sushy.exceptions.ResourceNotFoundError:
            return None
        try:
            found = json_value(response.content)
        except NotReadable:
            found = {}
        return response.status_code, found if isinstance(found, dict) else {}

    def _measured(self, path: str) -> Iterator[Document]:
        """Give the resources of a chassis that have sensors: the old ones, else single sensors."""
        chassis = self._get(path)
        old = [place for name in ("Thermal", "Power") for place in _paths([chassis.get(name)])]
        yield from map(self._get, old)
        if not old:
            yield from self._members(chassis.get("Sensors"))

    def _members(self, link: Any) -> Iterator[Document]:
        """Give the members of a collection, page by page."""
        places = _paths([link])
        for _ in range(MOST_PAGES):
            if not places:
                return
            page = self._get(places[0])
            for member in page.get("Members") or ():
                # Services may list members whole.
                yield member if len(member) > 1 else self._get(member["@odata.id"])
            places = [page["Members@odata.nextLink"]] if page.get("Members@odata.nextLink") else []


@asynccontextmanager
async def connect(target: Target) -> AsyncIterator[RedfishBmc]:
    """Log in to a BMC; the session is closed whatever happens inside. Raises a kind of BmcError."""
    service = _Service(target)
    try:
        root = await service.open()
        system = await service.ask("name its system", lambda: _system(root, target))
        yield RedfishBmc(target, service, root, system)
    finally:
        await service.close()


async def speaks_redfish(target: Target) -> bool | None:
    """Tell whether there is a Redfish service; None where nothing answers, so that it is not known now.

    No secret is sent, so that no certificate is looked at.
    """
    connector = _connector(target, verify=False)
    pool = ThreadPoolExecutor(1)
    try:
        answer = await asyncio.get_running_loop().run_in_executor(
            pool, lambda: json_value(connector.get("/redfish/v1/").content)
        )
    except NoConnection as error:
        told = error_for(target, "say what it speaks", error, logged_in=False)
        return None if told.sick else False
    except (SushyError, *MALFORMED):
        return False
    finally:
        pool.shutdown(wait=False)
    return isinstance(answer, dict) and ("RedfishVersion" in answer or "Systems" in answer)


def url_of(target: Target) -> str:
    """Return where a BMC's Redfish service is."""
    address = f"[{target.address}]" if ":" in target.address else target.address
    return target.redfish_url or f"https://{address}"


def _connector(
    target: Target, *, verify: bool | str, heard: Callable[[Response], None] | None = None
) -> Connector:
    return Connector(
        url_of(target),
        verify=verify,
        response_callback=heard,
        server_side_retries=1,
        server_side_retries_delay=1,
        default_request_timeout=ANSWER_SECONDS,
        connect_timeout=CONNECT_SECONDS,
    )


def _system(root: sushy.Sushy, target: Target) -> Any:
    """Return the node among the systems of a service. Raises BmcUnsupported."""
    paths = root.get_system_collection().members_identities
    names = {path.rstrip("/").rpartition("/")[2]: path for path in paths}
    wanted = target.redfish_system
    if wanted is None and len(paths) == 1:
        return root.get_system(paths[0])
    if wanted in names:
        return root.get_system(names[wanted])
    known = ", ".join(sorted(names)) or "none"
    reason = f"it has no system {wanted!r}" if wanted else "it has several systems"
    raise unsupported(target, f"{reason}; set bmc_redfish_system to one of: {known}")


def _links(resource: Document, name: str) -> list[str]:
    return _paths((resource.get("Links") or {}).get(name))


def _paths(references: Any) -> list[str]:
    return [one["@odata.id"] for one in references or () if isinstance(one, dict) and "@odata.id" in one]
