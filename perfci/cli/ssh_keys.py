"""`perfci lab keys`, and the SSH public keys that commands take from files."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfci.cli.access import settings_for
from perfci.cli.lab_calendar import ID, actor, reservations
from perfci.cli.output import Json, errors_reported, print_json
from perfci.errors import UsageError
from perfci.lab.errors import ReservationInvalid
from perfci.lab.reservations.keys import check_keys, fingerprint
from perfci.lab.reservations.model import BookingState

if TYPE_CHECKING:
    from collections.abc import Sequence


class KeyFileInvalid(UsageError):
    """A file of SSH public keys can't be read."""

    template = "{file}: {reason}"
    help = "Name a file such as ~/.ssh/id_ed25519.pub, with one public key per line."


def keys_of(files: Sequence[str] | None) -> tuple[str, ...]:
    """Return the keys in files; with None the caller's own, as far as they can be used: there may be none.

    Raises KeyFileInvalid, ReservationInvalid.
    """
    if files is not None:
        return check_keys(line for file in files for line in _lines(Path(file).expanduser()))
    found: list[str] = []
    for file in sorted((Path.home() / ".ssh").glob("id_*.pub")):
        with suppress(KeyFileInvalid, ReservationInvalid):
            found += check_keys(_lines(file))
    return tuple(found)


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise KeyFileInvalid(file=file, reason=reason) from error
    return [line for line in text.splitlines() if not line.startswith("#")]


def keys(
    reservation: ID,
    files: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="FILE", help="Allow these keys, and no others; may be repeated."),
    ] = None,
    nobody: Annotated[bool, typer.Option("--none", help="Remove all keys.")] = False,
    as_json: Json = False,
) -> None:
    """Show or change the SSH keys that open the machines of a reservation: `ssh root@NODE`.

    perfci puts new keys on the machines within a minute, and removes all of them at the end of the
    reservation.

    Exit code 4: the reservation is not yours.
    """
    with errors_reported(as_json=as_json):
        service = reservations()
        if files is None and not nobody:
            found = service.show(reservation)
        else:
            wanted = keys_of(files or ())
            found = service.admit(reservation, wanted, actor(service, settings_for()))
            if found.state is BookingState.READY:
                from perfci.runs.state.background import in_background

                in_background(settings_for())(["tick", "--login", found.id])
        prints = [fingerprint(one) for one in found.keys]
        if as_json:
            print_json({"reservation": found.id, "keys": prints})
        else:
            sys.stdout.write("".join(f"{one}\n" for one in prints) or "no keys beside the controller's\n")
