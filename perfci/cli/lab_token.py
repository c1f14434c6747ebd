"""`perfci lab token`: tokens, with which people act on the web page and programs in its API."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from perfci.cli.access import settings_for
from perfci.cli.output import Json, errors_reported, print_json, print_table
from perfci.lab import people
from perfci.lab.errors import local_time

if TYPE_CHECKING:
    from datetime import datetime

    from perfci.lab.reservations.model import Actor
    from perfci.lab.reservations.tokens import Tokens

app = typer.Typer(no_args_is_help=True, help="Tokens for the web page and its API.")

COLUMNS = ("token", "owner", "label", "made", "last used", "expires", "state")


@app.command()
def add(
    label: Annotated[str, typer.Option(metavar="TEXT", help="What it is for: phone, CI.")],
    days: Annotated[
        float | None,
        typer.Option(min=0, metavar="DAYS", help="How many days it is valid. Default: for ever."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a token for yourself. perfci shows it only now, and keeps only its digest."""
    with errors_reported(as_json=as_json):
        tokens, actor = _opened()
        token, secret = tokens.create(actor, label, days=days)
        if as_json:
            print_json({**asdict(token), "secret": secret})
            return
        sys.stdout.write(f"{secret}\n")
        until = (
            f"good until {local_time(token.expires_at)}" if token.expires_at else "good until it is revoked"
        )
        sys.stderr.write(
            f"token {token.id} ({token.label}), {until}. It is not shown again.\n"
            f"revoke it with: perfci lab token revoke {token.id}\n"
        )


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Show your tokens without their secrets. An admin of the lab sees everybody's."""
    with errors_reported(as_json=as_json):
        tokens, actor = _opened()
        found = tokens.list(actor)
        if as_json:
            print_json({"tokens": [asdict(one) for one in found]})
            return
        rows = [
            (
                one.id,
                one.owner,
                one.label,
                local_time(one.created_at),
                _time(one.used_at, "never"),
                _time(one.expires_at, "never"),
                "revoked" if one.revoked_at else "good" if _good(one.expires_at) else "expired",
            )
            for one in found
        ]
        print_table(COLUMNS, rows, empty="no tokens")


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, as `lab token list` shows it.")],
    as_json: Json = False,
) -> None:
    """Revoke a token. It stops working at once, wherever it is used.

    Exit code 4: you have no such token.
    """
    with errors_reported(as_json=as_json):
        tokens, actor = _opened()
        tokens.revoke(token, actor)
        if as_json:
            print_json({"revoked": token})
        else:
            sys.stdout.write(f"token {token}: revoked\n")


def _opened() -> tuple[Tokens, Actor]:
    """Return the tokens, and who asks: the user of the operating system."""
    from perfci.database.engine import open_database
    from perfci.lab.reservations.model import Actor
    from perfci.lab.reservations.tokens import Tokens

    settings = settings_for()
    name = people.me()
    return Tokens(open_database(settings)), Actor(name, admin=name in settings.reservations.admins)


def _good(expires_at: datetime | None) -> bool:
    from datetime import UTC, datetime

    return expires_at is None or expires_at > datetime.now(UTC)


def _time(when: datetime | None, otherwise: str) -> str:
    return local_time(when) if when else otherwise
