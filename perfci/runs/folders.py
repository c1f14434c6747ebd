"""The state folder: everything a lab keeps on its controller, under one root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Names every place under the state folder once. Nothing is created by asking for a name."""

    root: Path

    @property
    def runs(self) -> Path:
        """Working folders of runs that have not ended; one left behind is a run that was killed."""
        return self.root / "runs"

    @property
    def archive(self) -> Path:
        """Finished runs, one folder each, never changed again."""
        return self.root / "archive"

    @property
    def judgements(self) -> Path:
        """What the analysis said of each run; made anew from the archive at any time."""
        return self.root / "analysis"

    @property
    def index(self) -> Path:
        """The local store: an index of the archive."""
        return self.root / "results.db"

    @property
    def delivered(self) -> Path:
        """Which archived runs a remote store has."""
        return self.root / "delivered.json"

    @property
    def alerts(self) -> Path:
        """Open and closed alerts."""
        return self.root / "alerts.json"

    @property
    def outbox(self) -> Path:
        """Mail that waits for delivery."""
        return self.root / "outbox"

    @property
    def mail(self) -> Path:
        """The maildir, where no SMTP server is configured."""
        return self.root / "mail"

    @property
    def site(self) -> Path:
        """The static trend pages."""
        return self.root / "site"

    @property
    def logs(self) -> Path:
        """Logs of the services that run now."""
        return self.root / "logs"
