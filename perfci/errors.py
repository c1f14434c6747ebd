"""The tree of errors: what failed, whose fault it is, what to do next, which exit code it gives."""

from __future__ import annotations

import errno
from enum import StrEnum
from typing import Any, ClassVar


class FailureClass(StrEnum):
    """Whose fault a failure is; it decides who gets the mail."""

    PRODUCT = "product"
    """The code under test."""
    TEST = "test"
    """The scenario, the job file or its arguments."""
    LAB = "lab"
    """Machine, BMC, network, disk, services around the cloud, or perfci itself."""
    UNKNOWN = "unknown"
    """Nothing above could be shown."""


class PerfciError(Exception):
    """An error that a person can meet.

    Subclasses set `template` (filled in with the keyword arguments given), `help` (what to do next,
    filled in likewise), `failure_class` and `exit_code`. Every subclass has an entry in
    docs/errors.md under its class name.

    Exit codes: 1 the night failed or found something to act on, 2 wrong input from the person,
    3 the lab can't do it now, 4 an outside service did not answer. (5 is no error: all that is slower
    is a known exception of the job.)
    """

    template: ClassVar[str] = "{message}"
    help: ClassVar[str] = ""
    failure_class: ClassVar[FailureClass] = FailureClass.UNKNOWN
    exit_code: ClassVar[int] = 1

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        super().__init__(self.template.format(**fields))

    @property
    def advice(self) -> str:
        """What the reader can do about it; empty where nothing sensible can be said."""
        return self.help.format(**self.fields)

    def as_dict(self) -> dict[str, Any]:
        """Return the error for `--json` and for run.json."""
        return {
            "error": type(self).__name__,
            "class": str(self.failure_class),
            "message": str(self),
            "help": self.advice,
        }


class UsageError(PerfciError):
    """What the person typed or wrote is not of the form needed."""

    failure_class = FailureClass.TEST
    exit_code = 2


class LabError(PerfciError):
    """The lab can't do it now."""

    failure_class = FailureClass.LAB
    exit_code = 3


class ServiceError(PerfciError):
    """A service beside the lab (InfluxDB, SMTP, Grafana) did not answer or refused."""

    failure_class = FailureClass.LAB
    exit_code = 4


class FileRefused(LabError):
    """The controller's system refuses a file: the disk is full, or perfci may not write there."""

    template = "{path}: {reason}"
    help = "Check for a full disk, missing permissions or a read-only disk, then run the command again."
    numbers: ClassVar[frozenset[int]] = frozenset(
        {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE}
    )
    """The `errno` of what is the system's: all others are faults of perfci, and show a traceback."""

    @classmethod
    def of(cls, error: OSError) -> FileRefused | None:
        """Return the error that stands for one of the system; None where it isn't the system's fault."""
        if error.errno not in cls.numbers:
            return None
        return cls(path=error.filename or "a file", reason=error.strerror or str(error))


class InternalError(PerfciError):
    """Something unexpected: a fault of perfci, or of the machine that it runs on."""

    template = "unexpected {kind}: {reason}"
    help = (
        "This is a fault of perfci or of the controller (such as a full disk), not of the code under "
        "test. The traceback is in {log}; please report it."
    )
    failure_class = FailureClass.LAB
    exit_code = 3

    @classmethod
    def of(cls, error: BaseException, *, log: object) -> InternalError:
        """Return the error that stands for an unexpected one; `log` is the file with its traceback."""
        reason = str(error).strip() or "no reason given"
        return cls(kind=type(error).__name__, reason=reason, log=log)
