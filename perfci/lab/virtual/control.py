"""How one talks with the process of a virtual lab: one JSON document each way over a Unix socket.

A request is `{"do": "status"}`, `{"do": "fault", "node": NAME, "faults": {NAME: VALUE}}`,
`{"do": "clear", "node": NAME}` or `{"do": "outlet", "node": NAME}`, on one line. The answer has `ok`; it is
what was asked for, or an error as perfci's errors are written as JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

from perfci.errors import PerfciError, UsageError
from perfci.lab.virtual.errors import RootNeeded, VirtualLabBroken
from perfci.parsing import json_value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from perfci.lab.virtual.folders import LabFolder

    Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

LINE_BYTES = 1 << 20
TIMEOUT_SECONDS = 20.0
"""A lab that answers later than this counts as broken."""

log = logging.getLogger(__name__)


class RequestRefused(UsageError):
    """The process of the virtual lab refuses a request; the message has its own words."""

    template = "{message}"
    help = "{advice}"


async def listen(socket_file: Path, answer: Answer) -> asyncio.Server:
    """Answer requests on a Unix socket that only its owner may use."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            reply = await _reply(await reader.readline(), answer)
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError) as error:  # the asker went away, or sent a line without an end
            log.warning("control: %s", error)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, socket_file, limit=LINE_BYTES)
    os.chmod(socket_file, 0o600)  # noqa: PTH101 - at once; pathlib is thought to block
    return server


async def _reply(line: bytes, answer: Answer) -> dict[str, Any]:
    try:
        return {"ok": True, **await answer(dict(json_value(line)))}
    except PerfciError as error:
        return {"ok": False, **error.as_dict()}
    except (ValueError, TypeError, KeyError) as error:
        return {"ok": False, "message": f"not a request: {error}", "help": ""}


def ask(folder: LabFolder, **request: Any) -> dict[str, Any] | None:
    """Ask the process of a lab; None where none is there.

    Raises RequestRefused, RootNeeded, or VirtualLabBroken where it is there and gives no answer.
    """
    with closing(socket.socket(socket.AF_UNIX)) as line:
        line.settimeout(TIMEOUT_SECONDS)
        try:
            line.connect(str(folder.control))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return None
        except PermissionError as error:
            raise RootNeeded(what=f"`perfci virtual {request['do']}`") from error
        except OSError as error:
            raise _broken(folder, error) from error
        try:
            line.sendall(json.dumps(request).encode() + b"\n")
            with line.makefile("rb") as incoming:
                reply = json_value(incoming.readline())
        except (OSError, ValueError) as error:
            raise _broken(folder, error) from error
    if not reply.pop("ok", False):
        raise RequestRefused(message=reply.get("message", "no reason given"), advice=reply.get("help", ""))
    answer: dict[str, Any] = reply
    return answer


def _broken(folder: LabFolder, error: Exception) -> VirtualLabBroken:
    return VirtualLabBroken(what="does not answer", reason=error or type(error).__name__, log=folder.log)
