"""A simulated BMC on an address: packets in, packets out, and the faults that lie between."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from perfci.lab.virtual.ipmi import packets
from perfci.lab.virtual.ipmi.call import Call
from perfci.lab.virtual.ipmi.commands import CHASSIS, obey
from perfci.lab.virtual.ipmi.completion import CommandRefused, Completion
from perfci.lab.virtual.ipmi.controller import SimulatedBmc
from perfci.lab.virtual.ipmi.faults import Remedy
from perfci.lab.virtual.ipmi.handshake import Handshake
from perfci.lab.virtual.ipmi.packets import Header, Malformed, PayloadType, Request
from perfci.lab.virtual.ipmi.sessions import SessionLimits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from perfci.lab.virtual.ipmi.boot import BootFlags
    from perfci.lab.virtual.ipmi.faults import Faults
    from perfci.lab.virtual.ipmi.sessions import Peer, Session
    from perfci.lab.virtual.ipmi.sol import SolConsole
    from perfci.lab.virtual.machine import Machine, MachineBroken

PORT = 623


class VirtualBmc:
    """One BMC with its machine. `credentials` are names with their passwords; all are administrators.

    `boot` is also given to the machine as its `NextBoot` (`boot.next_boot`). `faults` may be changed at
    any time. Without a `console` the machine has no Serial over LAN. What is lost by `faults.drop` is
    decided by a generator seeded with `name`: the same traffic meets the same losses. `clock` returns
    seconds that never go back.

    Packets that can't be read, or are not rightly signed, get no answer and change nothing.
    """

    def __init__(
        self,
        name: str,
        credentials: Mapping[str, bytes],
        machine: Machine,
        *,
        boot: BootFlags,
        faults: Faults,
        limits: SessionLimits | None = None,
        console: SolConsole | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.boot = boot
        self.faults = faults
        self._clock = clock
        self._losses = random.Random(name)  # noqa: S311 - repeatable, on purpose
        self._bmc = SimulatedBmc(
            name,
            credentials,
            machine,
            boot=boot,
            faults=faults,
            limits=limits or SessionLimits(),
            console=console,
            send_sol=self._send_sol,
            clock=clock,
        )
        self._handshake = Handshake(credentials, self._bmc.guid, self._bmc.sessions, faults)
        self._transport: asyncio.DatagramTransport | None = None
        self._orders: set[asyncio.Task[None]] = set()

    async def listen(self, address: str, port: int = PORT) -> None:
        """Answer on a UDP port; 0 takes a free one. Raises OSError if that is not possible."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _Endpoint(self._receive), local_addr=(address, port)
        )
        self._bmc.port = self.address[1]

    @property
    def address(self) -> Peer:
        """Address and port where it listens. Raises RuntimeError if it does not."""
        if self._transport is None:
            raise RuntimeError(f"the BMC {self.name} does not listen")
        address, port = self._transport.get_extra_info("sockname")[:2]
        return address, port

    @property
    def sessions(self) -> int:
        """How many sessions are open now, stale ones too."""
        return len(self._bmc.sessions.all())

    @property
    def broken(self) -> MachineBroken | None:
        """Why the machine did not obey the last order; None when it did."""
        return self._bmc.power.broken

    async def power_cut(self) -> None:
        """Cut the mains and give them back: machine off, sessions gone, the BMC silent while it starts.

        Heals what `faults.recovers_by` allows. Raises `MachineBroken`.
        """
        self._bmc.restart(Remedy.POWER)
        await self._bmc.power.cut()

    async def close(self) -> None:
        """Stop to listen; an order under way is cancelled, else the machine is left as it is.

        Twice is fine.
        """
        self._bmc.sol.deactivate()
        for order in self._orders:
            order.cancel()
        if self._orders:
            await asyncio.wait(self._orders)
        await self._bmc.power.stop()
        if self._transport:
            self._transport.close()
            self._transport = None

    def _lost(self) -> bool:
        return self.faults.drop > 0 and self._losses.random() < self.faults.drop

    def _receive(self, packet: bytes, peer: Peer) -> None:
        if self.faults.hang or self._bmc.silent or self._lost():
            return
        with suppress(Malformed):
            self._take(packet, peer)

    def _send(self, packet: bytes, peer: Peer) -> None:
        if self.faults.hang or self._lost():
            return
        if self.faults.delay_seconds:
            asyncio.get_running_loop().call_later(self.faults.delay_seconds, self._transmit, packet, peer)
        else:
            self._transmit(packet, peer)

    def _transmit(self, packet: bytes, peer: Peer) -> None:
        if self._transport:
            self._transport.sendto(packet, peer)

    def _take(self, packet: bytes, peer: Peer) -> None:
        """Read a packet and answer it. Raises `Malformed`."""
        kind = packets.message_class(packet)
        if kind == packets.CLASS_ASF:
            self._send(packets.pong(packet), peer)
        elif kind != packets.CLASS_IPMI:
            raise Malformed
        elif packet[4] == packets.AUTHENTICATION_NONE:
            request = Request.parse(packets.old_payload(packet))
            self._obey(request, None, lambda answer: self._send(packets.old(answer), peer))
        else:
            self._take_rmcp_plus(packet, Header.parse(packet), peer)

    def _take_rmcp_plus(self, packet: bytes, header: Header, peer: Peer) -> None:
        if header.session_id:
            self._take_in_session(packet, header, peer)
            return
        payload = packets.payload_of(packet, header)
        if header.payload_type == PayloadType.IPMI:
            request = Request.parse(payload)
            self._obey(request, None, lambda answer: self._send(packets.bare(PayloadType.IPMI, answer), peer))
        elif reply := self._handshake.answer(header.payload_type, payload, peer):
            self._send(packets.bare(*reply), peer)

    def _take_in_session(self, packet: bytes, header: Header, peer: Peer) -> None:
        session = self._bmc.sessions.find(header.session_id)
        if session is None:
            raise Malformed
        payload = session.keys.unseal(packet, header)
        if not session.window.accept(header.sequence):
            raise Malformed
        session.last_heard, session.peer = self._clock(), peer
        if header.payload_type == PayloadType.SOL:
            self._bmc.sol.receive(session, payload)
        elif header.payload_type == PayloadType.IPMI:
            self._take_command(session, payload)
        else:
            raise Malformed

    def _take_command(self, session: Session, message: bytes) -> None:
        """Obey a command; one that is repeated only gets its answer again, if there is one yet."""
        request = Request.parse(message)
        if message == session.last_request:
            if session.last_answer:
                self._send_sealed(session, PayloadType.IPMI, session.last_answer)
            return
        session.last_request, session.last_answer = message, b""
        if self.faults.half_hung and request.net_function == CHASSIS:
            return

        def answer(found: bytes) -> None:
            if session.last_request == message:
                session.last_answer = found
            self._send_sealed(session, PayloadType.IPMI, found)

        self._obey(request, session, answer)

    def _obey(self, request: Request, session: Session | None, answer: Callable[[bytes], None]) -> None:
        """Carry a command out and answer it, at once or when the machine has obeyed."""
        try:
            result = obey(request.net_function, request.command, Call(self._bmc, session, request.data))
        except CommandRefused as refused:
            answer(request.answer(refused.code))
            return
        if isinstance(result, bytes):
            answer(request.answer(Completion.OK, result))
            return
        order = asyncio.get_running_loop().create_task(_finish(request, result, answer))
        self._orders.add(order)
        order.add_done_callback(self._orders.discard)

    def _send_sol(self, session: Session, payload: bytes) -> None:
        self._send_sealed(session, PayloadType.SOL, payload)

    def _send_sealed(self, session: Session, payload_type: PayloadType, payload: bytes) -> None:
        session.sent += 1
        packet = session.keys.seal(
            payload_type, int.from_bytes(session.console_id, "little"), session.sent, payload
        )
        self._send(packet, session.peer)


async def _finish(request: Request, result: Awaitable[bytes], answer: Callable[[bytes], None]) -> None:
    try:
        found = request.answer(Completion.OK, await result)
    except CommandRefused as refused:
        found = request.answer(refused.code)
    answer(found)


class _Endpoint(asyncio.DatagramProtocol):
    """Hands over what comes in."""

    def __init__(self, receive: Callable[[bytes, Peer], None]) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._receive(data, (addr[0], addr[1]))
