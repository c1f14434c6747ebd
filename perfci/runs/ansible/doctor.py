"""Whether this machine can carry the lab: the settings, the jobs, and what the preflight says."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from perfci.database.engine import look_at
from perfci.errors import PerfciError
from perfci.runs.ansible.lab_playbooks import playbooks
from perfci.runs.jobs.load import TASKS, jobs, load_job
from perfci.runs.jobs.rally_plan import CloudAccess, make_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from perfci.config import Settings

_LIMIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that was looked at. `detail` says what was found, and how to mend it."""

    about: str
    ok: bool
    detail: str


def examine(settings: Settings) -> list[CheckResult]:
    """Look at everything; nothing is changed."""
    findings = [_finding(f"job {name}", partial(_job, settings, name)) for name in jobs(settings.jobs_dir)]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "doctor.log"

        def machine() -> str:
            playbooks(settings).run("doctor", log=log, limit_seconds=_LIMIT_SECONDS)
            return "distribution, memory, disk, ports and packages are as needed"

        findings.append(_finding("machine", machine))
    findings.append(_finding("database", partial(look_at, settings)))
    findings.append(links_in_mail(settings))
    return findings


def links_in_mail(settings: Settings) -> CheckResult:
    """Ask for the address of the pages. A lab without one works: its mails name commands instead."""
    address = settings.mail.base_url
    asked = (
        f"there are none. Where is {settings.state_dir / 'site'} served? Set mail.base_url to that address; "
        "until then mails name commands"
    )
    return CheckResult("links in mail", ok=True, detail=f"they begin with {address}" if address else asked)


def _job(settings: Settings, name: str) -> str:
    job = load_job(name, settings.jobs_dir)
    nowhere = Path()
    make_plan(
        job.resolved()["scenarios"],
        templates=settings.jobs_dir / TASKS,
        output=nowhere,
        cloud=CloudAccess(clouds_file=nowhere, image_file=nowhere),
    )
    return f"{len(job.scenarios)} scenarios" if job.scenarios else f"procedure {job.procedure}"


def _finding(about: str, look: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(about, ok=True, detail=look())
    except PerfciError as error:
        return CheckResult(about, ok=False, detail=str(error))
