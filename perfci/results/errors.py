"""Errors of the files that a run leaves, and of the stores."""

from __future__ import annotations

from typing import ClassVar

from perfci.errors import FailureClass, LabError, PerfciError, ServiceError, UsageError


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


class NotRallyResults(ReportError):
    """A file that somebody hands over is none of Rally's results."""

    help = (
        "Write them with `rally task report --json --uuid TASK --out FILE`, or with older versions of Rally: "
        "rally task results TASK > FILE"
    )


class CountersError(ResultFileError):
    """A node's counters, or the tasks' times, are not of the form needed."""

    help = "The timings of the run are not touched by this. Look at the log of the service `counters`."


class CanariesError(ResultFileError):
    """A node's canaries are not of the form needed."""

    help = "Run the canaries by hand on this node, and look at what they write."


class PhasesError(ResultFileError):
    """What a run that upgrades or migrates says of its phases is not of the form needed."""

    help = "The logs of the run, in logs/ beside it, say how the phases went."


class ArchiveError(ResultFileError):
    """An archive folder has no readable run.json, or not all that run.json promises."""

    help = "Compare the folder with its manifest.json. A run that can't be repaired can be moved away."


class IndexDamaged(PerfciError):
    """The local index of the archive can't be read."""

    template = "{path}: the index of the archive is damaged: {reason}"
    help = "Nothing is lost: make it again from the archive with `perfci results rebuild`."
    failure_class: ClassVar[FailureClass] = FailureClass.LAB


class UnknownRun(PerfciError):
    """A store was asked about a run that it does not have."""

    template = "{store} does not have the run {run_id}"
    help = "`perfci run list` shows the runs; `perfci results sync` delivers archived ones."
    exit_code: ClassVar[int] = 2


class IndexUnavailable(LabError):
    """The local index can't be opened or written."""

    template = "{path}: the index of the archive can't be used now: {reason}"
    help = (
        "Look for a full disk, missing rights, or another perfci that holds it. The archive is not touched."
    )


class InfluxSettingsInvalid(UsageError):
    """What perfci was told about InfluxDB can't be used."""

    template = "InfluxDB: {reason}"
    help = "Correct influx.url; secrets go into influx.token_file or influx.password_file."


class InfluxUnreachable(ServiceError):
    """InfluxDB does not answer, or not in time."""

    template = "InfluxDB at {url} does not answer: {reason}"
    help = "Nothing is lost: the runs are in the archive. When it is back: `perfci results sync`."


class InfluxUnauthorised(ServiceError):
    """InfluxDB wants other credentials, or rights that these do not have."""

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
    """InfluxDB does not take what was sent, or answers what can't be read."""

    template = "InfluxDB at {url} refused ({status}): {reason}"
    help = "Check that influx.url names an InfluxDB, and see its log. The runs stay in the archive."


class RunRefused(ServiceError):
    """A store refuses one run for what is in it: sending it again changes nothing, and other runs may go."""


class InfluxRunRefused(RunRefused):
    """InfluxDB refuses the points of one run."""

    template = "InfluxDB at {url} refused {run_id} ({status}): {reason}"
    help = (
        "The run stays in the archive, and perfci does not send it again by itself. When what InfluxDB says "
        "is mended: perfci results sync --again {run_id}"
    )


class InfluxRunTooOld(InfluxRunRefused):
    """A run is older than the retention policy of the database."""

    template = "InfluxDB at {url} keeps no points as old as those of {run_id} ({status}): {reason}"
    help = (
        "Only dashboards miss the run: it is in the archive, and verdicts use it. To have it there, too, "
        "lengthen the database's retention policy (1.x: ALTER RETENTION POLICY, 2.x: influx bucket update "
        "--retention), then: perfci results sync --again {run_id}"
    )


class InfluxFailing(ServiceError):
    """InfluxDB answers, but fails inside: a full disk, too little memory, a restart."""

    template = "InfluxDB at {url} failed ({status}): {reason}"
    help = "See its log and its disk. Nothing is lost; when it is well again: `perfci results sync`."


class InfluxRunIncomplete(ServiceError):
    """A run in InfluxDB has another number of iterations than was written."""

    template = "InfluxDB at {url}: {run_id} has {found} of {written} iterations of {series}"
    help = "Points were deleted or expired. To deliver the run again: `perfci results sync --again {run_id}`."


class DeliveriesUnavailable(LabError):
    """Another process is delivering."""

    template = "another process is delivering to the store"
    help = "Wait for the other perfci, then `perfci results sync`."
