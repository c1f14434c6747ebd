"""Errors of the files that a run leaves, and of the stores."""

from __future__ import annotations

from typing import ClassVar

from perfci.errors import FailureClass, LabError, PerfciError, ServiceError, UsageError


class ResultFileError(PerfciError):
    """A file of a run has the wrong form; the message names the file, the place and what was expected."""

    template = "{path}: {place}: {found}; expected {expected}"
    failure_class: ClassVar[FailureClass] = FailureClass.LAB


class ReportError(ResultFileError):
    """Rally's JSON report is truncated, empty, or in a form that perfci does not know."""

    help = (
        "Look at the task's log in logs/ beside it. If Rally's database still has the task, write the "
        "report again: rally task report --json --uuid TASK --out {path}"
    )


class NotRallyResults(ReportError):
    """A file to ingest has no Rally results."""

    help = (
        "Write a report with `rally task report --json --uuid TASK --out FILE`, or with older versions "
        "of Rally: rally task results TASK > FILE"
    )


class CountersError(ResultFileError):
    """A node's counters, or the times of the tasks, have the wrong form."""

    help = "The timings of the run are not affected. See the log of the service `counters`."


class CanariesError(ResultFileError):
    """A node's canaries have the wrong form."""

    help = "Run the canaries by hand on this node, and check what they write."


class PhasesError(ResultFileError):
    """The phases file of an upgrade or a migration has the wrong form."""

    help = "The logs of the run, in logs/ beside it, say how the phases went."


class ArchiveError(ResultFileError):
    """An archive folder has no readable run.json, or not all that run.json promises."""

    help = (
        "Compare the folder with its manifest.json. If you can't repair the run, move it out of the archive."
    )


class IndexDamaged(PerfciError):
    """The local index of the archive can't be read."""

    template = "{path}: the index of the archive is damaged: {reason}"
    help = "Nothing is lost: make it again from the archive with `perfci results rebuild`."
    failure_class: ClassVar[FailureClass] = FailureClass.LAB


class UnknownRun(PerfciError):
    """A store does not have a run."""

    template = "{store} does not have the run {run_id}"
    help = "`perfci run list` shows the runs; `perfci results sync` delivers archived ones."
    exit_code: ClassVar[int] = 2


class IndexUnavailable(LabError):
    """The local index can't be opened or written."""

    template = "{path}: the index of the archive can't be used now: {reason}"
    help = (
        "Check for a full disk, missing permissions, or another perfci that holds the index. The archive "
        "is intact."
    )


class InfluxSettingsInvalid(UsageError):
    """The InfluxDB settings can't be used."""

    template = "InfluxDB: {reason}"
    help = "Correct influx.url; secrets go into influx.token_file or influx.password_file."


class InfluxUnreachable(ServiceError):
    """InfluxDB does not answer in time."""

    template = "InfluxDB at {url} does not answer: {reason}"
    help = "Nothing is lost: the runs are in the archive. When InfluxDB is back, run `perfci results sync`."


class InfluxUnauthorised(ServiceError):
    """InfluxDB refuses the credentials, or they lack the permission."""

    template = "InfluxDB at {url} does not allow this ({status}): {reason}"
    help = "Check influx.token_file, or influx.username and influx.password_file, and their rights."


class InfluxDatabaseMissing(ServiceError):
    """The database or bucket is not there."""

    template = "InfluxDB at {url} has no database {database}: {reason}"
    help = (
        "On 1.x `perfci results sync` creates it. On 2.x create the bucket and a DBRP mapping: "
        "influx v1 dbrp create --db {database} --rp autogen --bucket-id ID --default"
    )


class InfluxRefused(ServiceError):
    """InfluxDB refuses the request, or perfci can't read the answer."""

    template = "InfluxDB at {url} refused ({status}): {reason}"
    help = "Check that influx.url names an InfluxDB, and see its log. The runs stay in the archive."


class RunRefused(ServiceError):
    """A store refuses one run for what is in it: sending it again changes nothing, and other runs may go."""


class InfluxRunRefused(RunRefused):
    """InfluxDB refuses the points of one run."""

    template = "InfluxDB at {url} refused {run_id} ({status}): {reason}"
    help = (
        "The run stays in the archive, and perfci does not send it again by itself. Correct what "
        "InfluxDB reports, then run: perfci results sync --again {run_id}"
    )


class InfluxRunTooOld(InfluxRunRefused):
    """A run is older than the retention policy of the database."""

    template = "InfluxDB at {url} keeps no points as old as those of {run_id} ({status}): {reason}"
    help = (
        "Only dashboards lack the run: it is in the archive, and verdicts use it. To see it in "
        "dashboards, lengthen the database's retention policy (1.x: ALTER RETENTION POLICY, 2.x: influx "
        "bucket update --retention), then run: perfci results sync --again {run_id}"
    )


class InfluxFailing(ServiceError):
    """InfluxDB answers, but fails inside: a full disk, too little memory, a restart."""

    template = "InfluxDB at {url} failed ({status}): {reason}"
    help = "Nothing is lost. See InfluxDB's log and its disk; when it works again, run `perfci results sync`."


class InfluxRunIncomplete(ServiceError):
    """A run in InfluxDB has a different number of iterations than perfci wrote."""

    template = "InfluxDB at {url}: {run_id} has {found} of {written} iterations of {series}"
    help = (
        "Points were deleted or expired. To deliver the run again, run `perfci results sync --again "
        "{run_id}`."
    )


class DeliveriesUnavailable(LabError):
    """Another process is delivering."""

    template = "another process is delivering to the store"
    help = "Wait for the other perfci, then run `perfci results sync`."
