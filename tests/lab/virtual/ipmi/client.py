"""An IPMI client written from the specification alone: it shares no code with the simulator."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from perfci.lab.virtual.ipmi import BootFlags, Faults, VirtualBmc
from perfci.lab.virtual.null import NullMachine

PEER = ("192.0.2.7", 40623)
RMCP = bytes.fromhex("0600ff07")
ALGORITHMS = {3: (1, 1, 1, hashlib.sha1, 12), 17: (3, 4, 1, hashlib.sha256, 16)}
CREDENTIALS = {"admin": b"secret", "second": b"other"}


class Clock:
    """Seconds that only go on when told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Lab:
    """A BMC with a null machine, and instead of a network a list of what it sent."""

    def __init__(self, *, machine=None, faults=None, name="n1", **options):
        self.clock = Clock()
        self.boot = BootFlags(self.clock)
        self.faults = faults or Faults()
        self.machine = machine or NullMachine(self.boot.next_boot)
        self.bmc = VirtualBmc(
            name, CREDENTIALS, self.machine, boot=self.boot, faults=self.faults, clock=self.clock, **options
        )
        self.bmc._transport = self
        self.sent = []

    def sendto(self, packet, peer):
        self.sent.append((packet, peer))

    def close(self):
        pass

    def put(self, packet, peer=PEER):
        """Give the BMC a packet; return what it sent at once."""
        self.sent.clear()
        self.bmc._receive(packet, peer)
        return [packet for packet, _ in self.sent]

    async def orders(self):
        """Wait until all orders to the machine are given."""
        while self.bmc._orders:
            await asyncio.wait(self.bmc._orders)

    async def exchange(self, packet, peer=PEER):
        """Give the BMC a packet; return all it sent once it has done what was asked."""
        self.put(packet, peer)
        await self.orders()
        return [packet for packet, _ in self.sent]


async def until(condition):
    """Wait for something that must come."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - for any condition
            await asyncio.sleep(0.001)


def at_rest(lab):
    """Whether no power cycle is under way."""
    power = lab.bmc._bmc.power
    return not power._cycle and (not power._return or power._return.done())


class Rejected(Exception):
    """A status code other than 0 in the key exchange."""

    def __init__(self, message, status):
        self.message, self.status = message, status
        super().__init__(f"{message}: {status:02X}h")


class Unanswered(Exception):
    """Nothing came back."""


def summed(data):
    return data + bytes([-sum(data) & 0xFF])


def message(netfn, command, data=b"", sequence=0, requester=0x81):
    return summed(bytes([0x20, netfn << 2])) + summed(bytes([requester, sequence << 2, command]) + data)


def old_packet(payload):
    return RMCP + bytes(9) + bytes([len(payload)]) + payload


def bare_packet(kind, payload):
    return RMCP + bytes([6, kind]) + bytes(8) + struct.pack("<H", len(payload)) + payload


def open_request(console_id, algorithms, *, tag=1, role=4):
    fields = b"".join(bytes([i, 0, 0, 8, number, 0, 0, 0]) for i, number in enumerate(algorithms))
    return bytes([tag, role, 0, 0]) + console_id + fields


@dataclass
class Answer:
    code: int
    data: bytes


def read_answer(payload, netfn, command, sequence, requester=0x81):
    assert sum(payload[:3]) & 0xFF == 0
    assert sum(payload[3:]) & 0xFF == 0
    assert payload[:2] == bytes([requester, (netfn + 1) << 2])
    assert payload[3:6] == bytes([0x20, sequence << 2, command])
    return Answer(payload[6], payload[7:-1])


def ask_old(lab, netfn, command, data=b""):
    """Ask outside of any session, in a packet of IPMI 1.5."""
    (packet,) = lab.put(old_packet(message(netfn, command, data, 5)))
    assert packet[:13] == RMCP + bytes(9)
    assert packet[13] == len(packet) - 14
    return read_answer(packet[14:], netfn, command, 5)


def ask_bare(lab, netfn, command, data=b""):
    """Ask outside of any session, in an RMCP+ packet."""
    (packet,) = lab.put(bare_packet(0, message(netfn, command, data, 6)))
    return read_answer(packet[16:], netfn, command, 6)


class Client:
    """One session, step by step."""

    def __init__(self, lab, *, user=b"admin", password=b"secret", suite=17, role=4, peer=PEER):
        self.lab, self.user, self.password, self.role, self.peer = lab, user, password, role, peer
        *self.algorithms, self.hash, self.icv = ALGORITHMS[suite]
        self.console_id, self.random = os.urandom(4), os.urandom(16)
        self.sequence = self.rq = 0
        self.heard = []

    def digest(self, key, data):
        return hmac.new(key, data, self.hash).digest()

    @property
    def who(self):
        return bytes([self.role | 0x10, len(self.user)]) + self.user

    def setup(self, kind, payload):
        """Exchange a message of the handshake; return the answer's payload."""
        packets = self.lab.put(bare_packet(kind, payload), self.peer)
        if not packets:
            raise Unanswered
        (packet,) = packets
        assert packet[4:6] == bytes([6, kind + 1])
        assert packet[6:14] == bytes(8)
        assert struct.unpack_from("<H", packet, 14)[0] == len(packet) - 16
        answer = packet[16:]
        assert answer[0] == payload[0]
        if answer[1]:
            raise Rejected(kind + 1, answer[1])
        assert answer[4:8] == self.console_id
        return answer

    def ask(self):
        """Send Open Session Request."""
        answer = self.setup(0x10, open_request(self.console_id, self.algorithms, role=self.role))
        assert len(answer) == 36
        assert answer[2] == (self.role or 4)
        assert [answer[offset] for offset in (16, 24, 32)] == self.algorithms
        self.bmc_id = answer[8:12]

    def rakp_1(self):
        self.ask()
        name = self.who
        answer = self.setup(0x12, b"\x02\0\0\0" + self.bmc_id + self.random + name[:1] + b"\0\0" + name[1:])
        self.bmc_random, self.guid, code = answer[8:24], answer[24:40], answer[40:]
        right = self.digest(
            self.password,
            self.console_id + self.bmc_id + self.random + self.bmc_random + self.guid + self.who,
        )
        self.bmc_is_right = code == right
        self.sik = self.digest(self.password, self.random + self.bmc_random + self.who)
        self.k1, self.k2 = (self.digest(self.sik, bytes([n]) * 20) for n in (1, 2))

    @property
    def rakp_3_message(self):
        code = self.digest(self.password, self.bmc_random + self.console_id + self.who)
        return b"\x03\0\0\0" + self.bmc_id + code

    def open(self, privilege=None):
        """Log in, and take a privilege level."""
        self.rakp_1()
        answer = self.setup(0x14, self.rakp_3_message)
        assert self.bmc_is_right
        assert answer[8:] == self.digest(self.sik, self.random + self.bmc_id + self.guid)[: self.icv]
        if privilege is None:
            privilege = self.role
        if privilege:
            answer = self.do_sync(0x06, 0x3B, bytes([privilege]))
            assert (answer.code, answer.data) == (0, bytes([privilege]))
        return self

    def seal(self, kind, payload, sequence=None):
        """Return an encrypted, signed packet; it has the next session sequence number."""
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        vector, filling = os.urandom(16), -(len(payload) + 1) % 16
        padded = payload + bytes(range(1, filling + 1)) + bytes([filling])
        cipher = Cipher(algorithms.AES(self.k2[:16]), modes.CBC(vector)).encryptor()
        body = vector + cipher.update(padded) + cipher.finalize()
        packet = bytes([6, 0xC0 | kind]) + self.bmc_id + struct.pack("<IH", sequence, len(body)) + body
        filling = -(len(packet) + 2) % 4
        packet += b"\xff" * filling + bytes([filling, 7])
        return RMCP + packet + self.digest(self.k1, packet)[: self.icv]

    def unseal(self, packet):
        """Return type and payload of a packet of ours; its sequence numbers must count from 1."""
        assert packet[:5] == RMCP + b"\x06"
        assert packet[5] & 0xC0 == 0xC0
        assert packet[6:10] == self.console_id
        sequence, length = struct.unpack_from("<IH", packet, 10)
        self.heard.append(sequence)
        assert packet[-self.icv :] == self.digest(self.k1, packet[4 : -self.icv])[: self.icv]
        trailer = packet[16 + length : -self.icv]
        assert trailer == b"\xff" * (len(trailer) - 2) + bytes([len(trailer) - 2, 7])
        assert (len(packet) - self.icv - 4) % 4 == 0
        vector, body = packet[16:32], packet[32 : 16 + length]
        cipher = Cipher(algorithms.AES(self.k2[:16]), modes.CBC(vector)).decryptor()
        padded = cipher.update(body) + cipher.finalize()
        filling = padded[-1]
        assert padded[len(padded) - 1 - filling : -1] == bytes(range(1, filling + 1))
        return packet[5] & 0x3F, padded[: len(padded) - 1 - filling]

    def request(self, netfn, command, data=b""):
        self.rq = (self.rq + 1) & 0x3F
        return message(netfn, command, data, self.rq)

    def answer(self, packets, netfn, command):
        if not packets:
            raise Unanswered
        (packet,) = packets
        kind, payload = self.unseal(packet)
        assert kind == 0
        return read_answer(payload, netfn, command, self.rq)

    def do_sync(self, netfn, command, data=b""):
        packet = self.seal(0, self.request(netfn, command, data))
        return self.answer(self.lab.put(packet, self.peer), netfn, command)

    async def do(self, netfn, command, data=b""):
        """Give a command; return its answer."""
        packet = self.seal(0, self.request(netfn, command, data))
        return self.answer(await self.lab.exchange(packet, self.peer), netfn, command)

    def close(self):
        return self.do_sync(0x06, 0x3C, self.bmc_id)
