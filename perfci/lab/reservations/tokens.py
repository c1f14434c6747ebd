"""Tokens: what a program or the web page shows to act for a person. Only their digests are kept."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from perfci.database.schema import access_token
from perfci.lab.errors import ReservationInvalid, TokenUnknown
from perfci.lab.reservations.checks import check_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.database.engine import Database
    from perfci.lab.reservations.model import Actor

PREFIX = "perfci_"
"""Begins every secret, so that scanners for leaked secrets can know it."""
_LONGEST = 200
_SEEN_AGAIN = timedelta(minutes=10)
"""The last use is written down no more often than that: reading pages should not write."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret. Times are in UTC; `expires_at` None: never."""

    id: str
    owner: str
    label: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    used_at: datetime | None = None


class Tokens:
    """The tokens of all labs of a database. Every method raises DatabaseUnavailable."""

    def __init__(
        self, database: Database, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._database = database
        self._clock = clock

    def create(self, actor: Actor, label: str, *, days: float | None = None) -> tuple[Token, str]:
        """Make a token for somebody; return it with its secret, which is shown this once.

        Raises ReservationInvalid.
        """
        if days is not None and not 0 < days <= 3660:  # noqa: PLR2004 - ten years
            raise ReservationInvalid(reason="a token lasts for more than 0 and at most 3660 days")
        now = self._clock()
        secret = PREFIX + secrets.token_urlsafe(32)
        token = Token(
            id=secrets.token_hex(4),
            owner=check_line("owner", actor.name),
            label=check_line("label", label),
            created_at=now,
            expires_at=None if days is None else now + timedelta(days=days),
        )
        with self._database.transaction() as connection:
            connection.execute(
                access_token.insert().values(
                    id=token.id,
                    owner=token.owner,
                    label=token.label,
                    digest=_digest(secret),
                    created_at=now,
                    expires_at=token.expires_at,
                )
            )
        return token, secret

    def owner_of(self, secret: str) -> str:
        """Return whose token this secret is. Raises TokenUnknown: it is unknown, revoked or has expired."""
        now = self._clock()
        if len(secret) > _LONGEST or not secret.startswith(PREFIX):
            raise TokenUnknown(which="")
        with self._database.reading() as connection:
            row = connection.execute(
                sa.select(access_token).where(access_token.c.digest == _digest(secret))
            ).one_or_none()
        if row is None or row.revoked_at is not None or (row.expires_at and row.expires_at <= now):
            raise TokenUnknown(which="")
        if row.used_at is None or now - row.used_at > _SEEN_AGAIN:
            with self._database.transaction() as connection:
                connection.execute(
                    access_token.update().where(access_token.c.id == row.id).values(used_at=now)
                )
        owner: str = row.owner
        return owner

    def list(self, actor: Actor) -> tuple[Token, ...]:
        """Return somebody's tokens, an admin everybody's, the newest last."""
        wanted = sa.select(access_token).order_by(access_token.c.created_at, access_token.c.id)
        if not actor.admin:
            wanted = wanted.where(access_token.c.owner == actor.name)
        with self._database.reading() as connection:
            return tuple(
                Token(
                    row.id, row.owner, row.label, row.created_at, row.expires_at, row.revoked_at, row.used_at
                )
                for row in connection.execute(wanted)
            )

    def revoke(self, token_id: str, actor: Actor) -> None:
        """Make a token useless from now on. Raises TokenUnknown, also for somebody else's."""
        mine = access_token.c.id == token_id
        if not actor.admin:
            mine &= access_token.c.owner == actor.name
        with self._database.transaction() as connection:
            if connection.execute(sa.select(access_token.c.id).where(mine)).first() is None:
                raise TokenUnknown(which=f" {token_id[:60]!r}")
            connection.execute(
                access_token.update()
                .where(mine, access_token.c.revoked_at.is_(None))
                .values(revoked_at=self._clock())
            )


def _digest(secret: str) -> str:
    # The secrets are random and long: a slow hash would add nothing.
    return hashlib.sha256(secret.encode()).hexdigest()
