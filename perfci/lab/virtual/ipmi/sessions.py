"""Sessions: the table, its limits, what makes a session end, and which packets are replays."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from perfci.lab.virtual.ipmi.crypto import AES_BLOCK, SUITES, Keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.lab.virtual.ipmi.crypto import Suite
    from perfci.lab.virtual.ipmi.faults import Faults
    from perfci.lab.virtual.ipmi.rakp import Exchange

Peer = tuple[str, int]
"""Address and port of a client."""
NOBODY: Peer = ("0.0.0.0", 0)  # noqa: S104 - nothing listens there

HALF_OPEN = 32
"""Sessions that are asked for at once; of more the oldest is forgotten."""
WINDOW_ABOVE, WINDOW_BELOW = 15, 16
"""How far a packet may be ahead of, or behind, the newest one (6.12.14)."""


class Privilege(IntEnum):
    """What a session may do (6.8)."""

    CALLBACK = 1
    USER = 2
    OPERATOR = 3
    ADMINISTRATOR = 4


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one BMC can do, and how long it takes."""

    sessions: int = 16
    """Sessions at once, at most 255; real ones have 4 to 36."""
    inactivity_seconds: float = 60
    """A session ends that sent nothing for so long (6.12.15)."""
    handshake_seconds: float = 10
    """A session that was asked for is forgotten if it is not open after so long."""
    reset_seconds: float = 2
    """How long the BMC is silent after a reset of its own or a power cut."""
    cycle_seconds: float = 1
    """How long the machine is without power in a power cycle; at least 1 in a real one (28.3)."""


class SequenceWindow:
    """Which session sequence numbers are new: not seen before and not far from the highest seen."""

    __slots__ = ("_highest", "_seen")

    def __init__(self) -> None:
        self._highest = 0
        self._seen = 1
        """One bit for each number from the highest one down; 0 itself is never valid in a session."""

    def accept(self, sequence: int) -> bool:
        """Tell whether a number is new, and remember it."""
        ahead = sequence - self._highest
        if ahead > WINDOW_ABOVE or -ahead > WINDOW_BELOW or sequence == 0:
            return False
        if ahead > 0:
            self._seen = (self._seen << ahead | 1) & (1 << WINDOW_BELOW + 1) - 1
            self._highest = sequence
            return True
        if self._seen >> -ahead & 1:
            return False
        self._seen |= 1 << -ahead
        return True


@dataclass(slots=True)
class PendingSession:
    """A session that was asked for and is not open yet."""

    id: int
    console_id: bytes
    peer: Peer
    suite: Suite
    limit: Privilege
    since: float
    request: bytes
    """The Open Session Request: who repeats it gets the same session."""
    rakp_1: bytes = b""
    exchange: Exchange | None = None


@dataclass(slots=True, eq=False)
class Session:
    """An open session."""

    id: int
    console_id: bytes
    peer: Peer
    user: bytes
    limit: Privilege
    keys: Keys
    last_heard: float
    stale: bool = False
    """Nobody is at its other end, or knows its keys, and it does not time out."""
    handle: int = 0
    """Another number for it, from 1 to 255, which the table gives."""
    privilege: Privilege = Privilege.USER
    window: SequenceWindow = field(default_factory=SequenceWindow)
    sent: int = 0
    """The last session sequence number of ours."""
    rakp_3: bytes = b""
    rakp_4: bytes = b""
    last_request: bytes = b""
    last_answer: bytes = b""
    """The last message and its answer; a repeated message gets the same answer and does nothing."""


class SessionTable:
    """The sessions of one BMC.

    Half-open sessions do not count against the limit; of them the oldest gives way, so that no flood of
    requests can lock anybody out. `ended` is called for each session that ends, however it ends.
    """

    def __init__(
        self,
        limits: SessionLimits,
        faults: Faults,
        clock: Callable[[], float],
        ended: Callable[[Session], None],
    ) -> None:
        self._limits = limits
        self._faults = faults
        self._clock = clock
        self._ended = ended
        self._open: dict[int, Session] = {}
        self._pending: OrderedDict[int, PendingSession] = OrderedDict()

    @property
    def size(self) -> int:
        """How many sessions there can be at once."""
        return self._limits.sessions

    @property
    def full(self) -> bool:
        """Whether no session can be opened now."""
        return self._faults.sessions_full or len(self.all()) >= self._limits.sessions

    def all(self) -> tuple[Session, ...]:
        """Return the open sessions, oldest first; those whose time is over are ended by it."""
        for session in tuple(self._open.values()):
            self._end_if_late(session)
        self._settle()
        return tuple(self._open.values())

    def find(self, session_id: int) -> Session | None:
        """Return an open session by its id."""
        if session := self._open.get(session_id):
            self._end_if_late(session)
        return self._open.get(session_id)

    def end(self, session: Session) -> None:
        """End a session; one that is over already is fine."""
        if self._open.pop(session.id, None):
            self._ended(session)

    def close(self, session: Session) -> None:
        """End a session because somebody asked for it; that frees the slot of a stale one for good."""
        self.end(session)
        if session.stale:
            self._faults.stale_sessions = sum(one.stale for one in self._open.values())

    def clear(self) -> None:
        """End all sessions, and forget those that are half open."""
        self._pending.clear()
        for session in tuple(self._open.values()):
            self.end(session)

    def ask(
        self, console_id: bytes, peer: Peer, suite: Suite, limit: Privilege, request: bytes
    ) -> PendingSession:
        """Begin a session, or return the one that the same request began."""
        self._forget_late()
        for pending in self._pending.values():
            if pending.peer == peer and pending.request == request and not pending.rakp_1:
                return pending
        while len(self._pending) >= HALF_OPEN:
            self._pending.popitem(last=False)
        pending = PendingSession(self._new_id(), console_id, peer, suite, limit, self._clock(), request)
        self._pending[pending.id] = pending
        return pending

    def pending(self, session_id: int) -> PendingSession | None:
        """Return a half-open session by its id."""
        self._forget_late()
        return self._pending.get(session_id)

    def forget(self, pending: PendingSession) -> None:
        """Forget a half-open session."""
        self._pending.pop(pending.id, None)

    def open(self, pending: PendingSession, exchange: Exchange, limit: Privilege) -> Session:
        """Turn a half-open session into an open one.

        An older session of the same client under the same id of its own is over: the client has lost
        the end of that handshake, or forgotten the session, and can't tell the two apart.
        """
        self.forget(pending)
        for older in tuple(self._open.values()):
            if (older.peer, older.console_id) == (pending.peer, pending.console_id):
                self.end(older)
        session = Session(
            id=pending.id,
            console_id=pending.console_id,
            peer=pending.peer,
            user=exchange.name,
            limit=limit,
            keys=exchange.keys(),
            last_heard=self._clock(),
            privilege=min(Privilege.USER, limit),
        )
        self._add(session)
        return session

    def _end_if_late(self, session: Session) -> None:
        if not session.stale and session.last_heard < self._clock() - self._limits.inactivity_seconds:
            self.end(session)

    def _add(self, session: Session) -> None:
        taken = {other.handle for other in self._open.values()}
        session.handle = next(handle for handle in range(1, 256) if handle not in taken)
        self._open[session.id] = session

    def _settle(self) -> None:
        """Have as many stale sessions as the faults say, and the table has room for."""
        stale = [session for session in self._open.values() if session.stale]
        room = self._limits.sessions - len(self._open) + len(stale)
        wanted = min(self._faults.stale_sessions, room)
        for session in stale[wanted:]:
            self.end(session)
        for _ in range(wanted - len(stale)):
            self._add(_stale(self._new_id()))

    def _forget_late(self) -> None:
        late = self._clock() - self._limits.handshake_seconds
        while self._pending and next(iter(self._pending.values())).since < late:
            self._pending.popitem(last=False)

    def _new_id(self) -> int:
        while (number := secrets.randbits(32)) in self._open or number in self._pending or not number:
            pass
        return number


def _stale(session_id: int) -> Session:
    return Session(
        id=session_id,
        console_id=bytes(4),
        peer=NOBODY,
        user=b"",
        limit=Privilege.ADMINISTRATOR,
        keys=Keys(SUITES[0], secrets.token_bytes(AES_BLOCK)),
        last_heard=0,
        stale=True,
    )
