"""The stages of a run: each is timed, shown to whoever watches, and logged."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfci.errors import FailureClass
from perfci.runs.state.run_folder import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from perfci.runs.state.progress import Progress
    from perfci.runs.state.run_folder import WorkFolder

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Stage:
    """One stage as it went. `note` is what the terminal shows behind its time."""

    name: str
    started_at: datetime
    seconds: float = 0.0
    ok: bool = False
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the stage as it stands in run.json."""
        return {
            "name": self.name,
            "started_at": self.started_at.isoformat(),
            "seconds": round(self.seconds, 3),
            "ok": self.ok,
        }


@dataclass(frozen=True, slots=True)
class StageFailure:
    """Why a run failed: the stage, whose fault it is, and the excerpt that says why."""

    stage: str
    failure_class: FailureClass
    message: str
    help: str = ""
    source: str = ""
    excerpt: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the failure as it stands in run.json."""
        return {
            "stage": self.stage,
            "class": str(self.failure_class),
            "message": self.message,
            "help": self.help,
            "source": self.source,
            "excerpt": self.excerpt,
        }


@dataclass(slots=True)
class Stages:
    """Runs stages one after the other and remembers how they went."""

    progress: Progress
    folder: WorkFolder | None = None
    """Where the present stage is noted, so that a killed run can be told where it was."""
    done: list[Stage] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time one stage. An error passes through; the stage is recorded as failed."""
        stage = Stage(name, utc_now())
        since = time.monotonic()
        self.done.append(stage)
        _logger.info("stage %s begins", name)
        self._note(stage=name, stage_started_at=stage.started_at.isoformat())
        self.progress.begin(name)
        try:
            yield stage
            stage.ok = True
        except Exception as error:
            stage.note = stage.note or (str(error).strip() or type(error).__name__).splitlines()[0]
            raise
        finally:
            stage.seconds = time.monotonic() - since
            self._note(stages=[done.as_dict() for done in self.done])
            ended = "ended" if stage.ok else "failed"
            _logger.info("stage %s %s after %.1f s: %s", name, ended, stage.seconds, stage.note)
            self.progress.end(name, stage.note, stage.seconds, ok=stage.ok)

    def _note(self, **fields: Any) -> None:
        """Note where the run is at; a full disk must not end a stage, least of all one that cleans up."""
        if self.folder is None:
            return
        try:
            self.folder.note(**fields)
        except OSError:
            _logger.exception("%s can't be noted", ", ".join(fields))
