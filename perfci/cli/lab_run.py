"""Working on a reservation: run a command while it lasts, log in, and what its nodes are called."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfci.cli.access import settings_for
from perfci.cli.durations import parse_duration
from perfci.cli.lab_calendar import (
    ID,
    Cloud,
    Count,
    Keys,
    Length,
    Names,
    System,
    Where,
    WipeDisks,
    actor,
    reservations,
    wish_of,
)
from perfci.cli.lab_reserve import NO_REASON, Reason, begin_work, swept
from perfci.cli.output import Json, errors_reported, print_json
from perfci.cli.ssh_keys import keys_of
from perfci.cli.start_command import check_startable, unusable
from perfci.database.errors import DatabaseUnavailable
from perfci.errors import PerfciError
from perfci.lab import inventory, owners
from perfci.lab.errors import NodeNotHeld, NoSuchSlot, NotReady, ReservationOver, local_time
from perfci.lab.reservations.checks import check_may
from perfci.lab.reservations.idle import Looks
from perfci.lab.reservations.model import BookingState, Request, Wipe
from perfci.lab.reservations.states import OPEN
from perfci.lab.virtual.lab import entering

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from perfci.config import Settings
    from perfci.lab.reservations.model import Actor, Booking
    from perfci.lab.reservations.service import Reservations

ASK_SECONDS = 30.0
"""How often a command's reservation is looked at while it runs."""
LOOK_SECONDS = 2.0
"""How often somebody who waits looks whether the nodes are ready."""
_SIGNALLED = 128


def wait_until_ready(
    service: Reservations,
    booking: Booking,
    who: Actor,
    seconds: float,
    *,
    look_seconds: float = LOOK_SECONDS,
) -> Booking:
    """Return the reservation when it is ready. It is given back, with NoSuchSlot, after so many seconds."""
    bound = booking.asked_at + timedelta(seconds=seconds)
    told = ""
    try:
        while (now := service.show(booking.id)).state is not BookingState.READY:
            words = f"{', '.join(now.nodes) or now.wish}: {now.state}; how far: perfci lab show {now.id}\n"
            if words != told:
                sys.stderr.write(told := words)
            _check_still_coming(now, bound)
            begin_work(service.begin())
            time.sleep(look_seconds)
    except BaseException:
        service.release(booking.id, who)
        raise
    return now


def _check_still_coming(now: Booking, bound: datetime) -> None:
    if now.state not in OPEN:
        raise ReservationOver(id=now.id, state=str(now.state), order="waiting for it")
    if datetime.now(UTC) > bound:
        why = f"it is {now.state}, planned for {local_time(now.starts_at)}; it was given back"
        raise NoSuchSlot(wanted=str(now.wish), when=f"by {local_time(bound)}", why=why)


def run(  # noqa: PLR0917 - typer takes them by name
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND", help="What to run, after `--`.")],
    length: Length,
    count: Count = None,
    names: Names = None,
    where: Where = "",
    os: System = "",
    cloud: Cloud = "",
    reason: Reason = NO_REASON,
    wait: Annotated[
        str, typer.Option("--wait", metavar="TIME", help="How long to wait for the nodes.")
    ] = "1h",
    keys: Keys = None,
    wipe: WipeDisks = Wipe.NONE,
    as_json: Json = False,
) -> None:
    """Reserve nodes, wait until they are ready, run a command, and always give them back.

    The command gets the names of the nodes in PERFCI_NODES, the reservation's id in PERFCI_RESERVATION, and
    the variables that `perfci lab env` prints, such as OS_CLOUD. perfci ends the command when the time is
    over. The exit code is the command's.

    Exit code 3: the nodes are not free within that time.
    Exit code 126: the command is no program that can be run; perfci reserves nothing.
    Exit code 127: there is no such command; perfci reserves nothing.
    """
    with errors_reported(as_json=as_json):
        check_startable(command[0])
        service, settings = reservations(), settings_for()
        who = actor(service, settings)
        bound = parse_duration(wait).total_seconds()
        request = Request(
            wish=wish_of(count, names, where, "run"),
            length_seconds=parse_duration(length).total_seconds(),
            purpose=reason if reason != NO_REASON else shlex.join(command)[:200],
            wait_seconds=bound,
            os=os,
            cloud=cloud,
            keys=keys_of(keys),
            wipe=wipe,
        )
        with _ended_by_signals():
            swept(service)
            made = service.reserve(request, who, owner=owners.me())
            begin_work([made])
            ready = wait_until_ready(service, made, who, bound)
            sys.stderr.write(f"{', '.join(ready.nodes)}: yours until {local_time(ready.ends_at)}\n")
            try:
                code = _run(service, command, ready, access_to(ready, settings))
            finally:
                begin_work([service.release(made.id, who)])
        if as_json:
            print_json({"reservation": made.id, "nodes": list(ready.nodes), "exit_code": code})
    raise typer.Exit(code)


def _run(service: Reservations, command: list[str], booking: Booking, variables: dict[str, str]) -> int:
    environment = {**os.environ, **variables}
    try:
        with subprocess.Popen(command, env=environment, start_new_session=True) as process:
            try:
                code = _ended_in_time(process, service, booking)
            except BaseException:
                _end(process)
                raise
    except OSError as error:
        raise unusable(command[0], error, note="perfci gave the nodes back.") from error
    return code if code >= 0 else _SIGNALLED - code


def _ended_in_time(process: subprocess.Popen[bytes], service: Reservations, booking: Booking) -> int:
    """Wait for a command until its reservation is over, which may be extended or given back meanwhile."""
    while True:
        left = (booking.ends_at - datetime.now(UTC)).total_seconds()
        if left <= 0 or booking.released_at is not None:
            sys.stderr.write("the reservation is over: perfci ends the command\n")
            return _end(process)
        try:
            return process.wait(timeout=min(left, ASK_SECONDS))
        except subprocess.TimeoutExpired:
            # A database that does not answer ends no command: it is asked again.
            with suppress(DatabaseUnavailable):
                booking = service.show(booking.id)


def _end(process: subprocess.Popen[bytes]) -> int:
    """End a command with all that it started: politely first."""
    for number, seconds in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        try:
            os.killpg(process.pid, number)
            return process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            break
    return process.wait()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end this as Ctrl-C does: the nodes are given back on the way out."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def ssh(
    reservation: ID,
    node: Annotated[
        str | None, typer.Argument(metavar="[NODE]", help="Which node. Default: the first.")
    ] = None,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND]", help="Command to run there.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Log in on a node of your reservation, or run a command there.

    Exit code 4: the reservation is not yours.
    """
    with errors_reported(as_json=as_json):
        found, settings = _ready(reservation)
        chosen = node or found.nodes[0]
        if chosen not in found.nodes:
            raise NodeNotHeld(node=chosen, id=found.id, nodes=", ".join(found.nodes))
        within = entering(settings.state_dir) if settings.lab == inventory.VIRTUAL else []
        arguments = inventory.ssh_arguments(settings.inventory_dir, [chosen])[chosen]
        words = [*within, "ssh", *arguments, *(command or ())]
        if as_json:
            print_json({"node": chosen, "command": words})
            return
        sys.stdout.flush()
        try:
            os.execvp(words[0], words)  # noqa: S606 - the terminal is ssh's from here on
        except OSError as error:
            raise unusable(words[0], error) from error


def env(
    reservation: ID,
    folder: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Folder for its files. Default: in the lab's state folder."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what a shell needs to work on a reservation: `eval "$(perfci lab env ID)"`.

    It writes an Ansible inventory with only its nodes (ANSIBLE_INVENTORY) and a file for `ssh -F`
    (PERFCI_SSH_CONFIG). If the reservation has a cloud, it also writes clouds.yaml (OS_CLIENT_CONFIG_FILE,
    OS_CLOUD) and a file to source (PERFCI_OPENRC). In a virtual lab, begin a command that must reach the
    nodes with PERFCI_ENTER.

    Exit code 4: the reservation is not yours.
    """
    with errors_reported(as_json=as_json):
        found, settings = _ready(reservation)
        variables = access_to(found, settings, Path(folder).absolute() if folder else None)
        if "OS_CLOUD" in variables and _on_loopback(Path(variables["PERFCI_OPENRC"])):
            sys.stderr.write(
                f"the cloud listens only on {found.nodes[0]}: use it there, `perfci lab ssh {found.id}`\n"
            )
        if as_json:
            print_json(variables)
        else:
            for name, value in variables.items():
                sys.stdout.write(f"export {name}={shlex.quote(value)}\n")


def access_to(booking: Booking, settings: Settings, folder: Path | None = None) -> dict[str, str]:
    """Write the files with which one works on a reservation, and return what a shell needs to know.

    Raises AccessNotWritten, and what the inventory raises.
    """
    from perfci.lab import access
    from perfci.runs.tick.node_playbooks import cloud_groups, folder_of

    kept = folder_of(settings, booking.id)
    try:
        clouds = (kept / access.CLOUDS).read_text(encoding="utf-8") if booking.cloud else None
        written = access.write(
            folder or kept,
            inventory.connections(settings.inventory_dir, booking.nodes),
            cloud_groups(settings, booking.id),
            clouds,
        )
    except (OSError, ValueError) as error:  # ValueError: what a playbook has written is damaged
        raise AccessNotWritten(folder=folder or kept, reason=error) from error
    within = entering(settings.state_dir) if settings.lab == inventory.VIRTUAL else []
    return {
        "PERFCI_RESERVATION": booking.id,
        "PERFCI_NODES": " ".join(booking.nodes),
        **written,
        **({"PERFCI_ENTER": shlex.join(within)} if within else {}),
    }


def _on_loopback(openrc: Path) -> bool:
    return "://127.0.0.1:" in openrc.read_text(encoding="utf-8")


class AccessNotWritten(PerfciError):
    """perfci can't read or write the files that give access to a reservation."""

    template = "the files in {folder} can't be written: {reason}"
    help = (
        "Name another folder with `--folder`. Only the user who runs `perfci tick` can read a cloud's "
        "credentials."
    )


def _ready(reservation: str) -> tuple[Booking, Settings]:
    """Return a reservation of one's own that is ready. Raises NotReady, NotYours, ReservationNotFound."""
    service = reservations()
    settings = settings_for()
    found = service.show(reservation)
    check_may(actor(service, settings), found)
    if found.state is not BookingState.READY:
        raise NotReady(id=found.id, state=found.state)
    Looks(service, "lab").seen(found.id, active=True)
    return found, settings
