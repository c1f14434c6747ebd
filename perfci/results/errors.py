"""Errors of the files that a run leaves, and of the stores."""

from __future__ import annotations

from typing import ClassVar

from perfci.errors import FailureClass, PerfciError


class ResultFileError(PerfciError):
    """A file of a run is not of the form needed; names the file, the place in it and what was expected."""

    template = "{path}: {place}: {found}; expected {expected}"
    failure_class: ClassVar[FailureClass] = FailureClass.LAB


class ReportError(ResultFileError):
    """Rally's JSON report is truncated, empty, or not of a form that perfci knows."""

    help = (
        "Look at the task's log in logs/ beside it. If Rally's database still has the task, write the "
        "report again: rally task report --json --uuid TASK --out {path}"
    )


class CountersError(ResultFileError):
    """A node's counters, or the tasks' times, are not of the form needed."""

    help = "The timings of the run are not touched by this. Look at the log of the service `counters`."


class CanariesError(ResultFileError):
    """A node's canaries are not of the form needed."""

    help = "Run the canaries by hand on this node, and look at what they write."


class ArchiveError(ResultFileError):
    """An archive folder has no readable run.json, or not all that run.json promises."""

    help = "Compare the folder with its manifest.json. A run that can't be repaired can be moved away."


class IndexDamaged(PerfciError):
    """The local index of the archive can't be read."""

    template = "{path}: the index of the archive is damaged: {reason}"
    help = "Nothing is lost: make it anew from the archive with `perfci results rebuild`."
    failure_class: ClassVar[FailureClass] = FailureClass.LAB


class UnknownRun(PerfciError):
    """A store was asked about a run that it does not have."""

    template = "{store} does not have the run {run_id}"
    help = "`perfci run list` shows the runs; `perfci results sync` delivers archived ones."
    exit_code: ClassVar[int] = 2
