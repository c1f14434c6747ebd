"""Why the database can't be used."""

from __future__ import annotations

from perfci.errors import LabError, ServiceError, UsageError


class DatabaseUnavailable(ServiceError):
    """The controller's database does not answer, is damaged, or is not a database."""

    template = "the database {url} can't be used: {reason}"
    help = (
        "Check database.url in the settings, the database server, and whether perfci may write to the folder."
    )


class DatabaseTooNew(UsageError):
    """A newer perfci has changed the tables of this database."""

    template = "the database {url} has schema revision {found}; this perfci knows up to {known}"
    help = "Use the newer perfci that wrote it, or name another database in database.url."


class DatabaseNotEmpty(UsageError):
    """`perfci database copy` needs an empty database."""

    template = "the database {url} already has rows, in the table {table}: nothing was copied"
    help = "Name an empty database."


class BackupFailed(LabError):
    """The database can't be copied into a file."""

    template = "can't write a backup to {file}: {reason}"
    help = "Name a file that does not exist yet, on a disk with enough room."
