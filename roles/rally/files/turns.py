"""A side's end of the lock-step: asks the arbiter (side_by_side.py) for a turn, and waits for it.

One JSON object a line over a Unix socket; the arbiter's words are `go` and `last`. The hammer keeps one
connection for the tasks; each iteration has one of its own, whose end is the end of its turn, so that a load
generator that is killed gives it back.
"""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GO, LAST = b"go\n", b"last\n"
"""The arbiter's words: it is your turn; it is your turn for the last time in this task."""


class ArbiterGone(ConnectionError):
    """Nobody gives turns any more, so nothing that is measured would be comparable."""


class Turn:
    """One iteration's turn; what came of it is told at its end."""

    def __init__(self, *, is_last: bool) -> None:
        self.is_last = is_last
        """Whether the task has enough after this one."""
        self.timestamp: float | None = None
        self.seconds: float | None = None
        self.failed = True

    def came_out(self, timestamp: float, seconds: float | None = None, *, failed: bool) -> None:
        """Take in Rally's time stamp of the iteration, how long it took, and whether it failed."""
        self.timestamp, self.seconds, self.failed = timestamp, seconds, failed


class Turns:
    """One side's access to the arbiter."""

    def __init__(self, path: Path, side: str) -> None:
        """Join; raises OSError where the arbiter can't be reached."""
        self._path = str(path)
        self._side = side
        self._hammer = self._connect({"join": True})

    def begin(self, slug: str, patience_seconds: float, until: dict[str, Any] | None = None) -> None:
        """Wait until both sides begin this task, or the other one has left. Raises ArbiterGone.

        `until` says when it has enough pairs (`lockstep.Until`).
        """
        _send(self._hammer, {"begin": slug, "patience": patience_seconds, "until": until})
        _wait(self._hammer)

    def end(self, slug: str) -> None:
        """Say that the task is over, well or not."""
        _send(self._hammer, {"end": slug})

    def close(self) -> None:
        """Leave: the other side goes on alone."""
        self._hammer.shutdown(socket.SHUT_RDWR)  # forks have it open, too
        self._hammer.close()

    @contextmanager
    def turn(self, number: int, block: int) -> Iterator[Turn]:
        """Wait for the turn of an iteration that `block` iterations have together. Raises ArbiterGone."""
        with self._connect({"ask": number, "block": block}) as connection:
            turn = Turn(is_last=_wait(connection) == LAST)
            try:
                yield turn
            finally:
                came_out = {"timestamp": turn.timestamp, "seconds": turn.seconds, "failed": turn.failed}
                _send(connection, came_out)

    def finish(self) -> None:
        """Wait until the other side has run all its iterations of this task, too. Raises ArbiterGone."""
        with self._connect({"finish": True}) as connection:
            _wait(connection)

    def _connect(self, message: dict[str, Any]) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._path)
        _send(connection, {"side": self._side, **message})
        return connection


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    try:
        connection.sendall(json.dumps(message).encode() + b"\n")
    except OSError as error:
        raise ArbiterGone(f"the arbiter is gone: {error}") from error


def _wait(connection: socket.socket) -> bytes:
    got = b""
    while not got.endswith(b"\n"):
        try:
            part = connection.recv(16)
        except OSError as error:
            raise ArbiterGone(f"the arbiter is gone: {error}") from error
        if not part:
            raise ArbiterGone("the arbiter is gone: it closed the connection")
        got += part
    return got
