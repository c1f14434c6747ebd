"""Mail that waits for delivery: a folder with one file for each letter.

A letter is in exactly one of `queue/`, `sent/` and `failed/`, under the id of its notification; moving
it is one rename. Putting the same id in again does nothing, wherever the letter is.

A transport returns when the other side has taken the letter over, and the rename follows at once. Only
a process that is killed in between leaves a letter that was sent in the queue; it is sent again with the
same Message-ID, and SMTP offers nothing better. The maildir can look whether it has the letter: there it
is exactly once. Delivery holds a lock, so two processes never send the same letter side by side.
"""

from __future__ import annotations

import email.policy
import fcntl
import json
import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from perfci.alerts.errors import MailRefused, MailRefusedForNow, MailServerUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from email.message import EmailMessage
    from pathlib import Path

_KEPT_SENT = 1000
"""So many letters that were sent are kept, to know them again."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One mail in the queue. `message` is the whole mail in ASCII, as RFC 5322 wants it.

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
    """What one delivery did: ids of letters that were sent, that wait, and that were refused for good."""

    sent: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OutboxStatus:
    """How the outbox stands; `oldest` is when the oldest waiting letter came in, ISO 8601."""

    waiting: int
    failed: int
    oldest: str | None
    last_error: str | None


class Outbox:
    """The queue in one folder."""

    def __init__(self, folder: Path) -> None:
        self.queue = folder / "queue"
        self.sent = folder / "sent"
        self.failed = folder / "failed"
        self._lock = folder / "lock"

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
        letter = Letter(
            letter_id,
            sender,
            recipients,
            on_the_wire(message),
            now.isoformat(),
        )
        with self._locked():
            if any(self._file(folder, letter_id).exists() for folder in (self.queue, self.sent, self.failed)):
                return False
            self._write(self.queue, letter)
        return True

    def deliver(self, transport: Transport) -> Delivery:
        """Send what waits, oldest first; what can't be sent now stays.

        A server that does not answer ends the delivery, so that nobody waits for each letter's timeout.
        """
        sent: list[str] = []
        waiting: list[str] = []
        with self._locked():
            failed = list(self._set_aside())
            letters = self.letters()
            for number, letter in enumerate(letters):
                begun = replace(letter, attempts=letter.attempts + 1, last_error="")
                self._write(self.queue, begun)
                try:
                    refusals = transport.send(letter)
                except MailRefused as error:
                    self._move(replace(begun, last_error=str(error)), self.failed)
                    failed.append(letter.id)
                except MailRefusedForNow as error:
                    self._write(self.queue, replace(begun, last_error=str(error)))
                    waiting.append(letter.id)
                except MailServerUnavailable as error:
                    self._write(self.queue, replace(begun, last_error=str(error)))
                    waiting += [other.id for other in letters[number:]]
                    break
                else:
                    (waiting if self._settle(begun, refusals) else sent).append(letter.id)
            self._forget()
        return Delivery(tuple(sent), tuple(waiting), tuple(failed))

    def retry_failed(self) -> int:
        """Put the refused letters back into the queue; return how many."""
        with self._locked():
            letters = self._read_all(self.failed)
            for letter in letters:
                self._write(self.queue, replace(letter, id=letter.id.removesuffix(_REFUSED)))
                self._file(self.failed, letter.id).unlink()
        return len(letters)

    def letters(self) -> tuple[Letter, ...]:
        """Return the waiting letters, oldest first."""
        return self._read_all(self.queue)

    def status(self) -> OutboxStatus:
        """Say how many letters wait and were refused, and why."""
        waiting, failed = self.letters(), self._read_all(self.failed)
        damaged = tuple(self.failed.glob(f"*{_DAMAGED}"))
        errors = [f"{file}: not a letter" for file in damaged]
        errors += [letter.last_error for letter in (*failed, *waiting) if letter.last_error]
        return OutboxStatus(
            waiting=len(waiting),
            failed=len(failed) + len(damaged),
            oldest=waiting[0].queued_at if waiting else None,
            last_error=errors[-1] if errors else None,
        )

    def _settle(self, letter: Letter, refusals: Refusals) -> bool:
        """Put a letter that was taken over where it belongs; return True where some recipients wait."""
        if refusals.for_now:
            rest = replace(letter, recipients=tuple(refusals.for_now), last_error=_words(refusals.for_now))
            self._write(self.queue, rest)
        else:
            self._file(self.queue, letter.id).replace(self._made(self.sent, letter.id))
        if refusals.for_good:
            refused = replace(
                letter,
                id=f"{letter.id}{_REFUSED}",
                recipients=tuple(refusals.for_good),
                last_error=_words(refusals.for_good),
            )
            self._write(self.failed, refused)
        return bool(refusals.for_now)

    def _move(self, letter: Letter, folder: Path) -> None:
        self._write(self.queue, letter)
        self._file(self.queue, letter.id).replace(self._made(folder, letter.id))

    def _forget(self) -> None:
        """Drop the oldest letters that were sent; alerts never ask for ids that old again."""
        if not self.sent.is_dir():
            return
        files = sorted(self.sent.glob("*.json"), key=lambda file: file.stat().st_mtime)
        for file in files[:-_KEPT_SENT]:
            file.unlink()

    def _read_all(self, folder: Path) -> tuple[Letter, ...]:
        letters = [letter for letter in map(_read, folder.glob("[!.]*.json")) if letter is not None]
        return tuple(sorted(letters, key=lambda one: (one.queued_at, one.id)))

    def _set_aside(self) -> Iterator[str]:
        """Move files that are no letters out of the queue, so that they do not hold up the others."""
        for file in sorted(self.queue.glob("[!.]*.json")):
            if _read(file) is None:
                file.replace(self._made(self.failed, file.stem).with_suffix(_DAMAGED))
                yield file.stem

    def _write(self, folder: Path, letter: Letter) -> None:
        target = self._made(folder, letter.id)
        scratch = target.with_name(f".{target.name}.{os.getpid()}")
        with scratch.open("w", encoding="ascii") as file:
            json.dump(asdict(letter), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(target)

    def _made(self, folder: Path, letter_id: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        return self._file(folder, letter_id)

    @staticmethod
    def _file(folder: Path, letter_id: str) -> Path:
        return folder / f"{letter_id}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


_REFUSED = ".refused"
_DAMAGED = ".damaged"


def _words(refusals: Mapping[str, str]) -> str:
    return "; ".join(f"{address}: {words}" for address, words in sorted(refusals.items()))


def _read(file: Path) -> Letter | None:
    """Return the letter in a file; None where there is none, or where it was moved this moment."""
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        content["recipients"] = tuple(content["recipients"])
        return Letter(**content)
    except (OSError, ValueError, KeyError, TypeError):
        return None
