"""Two hammers in lock-step: side_by_side.py --record FILE --seed N --side NAME=SIDE.json --side
NAME=SIDE.json.

Starts hammer.py once for each side and gives their iterations turns, so that each pair of iterations is
measured within the same second and nothing else runs meanwhile (lockstep.py). SIDE.json says how a side's
hammer is started: {"command": [...], "environment": {...}, "output": FILE or null for this program's own}.
The record says which iteration was paired with which, in which order; it is written after each task and at
the end. Exit codes: those of the side that is named first; what the other one came to is in the record.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hammer_loop import write
from lockstep import Lockstep, Until
from turns import GO, LAST

if TYPE_CHECKING:
    from types import FrameType

_PR_SET_PDEATHSIG = 1
_LOOK_SECONDS = 0.5


class Arbiter:
    """Serves the socket; all that it decides, it asks Lockstep."""

    def __init__(self, path: Path, lockstep: Lockstep) -> None:
        """Listen on a new Unix socket."""
        self.lockstep = lockstep
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(256)
        self._listener.setblocking(False)  # noqa: FBT003 - the name that sockets give it
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._read: dict[socket.socket, bytes] = {}
        self._side: dict[socket.socket, str] = {}
        self._hammers: set[socket.socket] = set()
        self.tasks_ended = 0

    def serve(self, seconds: float) -> None:
        """Take in what comes within so many seconds, and let go on who may."""
        now = time.monotonic()
        until = self.lockstep.deadline(now)
        wait = seconds if until is None else max(0.0, min(seconds, until - now))
        for key, _ in self._selector.select(wait):
            connection = key.fileobj
            if connection is self._listener:
                self._accept()
            elif isinstance(connection, socket.socket):
                self._take(connection)
        for token in self.lockstep.due(time.monotonic()):
            self._go(token)

    def close(self) -> None:
        """Stop listening, and let everybody know who still waits."""
        for connection in (self._listener, *self._read):
            connection.close()
        self._selector.close()

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)  # noqa: FBT003
        self._read[connection] = b""
        self._selector.register(connection, selectors.EVENT_READ)

    def _take(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(65536)
        except OSError:
            data = b""
        lines = (self._read[connection] + data).split(b"\n")
        self._read[connection] = lines.pop()
        try:
            for line in lines:
                self._hear(connection, json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            print(f"arbiter: not understood: {error}", file=sys.stderr, flush=True)
            data = b""
        if not data:
            self._forget(connection)

    def _hear(self, connection: socket.socket, message: dict[str, Any]) -> None:
        now, steps = time.monotonic(), self.lockstep
        if "side" in message:
            steps.sides[message["side"]]  # a name that is not known is an error
            self._side[connection] = message["side"]
        side = self._side[connection]
        if "join" in message:
            self._hammers.add(connection)
            steps.join(side, now)
        elif "begin" in message:
            until = Until(**message["until"]) if message.get("until") else None
            steps.begin(side, connection, message["begin"], message["patience"], now, until)
        elif "end" in message:
            steps.end(side)
            self.tasks_ended += 1
        elif "ask" in message:
            steps.ask(side, connection, message["ask"], message["block"], now)
        elif "finish" in message:
            steps.finish(side, connection, now)
        else:
            steps.done(
                connection,
                message["timestamp"],
                failed=message["failed"],
                now=now,
                seconds=message.get("seconds"),
            )

    def _forget(self, connection: socket.socket) -> None:
        if connection in self._hammers:
            self.lockstep.leave(self._side[connection], "its hammer has ended")
        self.lockstep.done(connection, None, failed=True, now=time.monotonic())
        self._selector.unregister(connection)
        for known in (self._read, self._side):
            known.pop(connection, None)
        connection.close()

    def _go(self, token: Any) -> None:
        try:
            token.sendall(LAST if token in self.lockstep.last else GO)
        except OSError:
            self._forget(token)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def start(side: dict[str, Any], more: list[str]) -> subprocess.Popen[bytes]:
    """Start one side's hammer, which ends with this process."""
    output = Path(side["output"]).open("ab") if side["output"] else None  # noqa: SIM115 - the child's
    try:
        return subprocess.Popen(
            [*side["command"], *more],
            env={**os.environ, **side["environment"]},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - there is one thread
        )
    finally:
        if output:
            output.close()


def run(sides: dict[str, dict[str, Any]], record: Path, seed: int) -> int:
    """Carry out both plans; return the exit code."""
    first, second = sides
    steps = Lockstep((first, second), seed=seed)
    with tempfile.TemporaryDirectory(prefix="turns-") as folder:  # short: a socket's path has 107 bytes
        path = Path(folder) / "arbiter"
        arbiter = Arbiter(path, steps)
        hammers = {name: start(side, ["--turns", str(path), "--side", name]) for name, side in sides.items()}
        try:
            written = -1
            while any(hammer.poll() is None for hammer in hammers.values()):
                arbiter.serve(_LOOK_SECONDS)
                for name, hammer in hammers.items():
                    if hammer.poll() is not None:
                        steps.leave(name, f"its hammer ended with {hammer.returncode}")
                if arbiter.tasks_ended != written:
                    written = arbiter.tasks_ended
                    write(record, json.dumps(steps.record(), indent=1) + "\n")
        finally:
            for hammer in hammers.values():
                hammer.terminate()
                hammer.wait()
            arbiter.close()
    for name, hammer in hammers.items():
        steps.sides[name].gone = (
            "" if hammer.returncode == 0 else f"its hammer ended with {hammer.returncode}"
        )
    write(record, json.dumps(steps.record(), indent=1) + "\n")
    return abs(hammers[first].wait())


def _stop(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True, help="of the order within pairs")
    parser.add_argument("--side", action="append", required=True, metavar="NAME=FILE")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    files = dict(one.split("=", 1) for one in arguments.side)
    sides = {name: json.loads(Path(file).read_text(encoding="utf-8")) for name, file in files.items()}
    return run(sides, arguments.record, arguments.seed)


if __name__ == "__main__":
    sys.exit(main())
