"""Tokens, on SQLite and on PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perfci.lab.errors import (
    TokenUnknown,
)
from perfci.lab.reservations.tokens import PREFIX, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.lab.reservations.service import Reservations

from calendars import ANN, BOB, START, Clock, at


def test_tokens(opened: Callable[..., Reservations], clock: Clock) -> None:
    database = opened()._database
    tokens = Tokens(database, clock=clock)
    token, secret = tokens.create(ANN, "my script", days=1)
    assert secret.startswith(PREFIX)
    assert tokens.owner_of(secret) == "ann"
    (listed,) = [one for one in tokens.list(ANN) if one.id == token.id]
    assert listed.used_at == START
    with database.reading() as connection:
        from perfci.database.schema import access_token

        rows = connection.execute(access_token.select()).all()
        assert secret not in str(rows)
    for wrong in (secret + "x", secret[:-1], "", "x" * 10_000_000, PREFIX):
        with pytest.raises(TokenUnknown):
            tokens.owner_of(wrong)
    with pytest.raises(TokenUnknown):
        tokens.revoke(token.id, BOB)
    clock.now = at(25)
    with pytest.raises(TokenUnknown):
        tokens.owner_of(secret)
    other, later = tokens.create(ANN, "another")
    tokens.revoke(other.id, ANN)
    with pytest.raises(TokenUnknown):
        tokens.owner_of(later)
