"""The stores of one state folder, and the settings by which its runs are judged."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from perfci.alerts.outbox import Outbox
from perfci.alerts.repository import AlertTable
from perfci.analysis.settings import AnalysisSettings
from perfci.database.engine import Database, open_database
from perfci.errors import LabError
from perfci.parsing import yaml_value
from perfci.results.deliveries import DeliveryLedger
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.state_folder import StateFolder

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.config import Settings
    from perfci.results.model import RunRecord
    from perfci.results.stores.influx import InfluxStore
    from perfci.results.stores.local import LocalStore
    from perfci.results.sync import Synced
    from perfci.runs.jobs.model import Job


_REASON = 300
"""How much of the reason an error shows, in characters."""


class ArchivedJobInvalid(LabError):
    """The archive has the job of a run, but this perfci can't read it."""

    template = "perfci can't read job.yml of run {run_id}: {reason}"
    help = (
        "Repair that file. Until then perfci judges the run with default settings, and mails to "
        "`mail.to` of the settings."
    )


def read_job(run: ArchivedRun) -> Job | None:
    """Return the job that a run ran; None if its archive has no job.yml. Raises ArchivedJobInvalid."""
    from perfci.runs.jobs.model import Job

    try:
        return Job.model_validate(yaml_value(run.job_file))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:_REASON]
        raise ArchivedJobInvalid(run_id=run.run_id, reason=reason) from error


@dataclass(frozen=True)
class LabServices:
    """What the controller keeps: its database, the index of its archive, and its InfluxDB."""

    settings: Settings

    @cached_property
    def state(self) -> StateFolder:
        """The state folder."""
        return StateFolder(self.settings.state_dir)

    @cached_property
    def database(self) -> Database:
        """What the controller knows. Raises DatabaseUnavailable, DatabaseTooNew, SecretUnreadable."""
        return open_database(self.settings)

    @cached_property
    def local(self) -> LocalStore:
        """The index of the archive that all analysis reads."""
        from perfci.results.stores.local import LocalStore

        return LocalStore(self.state.index)

    @cached_property
    def alerts(self) -> AlertTable:
        """The alerts."""
        return AlertTable(self.database)

    @cached_property
    def outbox(self) -> Outbox:
        """The mail that waits."""
        return Outbox(self.database)

    @cached_property
    def influx(self) -> InfluxStore:
        """The InfluxDB that dashboards read. Raises SecretUnreadable and InfluxSettingsInvalid."""
        from perfci.results.stores.influx import InfluxStore
        from perfci.results.stores.influx_http import InfluxSettings

        influx = self.settings.influx
        return InfluxStore(
            InfluxSettings(
                url=self.settings.influx_address,
                database=influx.database,
                bucket=influx.bucket or "",
                org=influx.org,
                token=influx.secret_token() or "",
                username=influx.username or "",
                password=influx.secret_password() or "",
                timeout_seconds=influx.timeout_seconds,
            )
        )

    @cached_property
    def _jobs(self) -> dict[str, Job]:
        return {}

    @cached_property
    def guessed(self) -> dict[str, ArchivedJobInvalid]:
        """By run, why default settings were taken for its job: commands say so at their end."""
        return {}

    @cached_property
    def _shared(self) -> WeakValueDictionary[str, ArchivedRun]:
        return WeakValueDictionary()

    def share(self, run: ArchivedRun) -> None:
        """Let `archived` return this very value for as long as the caller holds it."""
        self._shared[run.run_id] = run

    def archived(self, run_id: str) -> ArchivedRun:
        """Return a run or re-run of the archive. Nothing is read here.

        As long as somebody holds the value, it is the same for all, so that no file is read twice.
        """
        found = self._shared.get(run_id)
        if found is None:
            night, rerun = self.state.archive / run_id, self.state.reruns / run_id
            found = ArchivedRun(rerun if rerun.is_dir() and not night.is_dir() else night)
            self.share(found)
        return found

    def archived_job(self, run_id: str) -> Job | None:
        """Return the job that a run ran; None if its archive has no job.yml. Raises ArchivedJobInvalid.

        An archived job never changes: it is read once, as YAML takes its time.
        """
        if run_id in self._jobs:
            return self._jobs[run_id]
        job = read_job(self.archived(run_id))
        if job is not None:
            self._jobs[run_id] = job
        return job

    def job(self, run_id: str) -> Job | None:
        """Return the job that a run ran; None if its archive has none, or one that perfci can't read.

        Why it can't be read is in `guessed`; `publish.after_run` reports it with its night.
        """
        try:
            return self.archived_job(run_id)
        except ArchivedJobInvalid as error:
            self.guessed[run_id] = error
            return None

    def analysis_settings(self, record: RunRecord) -> AnalysisSettings:
        """Return how a run's job wants to be judged."""
        job = self.job(record.run_id)
        return AnalysisSettings() if job is None else self.job_settings(job)

    def job_settings(self, job: Job) -> AnalysisSettings:
        """Return how a job wants to be judged."""
        return AnalysisSettings(
            min_baseline=job.analysis.baseline_runs, latency_floor=job.analysis.minimum_effect
        )

    def sync(self, on_step: Callable[[str], None] = lambda _: None) -> Synced:
        """Deliver to InfluxDB what it does not have yet; the embedded one is started for that.

        Raises EmbeddedInfluxDown, or what the store raises; what was delivered before stays delivered.
        """
        from perfci.results.sync import sync
        from perfci.runs.ansible.embedded_influx import in_use
        from perfci.runs.ansible.lab_playbooks import playbooks

        embedded = self.settings.influx.url is None
        with in_use(playbooks(self.settings), self.state, on_step) if embedded else nullcontext():
            return sync(
                self.state.archive,
                self.influx,
                DeliveryLedger(self.database),
                read=lambda folder: self.archived(folder.name).results,
            )

    def deliver_again(self, run_id: str) -> None:
        """Let the next `sync` deliver a run, or `all`, to InfluxDB once more; no effect on one that waits."""
        ledger = DeliveryLedger(self.database)
        ledger.forget(self.influx.identity, None if run_id == "all" else run_id)

    def pending(self) -> tuple[str, ...]:
        """Return the ids of archived runs that InfluxDB does not have yet."""
        from perfci.results.sync import pending

        return pending(self.state.archive, self.influx, DeliveryLedger(self.database))

    def refused(self) -> dict[str, str]:
        """Return the archived runs that InfluxDB refuses for what is in them, with its words."""
        return DeliveryLedger(self.database).refused(self.influx.identity)
