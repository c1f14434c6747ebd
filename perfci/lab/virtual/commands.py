"""Running the programs that make and remove parts of the lab: ip, qemu-img, rm."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import subprocess
from asyncio.subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING

from perfci.lab.virtual.errors import HostCommandFailed

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Mapping, Sequence

TIMEOUT_SECONDS = 60


def run(*command: str, text: str = "", timeout_seconds: float = TIMEOUT_SECONDS) -> str:
    """Run a program to its end, with `text` as its input; return its output. Raises HostCommandFailed."""
    try:
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostCommandFailed(command=shlex.join(command), reason=error) from error
    _check(command, done.returncode, done.stderr)
    return done.stdout


async def run_async(*command: str, text: str = "") -> str:
    """Do the same without making the lab's other nodes wait."""
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    except OSError as error:
        raise HostCommandFailed(command=shlex.join(command), reason=error) from error
    # Waited for also when the caller is cancelled: it is over in a moment, and what follows finds it done.
    ending = asyncio.ensure_future(process.communicate(text.encode()))
    try:
        stdout, stderr = await asyncio.shield(ending)
    except asyncio.CancelledError:
        await asyncio.wait([ending])
        raise
    _check(command, process.returncode or 0, stderr.decode(errors="replace"))
    return stdout.decode(errors="replace")


@contextlib.asynccontextmanager
async def started(
    command: Sequence[str],
    *,
    output: int,
    stdin: int = DEVNULL,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> AsyncIterator[Process]:
    """Run a program beside what is done in the block; killed where it still runs at the block's end.

    `output` and `stdin` are file descriptors. Raises HostCommandFailed where it can't be started.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command, stdin=stdin, stdout=output, stderr=output, env=environment, pass_fds=pass_fds
        )
    )
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting])
        if not starting.exception():
            _kill(starting.result())
        raise
    except OSError as error:
        raise HostCommandFailed(command=shlex.join(command), reason=error) from error
    try:
        yield process
    finally:
        _kill(process)


async def attend(
    command: Sequence[str],
    *,
    output: int,
    stdin: int = DEVNULL,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run a program for as long as it lasts, killed when the caller is cancelled; return its exit status."""
    async with started(command, output=output, stdin=stdin, environment=environment) as process:
        return await process.wait()


def _kill(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def _check(command: tuple[str, ...], code: int, stderr: str) -> None:
    if code:
        reason = " ".join(stderr.split()) or f"left with {code}"
        raise HostCommandFailed(command=shlex.join(command), reason=reason)
