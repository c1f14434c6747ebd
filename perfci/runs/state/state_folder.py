"""The state folder: everything a lab keeps on its controller, under one root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

RERUNS = "reruns"


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Names every place under the state folder once. Nothing is created by asking for a name."""

    root: Path

    @property
    def runs(self) -> Path:
        """Working folders of runs that have not ended; one left behind is a run that was killed."""
        return self.root / "runs"

    @property
    def reference(self) -> Path:
        """The state folder of the cloud beside the code under test, in runs that have one."""
        return self.root / "reference"

    @property
    def clouds(self) -> tuple[Path, ...]:
        """The state folders whose processes a run may have started."""
        return self.root, self.reference

    @property
    def recovering(self) -> Path:
        """Locked by the run that cleans up after killed ones."""
        return self.root / "recover.lock"

    @property
    def switched_on(self) -> Path:
        """Which machines the runs of a trial left switched on for each other."""
        return self.root / "switched-on.json"

    @property
    def influx_users(self) -> Path:
        """Locked, together, by those who use the embedded InfluxDB."""
        return self.root / "influxdb.users"

    @property
    def influx_starting(self) -> Path:
        """Locked by who starts or stops the embedded InfluxDB."""
        return self.root / "influxdb.lock"

    @property
    def influx_on_demand(self) -> Path:
        """There while the embedded InfluxDB runs for its users alone: the last one stops it."""
        return self.root / "influxdb.on-demand"

    @property
    def archive(self) -> Path:
        """Finished runs, one folder each, never changed again."""
        return self.root / "archive"

    @property
    def reruns(self) -> Path:
        """Archived re-runs, which confirm a verdict: inside the archive, but none of its nights."""
        return self.archive / RERUNS

    def archive_for(self, confirms: str | None) -> Path:
        """Return where a run is archived, by the run whose verdict it confirms, if any."""
        return self.archive if confirms is None else self.reruns

    @property
    def index(self) -> Path:
        """The local store: an index of the archive."""
        return self.root / "results.db"

    @property
    def mail(self) -> Path:
        """The maildir, where no SMTP server is configured."""
        return self.root / "mail"

    @property
    def site(self) -> Path:
        """The static trend pages."""
        return self.root / "site"

    @property
    def page_numbers(self) -> Path:
        """What trend pages know of each run, so that they need not read its iterations again."""
        return self.root / "cache" / "pages"

    @property
    def pages_lock(self) -> Path:
        """Locked by who writes the trend pages."""
        return self.root / "pages.lock"

    @property
    def logs(self) -> Path:
        """Logs of the services that run now."""
        return self.root / "logs"
