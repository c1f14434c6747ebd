"""Errors of the alerts and their mail."""

from __future__ import annotations

from perfci.errors import LabError, ServiceError, UsageError


class UnknownAlert(UsageError):
    """No alert, or more than one, has the given id."""

    template = "no alert, or more than one, has the id {alert!r}"
    help = "Open alerts: {known}. `perfci alerts list` lists them."


class AlertClosed(UsageError):
    """A closed alert can't be acknowledged or accepted."""

    template = "alert {alert} is closed already ({closing}, run {run})"
    help = "Nothing needs to be done. A new change opens a new alert."


class AlertsUnreadable(LabError):
    """An alert in the database is damaged."""

    template = "alert {alert} in the database can't be read: {reason}"
    help = 'Bring the database back from its backup: see "The database" in docs/operator.md.'


class MailAddressInvalid(UsageError):
    """A mail address that some mail servers don't accept."""

    template = "perfci can't use the mail address {address!r}"
    help = (
        "Correct it in the job's `mail.to`, or under [mail] in perfci.toml. Use only ASCII: write a "
        "domain with other letters in its xn-- form."
    )


class MailServerUnavailable(ServiceError):
    """The mail server does not answer, or refuses the connection or the login."""

    template = "mail server {server}: {reason}"
    help = "Mail stays in the outbox. Check [mail.smtp] in perfci.toml, then run `perfci alerts deliver`."


class MailRefusedForNow(ServiceError):
    """The mail server refused a mail for now (4xx); perfci tries again."""

    template = "mail server {server} refused the mail for now: {reason}"
    help = "The mail stays in the outbox. The next `perfci alerts deliver` or the next night sends it."


class MailSettingsRefused(MailRefusedForNow):
    """The mail server wants TLS, a login or another sender; the mail itself is fine."""

    template = "mail server {server} refuses mail with these settings: {reason}"
    help = (
        "Mail stays in the outbox. Correct security, username and password_file under [mail.smtp], or "
        "mail.from_address, in perfci.toml, then run `perfci alerts deliver`."
    )


class MailRefused(ServiceError):
    """The mail server refused a mail for good (5xx)."""

    template = "mail server {server} refused the mail: {reason}"
    help = "perfci keeps the mail. Correct the addresses, then run `perfci alerts deliver --retry-failed`."
