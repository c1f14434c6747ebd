"""From a notification to a mail: plain text, HTML, and a picture inside it."""

from __future__ import annotations

import re
from email.headerregistry import Address
from email.message import EmailMessage
from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from perfci.alerts import plain
from perfci.alerts.document import Picture
from perfci.alerts.mail_contents import tell
from perfci.alerts.mail_sections import recipients
from perfci.alerts.model import NotificationKind
from perfci.markup import breakable
from perfci.wording import NBSP

if TYPE_CHECKING:
    from datetime import datetime

    from perfci.alerts.document import MailDocument
    from perfci.alerts.mail_context import MailContext
    from perfci.alerts.model import Notification
    from perfci.alerts.settings import MailSettings

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def compose(
    notification: Notification, evidence: MailContext, settings: MailSettings, *, now: datetime
) -> EmailMessage:
    """Return the mail for a notification; `now` (aware) becomes its date.

    Its Message-ID follows from the notification's id alone. Mail on the end of an alert refers to the
    alert's first mail, so that mail programs show them together.
    """
    document = tell(notification, evidence, settings)
    message = EmailMessage()
    message["From"] = Address("perfci", addr_spec=settings.from_address)
    message["To"] = ", ".join(recipients(notification.audience, settings)) or "undisclosed-recipients:;"
    message["Subject"] = one_line(document.subject)
    message["Date"] = now
    message["Message-ID"] = _message_id(notification.id, settings)
    if notification.alert is not None and notification.kind is not NotificationKind.REGRESSION:
        first = _message_id(f"{NotificationKind.REGRESSION}-{notification.alert.id}", settings)
        message["In-Reply-To"] = first
        message["References"] = first
    if settings.list_id:
        message["List-Id"] = f"<{one_line(settings.list_id)}>"
    message["Auto-Submitted"] = "auto-generated"
    _fill(message, document, settings)
    return message


def one_line(text: str) -> str:
    """Return a text fit for a header: no line breaks or other controls, ordinary spaces."""
    return " ".join(_CONTROLS.sub(" ", text.replace(NBSP, " ")).split())


def _fill(message: EmailMessage, document: MailDocument, settings: MailSettings) -> None:
    pictures = [
        block for section in document.sections for block in section.blocks if isinstance(block, Picture)
    ]
    cids = {picture: f"picture{number}@{_domain(settings)}" for number, picture in enumerate(pictures, 1)}
    message.set_content(plain.render(document), cte="quoted-printable")
    html = _environment().get_template("mail.html.j2").render(document=document, cids=cids)
    message.add_alternative(html, subtype="html", cte="quoted-printable")
    part = message.get_payload()[1]  # type: ignore[index]
    for picture, cid in cids.items():
        part.add_related(  # type: ignore[union-attr]
            picture.png, "image", "png", cid=f"<{cid}>", disposition="inline", filename="trend.png"
        )


def _message_id(notification_id: str, settings: MailSettings) -> str:
    return f"<{notification_id.replace(' ', '-')}@{_domain(settings)}>"


def _domain(settings: MailSettings) -> str:
    return settings.from_address.rpartition("@")[2]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("perfci.alerts"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    return environment
