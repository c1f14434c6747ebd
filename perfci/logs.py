"""perfci's own log: one file for each run, in its archive, and one for the controller.

Modules log with `logging.getLogger(__name__)`. Nothing is written until a file is opened here; what is
written is free of secrets (`redaction`). A log that can't be written stops nothing.
"""

from __future__ import annotations

import logging
import logging.handlers
import time
import traceback
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from perfci.files import LockedElsewhere, locked, move
from perfci.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = "perfci.log"
KEPT_BYTES = 5_000_000
"""From this size on, the controller's log is set aside and a new one is begun."""
KEPT_FILES = 5
_SHOWN_LINES = 30
_ROOT = logging.getLogger("perfci")
_ROOT.addHandler(logging.NullHandler())


class _Redacting(logging.Formatter):
    """Writes UTC, and tracebacks without secrets too."""

    def __init__(self) -> None:
        super().__init__("%(asctime)sZ %(process)d %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")

    @staticmethod
    def converter(seconds: float | None = None) -> time.struct_time:
        return time.gmtime(seconds)

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


class _File(logging.handlers.WatchedFileHandler):
    """Opens the file when there is something to write; follows it where another process sets it aside."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)
        self.setFormatter(_Redacting())
        self.setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # a full disk must not end the run that says so
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say nothing: it would go to the terminal, in the middle of a table."""


@contextmanager
def logging_to(file: Path) -> Iterator[None]:
    """Write what perfci logs to a file too, until the context ends. The file's folder may be missing."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
    handler = _File(file)
    before = _ROOT.level
    _ROOT.addHandler(handler)
    _ROOT.setLevel(logging.INFO)
    try:
        yield
    finally:
        _ROOT.removeHandler(handler)
        _ROOT.setLevel(before)
        with suppress(OSError):
            handler.close()


@contextmanager
def controller_log(folder: Path) -> Iterator[None]:
    """Write what perfci logs to the controller's log in a folder; a large one is set aside first."""
    file = folder / FILE
    with suppress(OSError, LockedElsewhere), locked(folder / f".{FILE}.lock", wait=False):
        if file.exists() and file.stat().st_size > KEPT_BYTES:
            _set_aside(file)
    with logging_to(file):
        yield


def traceback_of(error: BaseException) -> str:
    """Return a traceback as a mail shows it: its head, its last calls and the error, without secrets."""
    lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
    if len(lines) > _SHOWN_LINES:
        lines = [lines[0], "  ...", *lines[2 - _SHOWN_LINES :]]
    return redacted("\n".join(lines))


def _set_aside(file: Path) -> None:
    for number in range(KEPT_FILES - 1, 0, -1):
        older = file.with_name(f"{file.name}.{number}")
        if older.exists():
            move(older, file.with_name(f"{file.name}.{number + 1}"))
    move(file, file.with_name(f"{file.name}.1"))
