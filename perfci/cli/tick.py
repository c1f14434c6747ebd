"""`perfci tick` and `perfci schedule`: what controllers do every minute, and how they come to do it."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from perfci.cli.access import settings_for
from perfci.cli.groups import DEFAULT, DefaultCommand, DefaultGroup
from perfci.cli.output import Json, errors_reported, print_json, print_table
from perfci.lab.errors import local_time

if TYPE_CHECKING:
    from datetime import datetime

    from perfci.config import Settings
    from perfci.lab.reservations.model import Booking


NOT_PLANNED = "not planned: does `perfci tick` run?"


class _ShowsByDefault(DefaultGroup):
    """`perfci schedule` alone shows what comes next."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command where there is no word at all."""
        return super().parse_args(ctx, args or [DEFAULT])


schedule_app = typer.Typer(
    cls=_ShowsByDefault, help="Scheduled nights: which come next, and the timer that starts them."
)


def tick(
    work: Annotated[
        str | None,
        typer.Option(
            "--work",
            metavar="ID",
            help="Prepare or reclaim this reservation's nodes; ticks start this themselves.",
        ),
    ] = None,
    login: Annotated[
        str | None,
        typer.Option(
            "--login",
            metavar="ID",
            help="Put this reservation's SSH keys on its machines; ticks start this themselves.",
        ),
    ] = None,
    look: Annotated[
        str | None,
        typer.Option(
            "--look",
            metavar="ID",
            help="Check whether anybody works on its machines; ticks start this themselves.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Do what is due: begin and end reservations, start nights, prepare nodes, send mails about them.

    A timer runs it each minute (`perfci schedule install`). You can run it as often as you like, on any
    number of controllers that share a database: everything happens once.

    Exit code 1: something could not be done; everything else was.
    """
    from perfci.runs.tick.tick import tick as once

    with errors_reported(as_json=as_json):
        settings = settings_for()
        for given, order in ((work, _do_work), (login, _let_in), (look, _look)):
            if given is not None:
                raise typer.Exit(order(settings, given, as_json=as_json))
        report = once(settings)
        if as_json:
            print_json(asdict(report))
        else:
            for what, ids in asdict(report).items():
                if ids and what != "problems":
                    sys.stdout.write(f"{what}: {ids if isinstance(ids, int) else ', '.join(ids)}\n")
            for problem in report.problems:
                sys.stderr.write(f"{problem}\n")
    raise typer.Exit(1 if report.problems else 0)


def _do_work(settings: Settings, reservation: str, *, as_json: bool) -> int:
    from perfci.lab import inventory
    from perfci.lab.reservations.documents import booking_document
    from perfci.lab.reservations.service import open_reservations
    from perfci.runs.tick.prepare import work_on
    from perfci.runs.tick.tick import worker_name

    nodes = inventory.nodes(settings.inventory_dir)
    done = work_on(settings, open_reservations(settings), nodes, reservation, worker_name())
    if as_json:
        print_json(None if done is None else booking_document(done))
    else:
        sys.stdout.write(f"{reservation}: {'nothing to do' if done is None else done.state}\n")
    return 0


def _let_in(settings: Settings, reservation: str, *, as_json: bool) -> int:
    from perfci.lab import inventory
    from perfci.lab.reservations.service import open_reservations
    from perfci.runs.tick.prepare import let_in
    from perfci.runs.tick.tick import worker_name

    nodes = inventory.nodes(settings.inventory_dir)
    failed = let_in(settings, open_reservations(settings), nodes, reservation, worker_name())
    if as_json:
        print_json({"reservation": reservation, "failed": failed})
    else:
        sys.stdout.write(f"{reservation}: {'; '.join(failed.values()) or 'its keys open its machines'}\n")
    return 1 if failed else 0


def _look(settings: Settings, reservation: str, *, as_json: bool) -> int:
    from perfci.lab.node_cache import nodes_of
    from perfci.lab.reservations.service import open_reservations
    from perfci.runs.tick.look import look_at
    from perfci.runs.tick.tick import worker_name

    nodes = nodes_of(settings)
    active = look_at(settings, open_reservations(settings), nodes, reservation, worker_name())
    if as_json:
        print_json({"reservation": reservation, "active": active})
    else:
        sys.stdout.write(f"{reservation}: {'somebody works on it' if active else 'nobody works on it'}\n")
    return 0


@schedule_app.command(DEFAULT, cls=DefaultCommand, hidden=True)
def shown(as_json: Json = False) -> None:
    """Show the nights to come, whether or not the calendar has them yet."""
    with errors_reported(as_json=as_json):
        problems: list[str] = []
        rows = nights_to_come(settings_for(), problems)
        if as_json:
            print_json({"nights": [row.as_dict() for row in rows], "problems": problems})
            return
        for problem in problems:
            sys.stderr.write(f"{problem}\n")
        columns = ("job", "window", "starts", "nodes", "reservation")
        print_table(columns, [row.cells() for row in rows], empty="no job has a `schedule`")


def nights_to_come(settings: Settings, problems: list[str] | None = None) -> list[NightToCome]:
    """Return the windows of all jobs with a `schedule`, the next first.

    What is wrong with job files is added to `problems`; without it, only those with a schedule are read.
    """
    from perfci.runs.tick.scheduled import scheduled, windows

    found: list[NightToCome] = []
    jobs = scheduled(settings, problems)
    if jobs:
        from perfci.lab.reservations.nights import Nights
        from perfci.lab.reservations.service import open_reservations

        service = open_reservations(settings)
        nights = Nights(service, "schedule")
        for job in jobs:
            known = {one.window_at: one for one in nights.coming(job.name)}
            found += [
                NightToCome(job.name, window, known.get(window))
                for window in windows(job, None, service.now())
            ]
    return sorted(found, key=lambda one: (one.window, one.job))


class NightToCome(NamedTuple):
    """A window of a job, with what is in the calendar for it."""

    job: str
    window: datetime
    planned: Booking | None

    def as_dict(self) -> dict[str, Any]:
        one = self.planned
        return {
            "job": self.job,
            "window": self.window,
            "starts_at": one.starts_at if one else None,
            "nodes": list(one.nodes) if one else [],
            "reservation": one.id if one else None,
        }

    def cells(self) -> tuple[str, ...]:
        one = self.planned
        starts = local_time(one.starts_at) if one else NOT_PLANNED
        nodes, name = (", ".join(one.nodes), one.id) if one else ("", "")
        return (self.job, local_time(self.window), starts, nodes, name)


@schedule_app.command()
def install(
    cron: Annotated[bool, typer.Option("--cron", help="Print a line for crontab instead.")] = False,
    as_json: Json = False,
) -> None:
    """Print a script that makes a systemd timer for `perfci tick`: `perfci schedule install | sudo sh`.

    The timer runs `perfci tick` each minute, and comes back after a reboot. It keeps this shell's
    ANSIBLE_VAULT_PASSWORD_FILE and PERFCI_CONFIG. With --cron, perfci prints a line for `crontab -e` instead.
    The command itself changes nothing.
    """
    from perfci.runs.tick.timer import cron_line, timer_script

    with errors_reported(as_json=as_json):
        settings = settings_for()
        given = settings, sys.executable, os.environ
        text = cron_line(*given) if cron else timer_script(*given)
        if as_json:
            print_json({"kind": "cron" if cron else "systemd", "command": text.rstrip()})
        else:
            sys.stdout.write(text)
