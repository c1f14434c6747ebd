"""Switching a node's mains, by the command that the inventory names."""

from __future__ import annotations

import asyncio
import re
import shlex
from typing import TYPE_CHECKING

from perfci.lab.bmc.errors import OutletCommandInvalid, OutletFailed
from perfci.redaction import redacted

if TYPE_CHECKING:
    from perfci.lab.bmc.base import Target

_FIELD = re.compile(r"\{([^{}]*)\}")
KNOWN_FIELDS = frozenset({"outlet", "node"})
"""What may stand in a command. No secret is among them: who reads the list of processes would read it."""


def command(target: Target) -> tuple[str, ...]:
    """Return the program and its arguments; no shell ever reads them. Raises OutletCommandInvalid."""
    template = target.outlet_command or ""
    try:
        words = shlex.split(template)
    except ValueError as error:
        raise _invalid(target, str(error).lower()) from error
    if not words:
        raise _invalid(target, "it is empty")
    if unknown := sorted(set(_FIELD.findall(template)) - KNOWN_FIELDS):
        raise _invalid(target, f"unknown field {{{unknown[0]}}}")
    values = {"outlet": target.outlet or "", "node": target.node}
    return tuple(_FIELD.sub(lambda found: values[found[1]], word) for word in words)


async def switch(target: Target) -> None:
    """Cut a node's power and give it back: what the command does, which has ended well when this returns.

    Raises OutletCommandInvalid, OutletFailed.
    """
    program, *arguments = command(target)
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        raise _failed(target, program, error.strerror or str(error)) from error
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise _failed(target, program, redacted(last) or f"it ended with status {process.returncode}")


def _invalid(target: Target, reason: str) -> OutletCommandInvalid:
    return OutletCommandInvalid(node=target.node, command=target.outlet_command, reason=reason)


def _failed(target: Target, program: str, reason: str) -> OutletFailed:
    return OutletFailed(node=target.node, outlet=target.outlet, program=program, reason=reason)
