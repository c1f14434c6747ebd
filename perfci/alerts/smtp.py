"""Delivery to a mail server."""

from __future__ import annotations

import re
import smtplib
import ssl
from typing import TYPE_CHECKING

from perfci.alerts.errors import (
    MailRefused,
    MailRefusedForNow,
    MailServerUnavailable,
    MailSettingsRefused,
)
from perfci.alerts.outbox import Letter, Refusals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perfci.alerts.settings import SmtpSettings

_PERMANENT = 500
_SETTING_CODES = frozenset({530, 534, 535, 538})
"""TLS first, login first, another kind of login (RFC 3207, RFC 4954)."""
_SETTING = re.compile(
    r"authenticat|STARTTLS|\bTLS\b|\bSSL\b|encrypt|\blog ?in\b|relay|not owned by|send as|permitted to send",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(r"\A5\.(?:2\.3|3\.4)|\bsize\b|too (?:large|big)", re.IGNORECASE)
_FAREWELL_SECONDS = 2.0


class SmtpTransport:
    """Sends each letter in a session of its own: a night has a handful of them."""

    def __init__(self, settings: SmtpSettings, *, tls: ssl.SSLContext | None = None) -> None:
        """Take the settings; `tls` is the context for encrypted connections, by default the system's."""
        self.settings = settings
        self._tls = tls

    @property
    def server(self) -> str:
        """Name the server for messages."""
        return f"{self.settings.host}:{self.settings.port}"

    def send(self, letter: Letter) -> Refusals:
        """Send the letter; see Transport.

        A server that is not there, speaks no TLS or does not know our password is unavailable: that is
        no fault of the letter, which waits. So it does where the server wants TLS, a login or another sender.
        """
        try:
            session = self._session()
        except (smtplib.SMTPException, OSError) as error:
            raise MailServerUnavailable(server=self.server, reason=_reason(error)) from error
        try:
            refused = session.sendmail(letter.sender, letter.recipients, letter.message)
        except smtplib.SMTPRecipientsRefused as error:
            raise self._refusal(dict(error.recipients)) from error
        except smtplib.SMTPHeloError as error:
            raise MailServerUnavailable(server=self.server, reason=_reason(error)) from error
        except smtplib.SMTPSenderRefused as error:
            words = _text(error.smtp_error)
            raise self._refusal({letter.sender: (error.smtp_code, words.encode())}, sender=True) from error
        except smtplib.SMTPResponseException as error:  # content
            words = _text(error.smtp_error)
            raise self._refusal({letter.sender: (error.smtp_code, words.encode())}) from error
        except UnicodeEncodeError as error:
            reason = f"an address is not in ASCII: {error.object!r}"
            raise MailRefused(server=self.server, reason=reason) from error
        except (smtplib.SMTPException, OSError) as error:
            raise MailServerUnavailable(server=self.server, reason=_reason(error)) from error
        finally:
            self._leave(session)
        return _sorted(refused)

    def _session(self) -> smtplib.SMTP:
        settings = self.settings
        context = self._tls or ssl.create_default_context()
        if settings.security == "tls":
            session: smtplib.SMTP = smtplib.SMTP_SSL(
                settings.host, settings.port, timeout=settings.timeout_seconds, context=context
            )
        else:
            session = smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout_seconds)
        try:
            if settings.security == "starttls":
                session.starttls(context=context)
            if settings.username is not None:
                session.login(settings.username, settings.password or "")
        except BaseException:
            session.close()
            raise
        return session

    @staticmethod
    def _leave(session: smtplib.SMTP) -> None:
        """Say good-bye without letting a slow server delay the mark that the letter was sent."""
        if session.sock is not None:
            session.sock.settimeout(_FAREWELL_SECONDS)
        try:
            session.quit()
        except (smtplib.SMTPException, OSError):
            session.close()

    def _refusal(
        self, refused: Mapping[str, tuple[int, bytes]], *, sender: bool = False
    ) -> MailRefused | MailRefusedForNow:
        reason = "; ".join(f"{address}: {code} {_text(words)}" for address, (code, words) in refused.items())
        if any(is_setting(code, _text(words), sender=sender) for code, words in refused.values()):
            return MailSettingsRefused(server=self.server, reason=reason)
        if all(code >= _PERMANENT for code, _ in refused.values()):
            return MailRefused(server=self.server, reason=reason)
        return MailRefusedForNow(server=self.server, reason=reason)


def is_setting(code: int, words: str, *, sender: bool = False) -> bool:
    """Tell whether a refusal for good is about how perfci is set up, and not about the letter.

    A refused `sender` is one: it is the same for all letters. Only a letter that is too large can be refused
    there for itself.
    """
    if code < _PERMANENT:
        return False
    if code in _SETTING_CODES or _SETTING.search(words):
        return True
    return sender and not _TOO_LARGE.search(words)


def _sorted(refused: Mapping[str, tuple[int, bytes]]) -> Refusals:
    said = {address: f"{code} {_text(words)}" for address, (code, words) in refused.items()}
    for_good = {
        address
        for address, (code, words) in refused.items()
        if code >= _PERMANENT and not is_setting(code, _text(words))
    }
    return Refusals(
        for_now={address: words for address, words in said.items() if address not in for_good},
        for_good={address: words for address, words in said.items() if address in for_good},
    )


def _text(words: bytes | str) -> str:
    return words.decode("utf-8", "replace") if isinstance(words, bytes) else words


def _reason(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{error.smtp_code} {_text(error.smtp_error)}"
    return str(error) or type(error).__name__
