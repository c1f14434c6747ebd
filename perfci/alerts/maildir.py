"""Delivery into a maildir: for a lab without a mail server, and to look at with any mail program."""

from __future__ import annotations

import email
import email.policy
import mailbox
from contextlib import closing
from typing import TYPE_CHECKING

from perfci.alerts.errors import MailServerUnavailable
from perfci.alerts.outbox import Letter, Refusals

if TYPE_CHECKING:
    from pathlib import Path


_PARTS = ("tmp", "new", "cur")


class MaildirTransport:
    """Writes letters into one maildir, whoever they are for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def send(self, letter: Letter) -> Refusals:
        """Add the letter, unless an earlier attempt that was cut short added it.

        Raises MailServerUnavailable where the folder can't be written.
        """
        message = email.message_from_string(letter.message, policy=email.policy.default)
        try:
            # `mailbox` makes none of them where the folder itself is there: a kill can be in between.
            for name in _PARTS:
                (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            with closing(mailbox.Maildir(self.folder, create=False)) as box:
                if not (letter.attempts and _holds(box, message["Message-ID"])):
                    box.add(letter.message.encode("ascii"))
        except OSError as error:
            raise MailServerUnavailable(server=self.folder, reason=error.strerror or error) from error
        return Refusals()


def _holds(box: mailbox.Maildir, message_id: str) -> bool:
    return any(message["Message-ID"] == message_id for message in box)
