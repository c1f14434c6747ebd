"""Errors of the alerts and their mail."""

from __future__ import annotations

from perfci.errors import LabError, ServiceError, UsageError


class UnknownAlert(UsageError):
    """No alert, or more than one, has the id that was given."""

    template = "there is no single alert {alert!r}"
    help = "Open alerts: {known}. `perfci alerts list` shows all of them."


class AlertClosed(UsageError):
    """An alert that is closed can't be acknowledged or accepted."""

    template = "alert {alert} is closed already ({closing}, run {run})"
    help = "Nothing needs to be done. A new change opens a new alert."


class AlertsUnreadable(LabError):
    """An alert in the database is damaged."""

    template = "alert {alert} in the database can't be read: {reason}"
    help = 'Bring the database back from its backup: see "The database" in docs/operator.md.'


class MailAddressInvalid(UsageError):
    """A mail address that not every mail server can carry."""

    template = "{address!r} is not a mail address that can be used"
    help = (
        "Correct it in the job's `mail.to`, or under [mail] in perfci.toml. Only ASCII is possible: write a "
        "domain with other letters in its xn-- form."
    )


class MailServerUnavailable(ServiceError):
    """The mail server does not answer, or does not let us in."""

    template = "mail server {server}: {reason}"
    help = "Mail stays in the outbox. Check [mail.smtp] in perfci.toml, then run `perfci alerts deliver`."


class MailRefusedForNow(ServiceError):
    """The mail server did not take a mail now (4xx); it is tried again."""

    template = "mail server {server} did not take the mail for now: {reason}"
    help = "Mail stays in the outbox and is sent by the next `perfci alerts deliver` or the next night."


class MailSettingsRefused(MailRefusedForNow):
    """The mail server wants TLS, a login or another sender: nothing is wrong with the mail itself."""

    template = "mail server {server} does not take mail from perfci as it is set up: {reason}"
    help = (
        "Mail stays in the outbox. Correct security, username and password_file under [mail.smtp], or "
        "mail.from_address, in perfci.toml, then run `perfci alerts deliver`."
    )


class MailRefused(ServiceError):
    """The mail server refused a mail for good (5xx)."""

    template = "mail server {server} refused the mail: {reason}"
    help = "The mail is kept. Correct the addresses, then `perfci alerts deliver --retry-failed`."
