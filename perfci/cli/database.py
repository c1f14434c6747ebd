"""`perfci database`: what the controller knows, its backup, and its move to a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perfci.cli.access import lab_services
from perfci.cli.output import Json, errors_reported, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="The controller's database: show it, back it up, move it.")


@app.command()
def show(as_json: Json = False) -> None:
    """Show where the database is, and how many rows each table has.

    `perfci results rebuild` makes what is marked "made again" from the archive. The rest exists only here.
    """
    from perfci.database.carry import row_counts
    from perfci.database.engine import HEAD
    from perfci.database.schema import derivable
    from perfci.database.takeover import left_aside

    with errors_reported(as_json=as_json):
        services = lab_services()
        counts = row_counts(services.database)
        aside = left_aside(services.database, services.state.root)
        if as_json:
            print_json(
                {"url": services.database.shown, "revision": HEAD, "rows": counts, "not_taken_over": aside}
            )
            return
        typer.echo(f"{services.database.shown}, schema revision {HEAD}")
        rows = [
            (name, str(number), "made again" if derivable(name) else "") for name, number in counts.items()
        ]
        print_table(("table", "rows", ""), rows, empty="")
        for line in aside:
            typer.echo(f"not taken over: {line}")


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that does not exist yet.")],
    as_json: Json = False,
) -> None:
    """Copy an SQLite database into a file as it is at one moment, even while runs go on.

    Exit code 3: the database can't be copied. Back up one on a server with its own program, pg_dump.
    """
    from perfci.database.carry import back_up

    with errors_reported(as_json=as_json):
        back_up(lab_services().database, file)
        if as_json:
            print_json({"file": file.absolute()})
        else:
            typer.echo(str(file))


@app.command()
def copy(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="SQLAlchemy URL of an empty database, without a password.")
    ],
    password_file: Annotated[
        Path | None, typer.Option("--password-file", metavar="FILE", help="File with its password.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Copy everything into another database, for example on PostgreSQL.

    Then set database.url to the new one; until then perfci uses the old one.

    Exit code 2: the other database is not empty.
    Exit code 4: one of the two does not answer.
    """
    from perfci.config import DatabaseSettings
    from perfci.database.carry import copy_rows
    from perfci.database.engine import Database

    with errors_reported(as_json=as_json):
        target = DatabaseSettings(url=url, password_file=password_file)
        copied = copy_rows(lab_services().database, Database(url, target.secret_password()))
        if as_json:
            print_json({"rows": copied})
        else:
            typer.echo(
                f"{sum(copied.values())} row(s) copied. Set database.url now, before any other command."
            )
