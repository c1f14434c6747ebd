"""BMCs that speak IPMI 2.0 over the network (RMCP+), on pyghmi's protocol engine and decoders.

Numbers are those of the specification "IPMI v2.0 rev. 1.1": chassis commands in chapter 28, sessions in
chapter 22, restarts in chapter 20.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from pyghmi.exceptions import IpmiException, PyghmiException

from perfci.lab.bmc.base import BootDevice, BootOrder, Power, PowerOrder, Restart
from perfci.lab.bmc.errors import BmcRefused
from perfci.lab.bmc.session import ONCE_SECONDS, completion, open_session
from perfci.lab.bmc.sol import open_console

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from perfci.lab.bmc.base import Console, Event, Reading, Target
    from perfci.lab.bmc.session import IpmiSession

_CHASSIS, _APPLICATION = 0x00, 0x06
_GET_CHASSIS_STATUS, _CHASSIS_CONTROL, _CHASSIS_IDENTIFY = 0x01, 0x02, 0x04
_SET_BOOT_OPTIONS, _GET_BOOT_OPTIONS = 0x08, 0x09
_COLD_RESET, _WARM_RESET = 0x02, 0x03
_CLOSE_SESSION, _GET_SESSION_INFO = 0x3C, 0x3D
_CONTROLS = {PowerOrder.OFF: 0, PowerOrder.ON: 1, PowerOrder.SOFT: 5}
_RESTARTS = {Restart.WARM: _WARM_RESET, Restart.COLD: _COLD_RESET}
_BOOT_DEVICES = {
    BootDevice.DEFAULT: 0x0,
    BootDevice.NETWORK: 0x1,
    BootDevice.DISK: 0x2,
    BootDevice.SETUP: 0x6,
}
_DEVICES = {number: device for device, number in _BOOT_DEVICES.items()}
_BOOT_FLAGS, _KEEP_VALID = 5, 3
_VALID, _PERSISTENT, _UEFI = 0x80, 0x40, 0x20
_NOT_FOR_60_SECONDS_ONLY = 0x08
_PARAMETER_INVALID = 0x80
_MALFORMED = (LookupError, ValueError, TypeError, AttributeError, AssertionError, struct.error)


class IpmiBmc:
    """A BMC that somebody has logged in to. Use it through `connect`."""

    def __init__(self, target: Target, session: IpmiSession) -> None:
        self._target = target
        self._session = session

    async def power(self) -> Power:
        """Say whether the machine is on."""
        status = await self._session.command("tell its power", _CHASSIS, _GET_CHASSIS_STATUS, least=1)
        return Power.ON if status[0] & 1 else Power.OFF

    async def press(self, order: PowerOrder) -> None:
        """Give the order on, off or soft."""
        await self._session.command(f"power {order}", _CHASSIS, _CHASSIS_CONTROL, (_CONTROLS[order],))

    async def boot(self) -> BootOrder:
        """Say what was ordered; a device that perfci has no name for (floppy, say) counts as default."""
        answer = await self._session.command(
            "tell its boot order", _CHASSIS, _GET_BOOT_OPTIONS, (_BOOT_FLAGS, 0, 0), least=4
        )
        flags = answer[2]
        if answer[1] & _PARAMETER_INVALID or not flags & _VALID:
            return BootOrder()
        device = _DEVICES.get(answer[3] >> 2 & 0xF, BootDevice.DEFAULT)
        return BootOrder(device, persistent=bool(flags & _PERSISTENT), uefi=bool(flags & _UEFI))

    async def set_boot(self, order: BootOrder) -> None:
        """Order it."""
        # By default an order is forgotten after 60 seconds (28.12, parameter 3). Some BMCs don't know that.
        with suppress(BmcRefused):
            await self._set_boot_option(_KEEP_VALID, _NOT_FOR_60_SECONDS_ONLY)
        flags = 0
        if order.device is not BootDevice.DEFAULT:
            flags = _VALID | _PERSISTENT * order.persistent | _UEFI * order.uefi
        await self._set_boot_option(_BOOT_FLAGS, flags, _BOOT_DEVICES[order.device] << 2, 0, 0, 0)

    async def identify(self, seconds: int | None) -> bool:
        """Light the lamp."""
        data = (0, 1) if seconds is None else (seconds,)
        await self._session.command("light its lamp", _CHASSIS, _CHASSIS_IDENTIFY, data)
        return seconds is not None

    async def sensors(self) -> tuple[Reading, ...]:
        """Read all sensors."""
        return await self._decode("sensors")

    async def events(self) -> tuple[Event, ...]:
        """Read the event log."""
        return await self._decode("events")

    def console(self, *, take_over: bool = False) -> AbstractAsyncContextManager[Console]:
        """Open the machine's console."""
        return open_console(self._target, self._session, take_over=take_over)

    async def close_other_sessions(self) -> int:
        """End everybody else's sessions (22.19, 22.20)."""
        mine, places, active = (await self._session_info(0))[:3]
        # All handles first: closing one may move the others to other places.
        handles: set[int] = set()
        for place in range(1, places + 1):
            if len(handles - {0}) >= active:
                break
            with suppress(BmcRefused):  # this place is free
                handles.add((await self._session_info(place))[0])
        closed = 0
        for handle in sorted(handles - {0, mine}):
            with suppress(BmcRefused):  # it has ended by itself meanwhile
                data = (0, 0, 0, 0, handle)
                await self._session.command("close a session", _APPLICATION, _CLOSE_SESSION, data)
                closed += 1
        return closed

    async def restart(self, how: Restart) -> None:
        """Restart the BMC; many do it before they answer."""
        answer = await self._session.say(_APPLICATION, _RESTARTS[how], (), ONCE_SECONDS)
        if answer is not None and answer["code"]:
            raise self._session.refused(f"make a {how} restart", answer)

    async def _set_boot_option(self, *data: int) -> None:
        await self._session.command("set its boot order", _CHASSIS, _SET_BOOT_OPTIONS, data)

    async def _session_info(self, index: int) -> bytes:
        """Return the handle of a session, the size of the table, how many are active."""
        return await self._session.command(
            "list its sessions", _APPLICATION, _GET_SESSION_INFO, (index,), least=3
        )

    async def _decode(self, what: str) -> tuple[Any, ...]:
        """Let pyghmi's decoders, which ask synchronously, work in a thread over this session."""
        # To load them would double the time in which perfci starts, and hardly any command needs them.
        from perfci.lab.bmc import decoding

        asker = decoding.Synchronous(self._session, asyncio.get_running_loop())
        try:
            found: tuple[Any, ...] = await asyncio.to_thread(getattr(decoding, what), asker)
        except IpmiException as error:
            raise BmcRefused(
                node=self._target.node,
                order=f"tell its {what}",
                reason=str(error).lower(),
                code=completion(asker.last_code),
                passing=False,
            ) from error
        # pyghmi's decoders raise NotImplementedError for a vendor's records that they don't know.
        except (PyghmiException, NotImplementedError, *_MALFORMED) as error:
            raise self._session.garbled(f"{what}: {error!r}") from error
        return found


@asynccontextmanager
async def connect(target: Target) -> AsyncIterator[IpmiBmc]:
    """Log in to a BMC; the session is closed whatever happens inside. Raises a kind of BmcError."""
    async with open_session(target) as session:
        yield IpmiBmc(target, session)
