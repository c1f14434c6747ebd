"""Talks to the probes on the nodes (roles/probes/files/probe.py), one process for each node.

The process is a shell command that PROBES names for the node: the program itself, or ssh to it. When this
process ends, however it does, their input ends, and they remove everything that they made.
"""

from __future__ import annotations

import json
import select
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_END_SECONDS = 30.0


class ProbeFailed(Exception):
    """A node's probe can't do what it was asked to; the text names the node."""


@dataclass(frozen=True, slots=True)
class Host:
    """One node: its name in neutron (binding:host_id), and the command that starts its probe."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Places:
    """Where probes can be: computes, and the node of the external network with its address on it."""

    computes: tuple[Host, ...]
    outside: Host | None
    outside_address: str


def read_places(path: Path) -> Places:
    """Read what the role `probes` has written; raises ProbeFailed."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        outside = found["outside"]
        return Places(
            computes=tuple(Host(one["name"], tuple(one["command"])) for one in found["computes"]),
            outside=Host(outside["name"], tuple(outside["command"])) if outside else None,
            outside_address=outside["address"] if outside else "",
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProbeFailed(f"{path}: no probes on this cloud: {error}") from error


class Probes:
    """The probe process of one node. Use it as a context: at its end everything is removed."""

    def __init__(self, host: Host, *, start_seconds: float = 30.0) -> None:
        self.name = host.name
        self._command = host.command
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start it, and wait until it is ready."""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        try:
            self._answer(self._start_seconds)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End its input, and give it time to remove everything."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.communicate(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()

    def ask(self, do: str, *, limit_seconds: float = 60.0, **arguments: Any) -> dict[str, Any]:
        """Have one request carried out, and return its answer; raises ProbeFailed."""
        process = self._process
        if process is None or process.stdin is None:
            raise ProbeFailed(f"{self.name}: the probe is not running")
        try:
            process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            process.stdin.flush()
        except OSError as error:
            raise ProbeFailed(f"{self.name}: {do}: {error}: {self._last_words()}") from error
        return self._answer(limit_seconds)

    def _answer(self, limit_seconds: float) -> dict[str, Any]:
        process = self._process
        if process is None or process.stdout is None:
            raise ProbeFailed(f"{self.name}: the probe is not running")
        until = time.monotonic() + limit_seconds
        # Each request has one answer of one line, so nothing is ever left in the buffer.
        if not select.select([process.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
            raise ProbeFailed(f"{self.name}: no answer in {limit_seconds:.0f} s")
        line = process.stdout.readline()
        if not line:
            raise ProbeFailed(f"{self.name}: the probe ended: {self._last_words()}")
        found = json.loads(line)
        if "error" in found:
            raise ProbeFailed(f"{self.name}: {found['error']}")
        answer: dict[str, Any] = found["ok"]
        return answer

    def _last_words(self) -> str:
        process = self._process
        if process is None or process.stderr is None or process.poll() is None:
            return "it says nothing"
        return process.stderr.read()[-400:].strip() or f"exit code {process.returncode}"
