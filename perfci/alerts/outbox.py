"""Mail that waits for delivery, in the controller's database.

Each recipient of a letter is waiting, sent or refused, apart from the others. A letter is known by the id of
its notification: putting the same id in again does nothing. A letter that is put in inside a transaction is
committed together with everything else in it.

A transport returns when the other side has taken the letter over, and the commit that says so follows. Only a
process that is killed in between leaves a letter waiting that was sent; it is sent again with the same
Message-ID, and SMTP offers nothing better. The maildir can look whether it has the letter: it gets it exactly
once. Delivery holds a lock, so two processes never send the same letter side by side.
"""

from __future__ import annotations

import email.policy
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from perfci.alerts.errors import MailRefused, MailRefusedForNow, MailServerUnavailable
from perfci.database.schema import letter as letters
from perfci.database.schema import letter_recipient as recipients_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from email.message import EmailMessage

    from perfci.database.engine import Database
    from perfci.errors import ServiceError

_KEPT_SENT = 1000
"""How many letters that were sent are kept, so that a letter put in again is recognised."""
_LOCK = "outbox"
_logger = logging.getLogger(__name__)


class RecipientState(StrEnum):
    """How far a letter is with one of its recipients."""

    WAITING = "waiting"
    SENT = "sent"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Letter:
    """One mail for the recipients who wait for it. `message` is the whole mail in ASCII, as in RFC 5322.

    `queued_at` is ISO 8601. `attempts` counts deliveries that were begun; `last_error` says how the
    last one ended, and is empty for one that never came back.
    """

    id: str
    sender: str
    recipients: tuple[str, ...]
    message: str
    queued_at: str
    attempts: int = 0
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class Refusals:
    """Recipients that were refused while others were served, each with the server's words."""

    for_now: Mapping[str, str] = field(default_factory=dict)
    for_good: Mapping[str, str] = field(default_factory=dict)


_WIRE = email.policy.default.clone(cte_type="7bit", max_line_length=200)
"""Only ASCII. A subject stays on one line: folded, it may begin on the second, and readers see a gap."""


def on_the_wire(message: EmailMessage) -> str:
    """Return the whole mail as it is sent, in ASCII, with line feeds."""
    return message.as_bytes(policy=_WIRE).decode("ascii")


class Transport(Protocol):
    """Takes letters over."""

    def send(self, letter: Letter) -> Refusals:
        """Return when the letter has been taken over for at least one recipient.

        Raises MailServerUnavailable, MailRefusedForNow and MailRefused.
        """


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one delivery did: ids of letters that were sent, that wait, and that were refused for good.

    `problems` are the server's words for whatever was not sent, each once.
    """

    sent: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    problems: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """How the outbox stands; `oldest` is when the oldest waiting letter came in, ISO 8601."""

    waiting: int
    failed: int
    oldest: str | None
    last_error: str | None


def _recipient(letter_id: str, address: str, position: int, now: datetime) -> dict[str, Any]:
    return {
        "letter_id": letter_id,
        "address": address,
        "position": position,
        "state": RecipientState.WAITING,
        "last_error": "",
        "changed_at": now,
    }


class Outbox:
    """The letters in a database. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self,
        letter_id: str,
        message: EmailMessage,
        *,
        sender: str,
        recipients: tuple[str, ...],
        now: datetime,
    ) -> bool:
        """Queue a mail. Return False, and do nothing, where a letter with this id is known."""
        wire = on_the_wire(message)
        with self._database.transaction() as connection:
            if connection.scalar(sa.select(letters.c.id).where(letters.c.id == letter_id)) is not None:
                return False
            connection.execute(
                letters.insert().values(id=letter_id, sender=sender, message=wire, queued_at=now, attempts=0)
            )
            connection.execute(
                recipients_of.insert(),
                [
                    _recipient(letter_id, address, position, now)
                    for position, address in enumerate(dict.fromkeys(recipients))
                ],
            )
        return True

    def put_all(self, mails: Iterable[tuple[str, str, str]], *, sender: str, now: datetime) -> int:
        """Queue mails to one person each in a few statements, and return how many.

        A mail is (id, what `on_the_wire` makes of it, address). None of the ids may be known.
        """
        written = list(mails)
        if not written:
            return 0
        with self._database.transaction() as connection:
            connection.execute(
                letters.insert(),
                [
                    {"id": one, "sender": sender, "message": wire, "queued_at": now, "attempts": 0}
                    for one, wire, _ in written
                ],
            )
            connection.execute(
                recipients_of.insert(), [_recipient(one, address, 0, now) for one, _, address in written]
            )
        return len(written)

    def knows(self, letter_id: str) -> bool:
        """Tell whether a letter of this id was put in, and is kept."""
        with self._database.reading() as connection:
            found = connection.scalar(sa.select(letters.c.id).where(letters.c.id == letter_id))
        return found is not None

    def deliver(self, transport: Transport) -> Delivery:
        """Send what waits, oldest first; what can't be sent now stays.

        A server that does not answer ends the delivery, so that nobody waits for each letter's timeout.
        """
        sent: list[str] = []
        waiting: list[str] = []
        failed: list[str] = []
        problems: dict[str, None] = {}
        with self._database.lock(_LOCK):
            queue = self.letters()
            for number, letter in enumerate(queue):
                self._begin(letter)
                try:
                    refusals = transport.send(letter)
                except MailRefused as error:
                    self._settle(letter, Refusals(for_good=dict.fromkeys(letter.recipients, str(error))))
                    failed.append(letter.id)
                    problems[_advised(error)] = None
                except MailRefusedForNow as error:
                    self._settle(letter, Refusals(for_now=dict.fromkeys(letter.recipients, str(error))))
                    waiting.append(letter.id)
                    problems[_advised(error)] = None
                except MailServerUnavailable as error:
                    self._settle(letter, Refusals(for_now=dict.fromkeys(letter.recipients, str(error))))
                    waiting += [other.id for other in queue[number:]]
                    problems[_advised(error)] = None
                    break
                except Exception as error:
                    # A fault of ours with one letter must not keep those behind it back, today and each time.
                    _logger.exception("the letter %s can't be sent", letter.id)
                    words = f"unexpected {type(error).__name__}: {error}"
                    self._settle(letter, Refusals(for_now=dict.fromkeys(letter.recipients, words)))
                    waiting.append(letter.id)
                    problems[f"the letter {letter.id} can't be sent: {words}"] = None
                else:
                    self._settle(letter, Refusals(_named(refusals.for_now), _named(refusals.for_good)))
                    (waiting if refusals.for_now else sent).append(letter.id)
                    problems |= dict.fromkeys(_named({**refusals.for_now, **refusals.for_good}).values())
            self._forget()
        return Delivery(tuple(sent), tuple(waiting), tuple(failed), tuple(problems))

    def retry_failed(self) -> int:
        """Let everybody who was refused wait again; return of how many letters."""
        refused = recipients_of.c.state == RecipientState.REFUSED
        with self._database.transaction() as connection:
            found = set(connection.scalars(sa.select(recipients_of.c.letter_id).where(refused)))
            connection.execute(
                recipients_of.update().where(refused).values(state=RecipientState.WAITING, changed_at=_now())
            )
        return len(found)

    def letters(self) -> tuple[Letter, ...]:
        """Return the letters that wait, oldest first, each with the recipients who wait for it."""
        return self._in_state(RecipientState.WAITING)

    def refused(self) -> tuple[Letter, ...]:
        """Return the letters that were refused for good, oldest first, each with whom it was refused for."""
        return self._in_state(RecipientState.REFUSED)

    def waiting(self) -> int:
        """Return how many letters wait for delivery, without reading them."""
        wait = recipients_of.c.state == RecipientState.WAITING
        with self._database.reading() as connection:
            return (
                connection.scalar(sa.select(sa.func.count(recipients_of.c.letter_id.distinct())).where(wait))
                or 0
            )

    def status(self) -> OutboxStatus:
        """Say how many letters wait and were refused, and why."""
        with self._database.reading():
            waiting, failed = self.letters(), self.refused()
        errors = [letter.last_error for letter in (*failed, *waiting) if letter.last_error]
        return OutboxStatus(
            waiting=len(waiting),
            failed=len(failed),
            oldest=waiting[0].queued_at if waiting else None,
            last_error=errors[-1] if errors else None,
        )

    def _in_state(self, state: RecipientState) -> tuple[Letter, ...]:
        wanted = (
            sa.select(letters, recipients_of.c.address, recipients_of.c.last_error)
            .join(recipients_of)
            .where(recipients_of.c.state == state)
            .order_by(letters.c.queued_at, letters.c.id, recipients_of.c.position)
        )
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
        return tuple(_letter(list(same)) for _, same in groupby(rows, key=lambda row: row.id))

    def _begin(self, letter: Letter) -> None:
        """Note that a delivery begins; one that never comes back leaves no error of an earlier one."""
        with self._database.transaction() as connection:
            connection.execute(
                letters.update().where(letters.c.id == letter.id).values(attempts=letters.c.attempts + 1)
            )
            connection.execute(recipients_of.update().where(_waiting_for(letter)).values(last_error=""))

    def _settle(self, letter: Letter, refusals: Refusals) -> None:
        """Note for each recipient who waited how the delivery ended."""
        rows = [
            {
                "who": address,
                "new_state": (
                    RecipientState.WAITING
                    if address in refusals.for_now
                    else RecipientState.REFUSED
                    if address in refusals.for_good
                    else RecipientState.SENT
                ),
                "new_error": refusals.for_now.get(address) or refusals.for_good.get(address) or "",
            }
            for address in letter.recipients
        ]
        update = (
            recipients_of.update()
            .where(_waiting_for(letter), recipients_of.c.address == sa.bindparam("who"))
            .values(state=sa.bindparam("new_state"), last_error=sa.bindparam("new_error"), changed_at=_now())
        )
        with self._database.transaction() as connection:
            connection.execute(update, rows)

    def _forget(self) -> None:
        """Drop the oldest letters that everybody got; alerts never ask for ids that old again."""
        open_ones = sa.select(recipients_of.c.letter_id).where(recipients_of.c.state != RecipientState.SENT)
        settled = (
            sa.select(recipients_of.c.letter_id)
            .where(recipients_of.c.letter_id.not_in(open_ones))
            .group_by(recipients_of.c.letter_id)
            .order_by(sa.func.max(recipients_of.c.changed_at).desc())
        )
        with self._database.transaction() as connection:
            old = connection.scalars(settled).all()[_KEPT_SENT:]
            if old:
                connection.execute(letters.delete().where(letters.c.id.in_(old)))


def _waiting_for(letter: Letter) -> sa.ColumnElement[bool]:
    return sa.and_(recipients_of.c.letter_id == letter.id, recipients_of.c.state == RecipientState.WAITING)


def _letter(rows: list[sa.Row[Any]]) -> Letter:
    """Return one letter from its rows, one for each recipient."""
    first = rows[0]
    return Letter(
        id=first.id,
        sender=first.sender,
        recipients=tuple(row.address for row in rows),
        message=first.message,
        queued_at=first.queued_at.isoformat(),
        attempts=first.attempts,
        last_error="; ".join(dict.fromkeys(row.last_error for row in rows if row.last_error)),
    )


def _named(refusals: Mapping[str, str]) -> dict[str, str]:
    return {address: f"{address}: {words}" for address, words in refusals.items()}


def _advised(error: ServiceError) -> str:
    return f"{error}. {error.advice}"


def _now() -> datetime:
    return datetime.now(UTC)
