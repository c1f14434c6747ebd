"""Moving one pin: it must resolve, a job is measured with the old and the new one, then the file changes.

Until the end the project's file stays as it is: what is measured are copies below the state folder, so that a
night that runs meanwhile, or a kill, finds nothing half done.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from perfci.errors import UsageError
from perfci.files import write_whole
from perfci.runs.ansible.lab_playbooks import CONSTRAINTS_VARIABLE
from perfci.runs.night.reference import two_fit
from perfci.runs.studies.compare import compare
from perfci.runs.studies.pins import CONSTRAINTS, SERVICES, check, keep_copy, moved
from perfci.runs.studies.side_by_side import budget_of, pair_settings_of, side_by_side

if TYPE_CHECKING:
    from pathlib import Path

    from perfci.runs.jobs.model import Job
    from perfci.runs.state.progress import Progress
    from perfci.runs.studies.compare import Compared
    from perfci.runs.studies.pins import MovedPin
    from perfci.runs.studies.side_by_side import SideBySide
    from perfci.runs.verdicts.lab_services import LabServices

_FOLDER = "pins"


class PinUnused(UsageError):
    """The job does not deploy the pinned version, so there is nothing to compare."""

    template = "the pin of {name} has no effect on the job {job}: {reason}"
    help = "Take another job (--job), or move the pin without measuring (--no-compare)."


@dataclass(frozen=True, slots=True)
class Bump:
    """A pin that was moved, and what the comparison has shown, if there was one."""

    move: MovedPin
    file: Path
    compared: Compared | SideBySide | None

    def as_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            "name": self.move.name,
            "before": self.move.before,
            "after": self.move.after,
            "file": str(self.file),
            "compared": self.compared.as_dict() if self.compared else None,
            "undo": self.undo,
        }

    @property
    def undo(self) -> str:
        """The command that moves it back."""
        return f"perfci pins bump {self.move.name} {self.move.before} --no-compare"


def bump(
    controller: LabServices, name: str, version: str, job: Job | None, *, holder: str, progress: Progress
) -> Bump:
    """Move one pin, after the job was measured with the old and the new one; without a job, at once.

    Raises what `pins.moved` and `pins.check` raise, PinUnused, and what a run raises; the file then is as it
    was.
    """
    settings = controller.settings
    file = settings.root_dir / CONSTRAINTS
    before = file.read_text(encoding="utf-8")
    move = moved(before, name, version, file)
    if job is not None:
        _check_use(move.name, job)
    check(settings.root_dir, move, settings.state_dir / "cache" / "uv")
    compared = None
    if job is not None:
        folder = controller.state.root / _FOLDER
        old, new = (keep_copy(folder, text) for text in (before, move.text))
        # The file moves at the end of every comparison: what is older belongs to one that came to its end.
        since = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        measure = _in_pairs if two_fit(job, settings) else compare
        compared = measure(controller, job, old=old, new=new, since=since, holder=holder, progress=progress)
    # Somebody may have moved another one meanwhile; that one stays.
    now = file.read_text(encoding="utf-8")
    write_whole(file, moved(now, name, version, file).text)
    return Bump(move, file, compared)


def _in_pairs(
    controller: LabServices,
    job: Job,
    *,
    old: Path,
    new: Path,
    since: datetime,
    holder: str,
    progress: Progress,
) -> SideBySide:
    """Measure a job with two constraints files side by side, until decided, or the job allows no more."""
    variables = {**job.cloud.variables, CONSTRAINTS_VARIABLE: str(new)}
    return side_by_side(
        controller,
        job.model_copy(update={"cloud": job.cloud.model_copy(update={"variables": variables})}),
        old={},
        new={},
        settings=pair_settings_of(job),
        budget=budget_of(job),
        holder=holder,
        progress=progress,
        apart={CONSTRAINTS_VARIABLE: str(old)},
        resume=since,
    )


def _check_use(name: str, job: Job) -> None:
    """Raise PinUnused where both sides of the A/B would be the same."""
    if CONSTRAINTS_VARIABLE in job.cloud.variables:
        raise PinUnused(
            name=name, job=job.name, reason=f"its cloud.variables name other pins ({CONSTRAINTS_VARIABLE})"
        )
    if name not in SERVICES:
        return
    service = name.removeprefix("openstack-")
    source = getattr(job.sources, service)
    if source is not None and (source.git or source.version):
        raise PinUnused(name=name, job=job.name, reason=f"its sources say which {service} is deployed")
