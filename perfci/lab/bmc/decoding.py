"""Sensors and events, decoded by pyghmi over a session of ours."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pyghmi.constants import Health
from pyghmi.exceptions import IpmiException
from pyghmi.ipmi.command import Command
from pyghmi.ipmi.oem.generic import OEMHandler

from perfci.lab.bmc.base import Event, Reading

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perfci.lab.bmc.session import IpmiSession

_NOT_PRESENT = 0xCB
_FIRST_TIME, _NO_TIME = 0x20000000, 0xFFFFFFFF
"""Times of events below the first count from the BMC's start (37.1)."""


def sensors(bmc: Synchronous) -> tuple[Reading, ...]:
    """Read all sensors. Raises what pyghmi raises."""
    return tuple(_readings(bmc.get_sensor_data()))


def events(bmc: Synchronous) -> tuple[Event, ...]:
    """Read the event log. Raises what pyghmi raises."""
    return tuple(_events(bmc.get_event_log()))


class Synchronous(Command):  # type: ignore[misc]  # pyghmi ships no types
    """What pyghmi's decoders ask through, from a thread, without vendors' extensions (which use HTTPS)."""

    def __init__(self, session: IpmiSession, loop: asyncio.AbstractEventLoop) -> None:
        self.bmc = self.ipmi_session = session
        self._loop = loop
        self._sdrcachedir = self._sdr = None
        self._oem, self._oemknown = OEMHandler(None, None), True
        self.last_code = 0

    def init_sdr(self) -> Any:
        """Read what sensors there are; pyghmi takes an empty repository for a mistake."""
        try:
            return super().init_sdr()
        except IpmiException:
            if self.last_code != _NOT_PRESENT:
                raise
            return SimpleNamespace(sensors={}, fru={}, get_sensor_numbers=tuple)

    def get_sensor_data(self) -> Iterable[Any]:
        """Read all sensors."""
        return super().get_sensor_data() if self.init_sdr().sensors else ()

    def raw_command(self, netfn: int, command: int, **options: Any) -> dict[str, Any]:
        """Ask, from the decoder's thread, in the session's loop."""
        ask = self.ipmi_session.exchange(
            netfn, command, tuple(options.get("data", ())), lun=options.get("rslun", 0)
        )
        answer: dict[str, Any] = asyncio.run_coroutine_threadsafe(ask, self._loop).result()
        self.last_code = answer["code"]
        return answer

    def xraw_command(self, netfn: int, command: int, **options: Any) -> dict[str, Any]:
        """Ask; raise pyghmi's error where the BMC refuses."""
        answer = self.raw_command(netfn, command, **options)
        if "error" in answer:
            raise IpmiException(answer["error"], answer["code"])
        return {**answer, "data": memoryview(answer["data"])}


def _readings(found: Iterable[Any]) -> Iterable[Reading]:
    for one in found:
        value = None if one.value is None or one.unavailable else float(one.value)
        units = (one.units or "").strip()
        yield Reading(one.name, one.type, value, units, tuple(map(str, one.states)), _health(one.health))


def _events(found: Iterable[dict[str, Any]]) -> Iterable[Event]:
    for one in found:
        seconds = one.get("timecode", 0)
        at = datetime.fromtimestamp(seconds, UTC) if _FIRST_TIME < seconds < _NO_TIME else None
        text = one.get("event") or "of a kind that only its maker knows"
        detail = one.get("event_data")
        yield Event(
            at,
            str(one.get("component") or one.get("component_type") or ""),
            f"{text} ({detail})" if detail else text,
            _health(one.get("severity", Health.Ok)),
        )


def _health(health: int) -> str:
    names = ((Health.Failed, "failed"), (Health.Critical, "critical"), (Health.Warning, "warning"))
    return next((name for level, name in names if health >= level), "ok")
