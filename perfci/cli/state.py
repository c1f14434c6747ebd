"""`perfci status`, `doctor`, `setup`, `demo` and `clean`: this machine's lab as a whole."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfci.cli.access import holder, lab_services, settings_for
from perfci.cli.output import Json, errors_reported, print_json, say
from perfci.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from perfci.alerts.model import Alert
    from perfci.config import Settings
    from perfci.runs.verdicts.lab_services import LabServices

_MIB = 2**20


def status(as_json: Json = False) -> None:
    """Show what runs, who holds nodes, the last run, open alerts, and what waits for delivery.

    Exit code 0: success, even if nothing runs.
    """
    from perfci.alerts.model import SeriesStatus
    from perfci.database.takeover import left_aside
    from perfci.lab.sql import open_ledger
    from perfci.runs.state import status as states
    from perfci.runs.state.archive import run_folders
    from perfci.runs.state.unreported import being_reported, owing

    with errors_reported(as_json=as_json):
        services = lab_services()
        folders = run_folders(services.state.archive)
        alerts = [one for one in services.alerts.load().alerts if one.status is not SeriesStatus.CLOSED]
        found: dict[str, Any] = {
            "state_dir": services.state.root,
            "database": services.database.shown,
            "not_taken_over": left_aside(services.database, services.state.root),
            "verdict_pending": owing(services.database, services.state),
            "being_judged": being_reported(services.database, services.state),
            "runs": [asdict(run) for run in states.runs(services.state)],
            "services": [asdict(service) for service in states.services(services.state)],
            "reservations": [asdict(one) for one in open_ledger(services.settings).held()],
            "archived": len(folders),
            "last": _last(services, folders),
            "open_alerts": [_alert(one) for one in alerts],
            "next": _next(services.settings),
            "not_in_influxdb": services.pending(),
            "refused_by_influxdb": services.refused(),
            "mail": asdict(services.outbox.status()),
        }
        if as_json:
            print_json(found)
            return
        for line in _status_lines(found):
            say(line)


def _last(services: LabServices, folders: list[Path]) -> dict[str, str] | None:
    """Return the last run that can be read and its verdict; None where there is none yet."""
    from perfci.cli.runs_table import readable, verdict_of
    from perfci.runs.verdicts.judgement_store import read_outcomes

    document = next(readable(reversed(folders)), None)
    if document is None:
        return None
    count = read_outcomes(services.database, [document["run_id"]]).get(document["run_id"])
    return {"run": document["run_id"], "job": document["job"], "verdict": verdict_of(document, count)}


def _alert(alert: Alert) -> dict[str, str]:
    from perfci.wording import NBSP, action_name, change

    key, effect = alert.headline.key, alert.headline.effect
    size = change(effect, key.metric).replace(NBSP, " ")
    return {
        "alert": alert.id,
        "since": alert.since,
        "largest": f"{action_name(key)} {size} in {key.scenario}",
    }


def _next(settings: Settings) -> list[dict[str, Any]]:
    """Return what starts by itself, soonest first: the next night of each scheduled job, cron's lines."""
    from perfci.cli.tick import NOT_PLANNED, nights_to_come
    from perfci.runs.state.schedule import planned

    found = [one._asdict() for one in planned(_crontab(), datetime.now().astimezone())]
    known: set[str] = set()
    for one in nights_to_come(settings):
        if one.job not in known:
            known.add(one.job)
            starts = one.planned.starts_at if one.planned else None
            note = "" if starts else f" ({NOT_PLANNED})"
            found.append({"at": starts or one.window, "command": f"perfci run {one.job}{note}"})
    return sorted(found, key=lambda one: (one["at"] is None, one["at"]))


def _crontab() -> str:
    """Return this user's crontab; empty where there is none, or no cron."""
    program = shutil.which("crontab")
    if program is None:
        return ""
    done = subprocess.run([program, "-l"], capture_output=True, text=True, errors="replace", check=False)
    return done.stdout if done.returncode == 0 else ""


def doctor(as_json: Json = False) -> None:
    """Check whether this machine can run the lab: settings, jobs, packages, memory, disk, ports.

    It changes nothing.

    Exit code 0: nothing is missing.
    Exit code 3: something is missing.
    """
    from perfci.runs.ansible.doctor import examine

    with errors_reported(as_json=as_json):
        findings = examine(settings_for())
        if as_json:
            print_json([asdict(finding) for finding in findings])
        for finding in () if as_json else findings:
            typer.echo(f"{'ok     ' if finding.ok else 'missing'} {finding.about}: {finding.detail}")
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 3)


def setup(
    tests: Annotated[bool, typer.Option("--tests", help="Also install what the tests need.")] = False,
    as_json: Json = False,
) -> None:
    """Check this machine, and install Debian packages and the OpenStack code. `perfci run` does it, too."""
    from perfci.cli.progress import Terminal
    from perfci.runs.ansible.lab_playbooks import prepare
    from perfci.runs.state.progress import Silent

    with errors_reported(as_json=as_json):
        settings = settings_for()
        if as_json:
            prepare(settings, Silent(), tests=tests)
            print_json({"done": "setup"})
        else:
            with Terminal() as progress:
                prepare(settings, progress, tests=tests)


def demo(
    bisect: Annotated[
        bool, typer.Option("--bisect", help="Plant a slow change among others, and see a bisect name it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put a slow-down into neutron, see perfci find it, take it out, and see the alert close.

    It runs the job `demo` in three phases and checks what perfci reported. With --bisect, it makes
    repositories of keystone and neutron and merges ten changes, one of them slow. Then it checks that the
    bisect of the alert names that change and proves it by its revert.

    Exit code 0: perfci reported what it should.
    Exit code 1: perfci reported something else.
    """
    from perfci.cli.progress import Terminal
    from perfci.cli.tables import demo_lines
    from perfci.runs.state.progress import Silent
    from perfci.runs.studies.demo import Demo

    with errors_reported(as_json=as_json):
        settings = settings_for()
        if bisect:
            raise typer.Exit(_demo_bisect(settings, as_json=as_json))
        if as_json:
            shown = Demo(settings, holder(), Silent()).run()
            print_json(shown.as_dict())
        else:
            with Terminal() as progress:
                shown = Demo(settings, holder(), progress).run()
            for line in demo_lines(shown):
                typer.echo(line)
    raise typer.Exit(shown.exit_code)


def _demo_bisect(settings: Settings, *, as_json: bool) -> int:
    from perfci.cli.progress import Terminal
    from perfci.runs.state.progress import Silent
    from perfci.runs.studies.demo_bisect import BisectDemo

    if as_json:
        found = BisectDemo(settings, holder(), Silent()).run()
        print_json(found.as_dict())
        return found.exit_code
    with Terminal() as progress:
        found = BisectDemo(settings, holder(), progress).run()
    typer.echo("")
    for check in found.checks:
        typer.echo(f"{'ok     ' if check.ok else 'FAILED '} {check.expected}: {check.found}")
    if found.picture is not None:
        typer.echo(f"picture {found.picture}")
    return found.exit_code


class CleanUnconfirmed(UsageError):
    """`perfci clean --json` can't ask for confirmation, and did not get --yes."""

    template = "{what} would be ended and removed, but --json can't ask you to confirm that"
    help = "Add --yes. The archive and the databases stay, unless you also give --purge."


def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Also remove the archive, the databases and the mail.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Stop everything of this lab, and remove whatever perfci can make again.

    The archive of runs, the databases and the mail stay, unless you give --purge.

    Exit code 0: success.
    Exit code 1: you did not confirm.
    Exit code 2: the folder is not a state folder of perfci, or --json came without --yes.
    Exit code 3: a virtual lab is up, which only root can take down, or another host runs something here.
    """
    from perfci.runs.state.archive import run_folders
    from perfci.runs.state.clean import clean as remove
    from perfci.runs.state.state_folder import StateFolder
    from perfci.wording import NBSP, counted

    with errors_reported(as_json=as_json):
        settings = settings_for()
        state = StateFolder(settings.state_dir)
        runs = counted(len(run_folders(state.archive)), "archived run").replace(NBSP, " ")
        kept = ", except archive, databases and mail,"
        what = f"{state.root}{f' with {runs}' if purge else kept}"
        if as_json and not yes:
            raise CleanUnconfirmed(what=what)
        if not yes:
            typer.confirm(f"End everything of this lab and remove {what}?", abort=True)
        cleaned = remove(state, settings.root_dir, purge=purge)
        if as_json:
            print_json({"state_dir": state.root, "ended": cleaned.ended, "kept": cleaned.kept})
            return
        if cleaned.ended:
            typer.echo(f"Ended: {', '.join(cleaned.ended)}.")
        if cleaned.kept:
            typer.echo(f"Kept in {state.root}: {', '.join(path.name for path in cleaned.kept)}.")
            typer.echo("Remove that, too: perfci clean --purge")
        else:
            typer.echo(f"Removed {state.root}.")


def _status_lines(found: dict[str, Any]) -> Iterator[str]:
    from perfci.wording import counted

    yield f"state     {found['state_dir']}, {counted(found['archived'], 'archived run')}"
    yield f"database  {found['database']}"
    for line in found["not_taken_over"]:
        yield f"aside     {line}"
    yield from _run_lines(found)
    if last := found["last"]:
        yield f"last run  {last['run']}: {last['verdict']}"
    for one in found["open_alerts"]:
        yield f"alert     {one['alert']} since {one['since']}: {one['largest']}"
    for one in found["next"]:
        when = (
            f"{one['at'].astimezone():%Y-%m-%d %H:%M %Z}" if one["at"] else "at times that perfci can't read"
        )
        yield f"next run  {when}: {one['command']}"
    for one in found["reservations"]:
        yield f"reserved  {', '.join(one['nodes'])} by {one['holder']} for {one['purpose']}"
    for service in found["services"]:
        memory = f"{service['rss_bytes'] / _MIB:.0f} MiB"
        yield f"service   {service['service']}: {_processes(service['processes'])}, {memory}"
    yield from _influx_lines(found)
    mail = found["mail"]
    if mail["waiting"] or mail["failed"]:
        after = f"; {mail['last_error']}" if mail["last_error"] else ""
        yield f"mail      {mail['waiting']} waiting, {mail['failed']} refused{after}"
    if not any(found[name] for name in ("runs", "services", "reservations")):
        yield "Nothing runs."


def _processes(number: int) -> str:
    return f"{number} {'process' if number == 1 else 'processes'}"


def _influx_lines(found: dict[str, Any]) -> Iterator[str]:
    from perfci.wording import counted

    if found["not_in_influxdb"]:
        yield f"influxdb  {counted(len(found['not_in_influxdb']), 'run')} to deliver: perfci results sync"
    if refused := found["refused_by_influxdb"]:
        what = f"{counted(len(refused), 'run')} refused and not sent again"
        yield f"influxdb  {what}; {next(iter(refused.values()))}"


def _run_lines(found: dict[str, Any]) -> Iterator[str]:
    running = {run["run_id"] for run in found["runs"]}
    for run_id in found["verdict_pending"]:
        if run_id not in running and run_id in found["being_judged"]:
            yield f"judging   {run_id}; where it suspects a change, re-runs take a while"
        elif run_id not in running:
            yield f"pending   verdict and mail of {run_id}; the next run completes them"
    for run in found["runs"]:
        how = (
            f"in the stage {run['stage']}{_since(run['since'])}"
            if run["alive"]
            else "was killed; the next run archives it"
        )
        yield f"run       {run['run_id']} {how}"


def _since(text: str) -> str:
    """Return a time of a run's notes for people; a run that has not begun a stage has none."""
    from perfci.lab.errors import local_time

    try:
        return f" since {local_time(datetime.fromisoformat(text))}"
    except ValueError:
        return ""
