"""What the mail needs to know."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from perfci.alerts.errors import MailAddressInvalid
from perfci.validation import MAIL_ADDRESS


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """The mail server. `timeout_seconds` is for one answer of the server."""

    host: str = "localhost"
    port: int = 25
    security: Literal["none", "starttls", "tls"] = "none"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout_seconds: float = 30


@dataclass(frozen=True, slots=True)
class MailSettings:
    """Who writes to whom.

    `to` gets what concerns the code and the job, `admins` what concerns the lab; where there are no
    admins, `to` gets that too. `base_url` is where the site is served; None: mails name commands, not links.
    Raises MailAddressInvalid for an address that not every mail server can carry.
    """

    from_address: str
    to: tuple[str, ...]
    admins: tuple[str, ...] = ()
    base_url: str | None = None
    list_id: str | None = None

    def __post_init__(self) -> None:
        for address in (self.from_address, *self.to, *self.admins):
            if not re.fullmatch(MAIL_ADDRESS, address):
                raise MailAddressInvalid(address=address)
