"""`perfci status`, `doctor`, `setup`, `demo` and `clean`: this machine's lab as a whole."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfci.cli.access import holder, lab_services, settings_for
from perfci.cli.output import Json, errors_reported, print_json
from perfci.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MIB = 2**20


def status(as_json: Json = False) -> None:
    """Say what runs, who holds nodes, and what waits for delivery."""
    from perfci.database.takeover import left_aside
    from perfci.lab.sql import open_ledger
    from perfci.runs.state import status as states
    from perfci.runs.state.archive import run_folders
    from perfci.runs.state.unreported import owing

    with errors_reported(as_json=as_json):
        controller = lab_services()
        found: dict[str, Any] = {
            "state_dir": controller.state.root,
            "database": controller.database.shown,
            "not_taken_over": left_aside(controller.database, controller.state.root),
            "unreported": owing(controller.database, controller.state),
            "runs": [asdict(run) for run in states.runs(controller.state)],
            "services": [asdict(service) for service in states.services(controller.state)],
            "reservations": [asdict(one) for one in open_ledger(controller.settings).held()],
            "archived": len(run_folders(controller.state.archive)),
            "not_in_influxdb": controller.pending(),
            "mail": asdict(controller.outbox.status()),
        }
        if as_json:
            print_json(found)
            return
        for line in _status_lines(found):
            typer.echo(line)


def doctor(as_json: Json = False) -> None:
    """Look whether this machine can carry the lab: settings, jobs, packages, memory, disk, ports.

    Changes nothing. Leaves with 3 where something is missing.
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
    tests: Annotated[bool, typer.Option("--tests", help="Also what the tests need.")] = False,
    as_json: Json = False,
) -> None:
    """Check this machine, install Debian's packages and the OpenStack code; `perfci run` does it too."""
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


def demo(as_json: Json = False) -> None:
    """Put a slow-down into neutron, see it found, take it out, see the alert closed.

    Runs the job `demo` in three phases and checks what was said. Leaves with 1 where it was not that.
    """
    from perfci.cli.progress import Terminal
    from perfci.cli.tables import demo_lines
    from perfci.runs.state.progress import Silent
    from perfci.runs.studies.demo import Demo

    with errors_reported(as_json=as_json):
        settings = settings_for()
        if as_json:
            shown = Demo(settings, holder(), Silent()).run()
            print_json(shown.as_dict())
        else:
            with Terminal() as progress:
                shown = Demo(settings, holder(), progress).run()
            for line in demo_lines(shown):
                typer.echo(line)
    raise typer.Exit(shown.exit_code)


class CleanUnconfirmed(UsageError):
    """`perfci clean --json` can't ask, and was not told that it may go on."""

    template = "{what} would be ended and removed, and nobody can be asked"
    help = "Say --yes as well. The archive and the databases stay, unless --purge is given, too."


def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove the archive, the databases and the mail, too.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Stop everything of this lab and remove what can be made again.

    The archive of runs, the databases and the mail stay where they are. With --purge they are removed, too.

    Exit code 0: it was done.
    Exit code 1: you did not agree.
    Exit code 2: the folder is not a state folder of perfci, or --json came without --yes.
    Exit code 3: a virtual lab is up, and only root can take it down.
    """
    from perfci.runs.state.archive import run_folders
    from perfci.runs.state.clean import clean as remove
    from perfci.runs.state.state_folder import StateFolder

    with errors_reported(as_json=as_json):
        settings = settings_for()
        state = StateFolder(settings.state_dir)
        runs = len(run_folders(state.archive))
        what = (
            f"{state.root}{f' with {runs} archived run(s)' if purge else ', all but what is known of runs,'}"
        )
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
    yield f"state     {found['state_dir']}, {found['archived']} archived run(s)"
    yield f"database  {found['database']}"
    for line in found["not_taken_over"]:
        yield f"aside     {line}"
    running = {run["run_id"] for run in found["runs"]}
    for run_id in found["unreported"]:
        if run_id not in running:
            yield f"owed      verdict and mail of {run_id}; the next run makes up for it"
    for run in found["runs"]:
        how = (
            f"at {run['stage']} since {run['since']}"
            if run["alive"]
            else "was killed; the next run archives it"
        )
        yield f"run       {run['run_id']} {how}"
    for one in found["reservations"]:
        yield f"reserved  {', '.join(one['nodes'])} by {one['holder']} for {one['purpose']}"
    for service in found["services"]:
        memory = f"{service['rss_bytes'] / _MIB:.0f} MiB"
        yield f"service   {service['service']}: {service['processes']} process(es), {memory}"
    if found["not_in_influxdb"]:
        yield f"influxdb  {len(found['not_in_influxdb'])} run(s) wait; deliver them: perfci results sync"
    mail = found["mail"]
    if mail["waiting"] or mail["failed"]:
        yield f"mail      {mail['waiting']} waiting, {mail['failed']} refused; {mail['last_error']}"
    if not any(found[name] for name in ("runs", "services", "reservations")):
        yield "Nothing runs."
