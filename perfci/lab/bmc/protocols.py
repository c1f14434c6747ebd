"""Logs in to a BMC by what the inventory says that it speaks, or by what it turns out to speak."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from perfci.lab.bmc.base import BmcProtocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from perfci.lab.bmc.base import Bmc, Target

_found: dict[tuple[str, str | None], BmcProtocol] = {}
"""What BMCs were found to speak, by address and URL: asked once in the life of a process."""


@asynccontextmanager
async def connect(target: Target) -> AsyncIterator[Bmc]:
    """Log in to a BMC; the session is closed whatever happens inside. Raises a kind of BmcError."""
    # Each protocol's library takes a while to load, and few commands need both.
    if await protocol_of(target) is BmcProtocol.REDFISH:
        from perfci.lab.bmc import redfish

        async with redfish.connect(target) as bmc:
            yield bmc
    else:
        from perfci.lab.bmc import ipmi

        async with ipmi.connect(target) as other:
            yield other


async def protocol_of(target: Target) -> BmcProtocol:
    """Return what a BMC is to be spoken to with: Redfish or IPMI.

    With `auto`, a BMC whose web server is silent now is spoken to with IPMI this once, and asked again the
    next time.
    """
    if target.protocol is not BmcProtocol.AUTO:
        return target.protocol
    place = (target.address, target.redfish_url)
    if place not in _found:
        from perfci.lab.bmc.redfish import speaks_redfish

        found = await speaks_redfish(target)
        if found is None:
            return BmcProtocol.IPMI
        _found[place] = BmcProtocol.REDFISH if found else BmcProtocol.IPMI
    return _found[place]
