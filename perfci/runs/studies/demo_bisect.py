"""`perfci demo --bisect`: a slow change is planted among others of two repositories, and named by a mail.

Nights of the code before give a baseline, a night of the code after them an alert, and the alert is bisected.
Every number comes from a cloud that ran.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfci.files import write_json
from perfci.parsing import json_value
from perfci.results.model import FINISHED
from perfci.runs.jobs.load import load_job
from perfci.runs.night.assemble import night
from perfci.runs.publish.notify import deliver, has_bisect, post_bisect
from perfci.runs.state.run_folder import utc_now
from perfci.runs.studies.bisect import bisect, keep_found
from perfci.runs.studies.bisect_question import of_alert
from perfci.runs.studies.bisect_told import story_of
from perfci.runs.studies.demo import AGAIN, Check
from perfci.runs.studies.demo_history import DemoHistory
from perfci.runs.verdicts.lab_services import LabServices

if TYPE_CHECKING:
    from pathlib import Path

    from perfci.alerts.bisect_story import BisectStory
    from perfci.alerts.model import Alert
    from perfci.config import Settings
    from perfci.runs.publish.after_run import NightOutcome
    from perfci.runs.state.progress import Progress

JOB = "bisect-demo"
FOLDER = "bisect-demo"
PLAN = "plan.json"
GIT = "git"
BASELINE = 3


@dataclass(slots=True)
class BisectDemo:
    """Its repositories, its nights, its bisect, and what was found."""

    settings: Settings
    holder: str
    progress: Progress
    nights: list[NightOutcome] = field(default_factory=list)
    story: BisectStory | None = None
    picture: Path | None = None

    def run(self) -> BisectShown:
        """Plant the change, run the nights, bisect the alert, and check what was said.

        One that was cut short goes on: with its repositories, its nights, and what its bisect has measured.
        """
        folder = self.settings.state_dir / FOLDER
        plan = self._plan(folder)
        settings = self.settings.model_copy(update={"git_base": str(folder / GIT)})
        services = LabServices(settings)
        before = services.local.records(plan["lab"], JOB)
        counted = [one for one in before if one.validity.valid and one.status == FINISHED]
        for number in range(len(counted), BASELINE):
            self.progress.say(f"\nbaseline, night {number + 1} of {BASELINE}")
            if not self._night(settings, plan["lab"], plan["good"]):
                return self._shown(plan)
        alert = self._alert(services, plan["lab"])
        if alert is None:
            self.progress.say(f"\n{plan['merged']} changes were merged, one of them slow")
            if self._night(settings, plan["lab"], plan["bad"]):
                alert = self._alert(services, plan["lab"])
        if alert is None:
            return self._shown(plan)
        found = bisect(services, of_alert(services, alert.id), holder=self.holder, progress=self.progress)
        if found.error is not None:
            raise found.error
        self.story = story_of(found)
        self.picture = keep_found(services, alert, self.story)
        if found.exit_code == 0:
            post_bisect(services, alert, self.story)
            deliver(services)
        shown = self._shown(plan, alert, reverted=bool(found.result and found.result.reverted))
        if found.final:
            (folder / PLAN).unlink()
        return shown

    def _plan(self, folder: Path) -> dict[str, Any]:
        """Return what the demo is about; one that was begun goes on, else its repositories are made."""
        try:
            found: dict[str, Any] = json_value((folder / PLAN).read_bytes())
        except (OSError, ValueError):
            pass
        else:
            self.progress.say("Going on with the demo that was cut short")
            return found
        shutil.rmtree(folder, ignore_errors=True)
        self.progress.say("Making repositories from the pinned releases")
        history = DemoHistory(folder / GIT, folder / "work")
        good = history.begin(self.settings)
        merged = history.merge_all()
        # A lab name of its own keeps every demo's series apart from all others.
        lab = f"{self.settings.lab}-bisect-{utc_now():%Y%m%d%H%M%S}"
        made = {"lab": lab, "good": good, "bad": "master", "merged": merged, "culprit": history.culprit}
        write_json(folder / PLAN, made)
        return made

    def _alert(self, services: LabServices, lab: str) -> Alert | None:
        return next((one for one in services.alerts.load().alerts if one.lab == lab), None)

    def _night(self, settings: Settings, lab: str, moment: str) -> bool:
        """Run the job on the code of a moment; a night on an unfit lab is repeated. Say whether it counts."""
        job = load_job(JOB, settings.jobs_dir)
        job = job.model_copy(update={"sources": job.sources.model_copy(update={"all": moment})})
        for _ in range(1 + AGAIN):
            outcome = night(job, settings, holder=self.holder, progress=self.progress, label=lab).run()
            self.nights.append(outcome)
            if outcome.failure:
                return False
            if outcome.record.validity.valid:
                return True
        return False

    def _shown(
        self, plan: dict[str, Any], alert: Alert | None = None, *, reverted: bool = False
    ) -> BisectShown:
        services = LabServices(self.settings)
        failed = [one for one in self.nights if one.failure]
        alerts = [one for one in services.alerts.load().alerts if one.lab == plan["lab"]]
        names = [one.commit for one in self.story.culprits] if self.story else []
        mailed = alert is not None and has_bisect(services, alert)
        checks = (
            Check("every night ends well", ok=not failed, found=str(failed[0].failure) if failed else "yes"),
            Check(
                "one alert, of neutron",
                ok=[one.service for one in alerts] == ["neutron"],
                found=", ".join(f"{one.id} of {one.service}" for one in alerts) or "none",
            ),
            Check(
                "the bisect names the slow change",
                ok=names == [plan["culprit"]],
                found=self.story.verdict if self.story else "no bisect",
            ),
            Check("it is proven by its revert", ok=reverted, found="yes" if reverted else "no"),
            Check("its mail is written", ok=mailed, found=self.story.headline if self.story else "none"),
        )
        return BisectShown(checks, self.story, self.picture)


@dataclass(frozen=True, slots=True)
class BisectShown:
    """What the demo showed."""

    checks: tuple[Check, ...]
    story: BisectStory | None
    picture: Path | None

    @property
    def exit_code(self) -> int:
        """0 where all was as expected."""
        return int(not all(check.ok for check in self.checks))

    def as_dict(self) -> dict[str, Any]:
        """Return the result for `--json`."""
        return {
            "checks": [{"expected": c.expected, "ok": c.ok, "found": c.found} for c in self.checks],
            "bisect": self.story.as_dict() if self.story else None,
            "picture": str(self.picture) if self.picture else None,
        }
