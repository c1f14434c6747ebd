"""`perfci bisect`: which change made something slower, measured until it is known and proven.

The decision is `analysis.bisect`, the driver is `trials`. Every measurement is a run of the job JOB-bisect in
the archive, in nobody's baseline. A culprit that is a change of requirements is opened (`bisect_inside`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from perfci.alerts.bisect_chart import draw
from perfci.analysis.bisect.machine import BisectResult, End, Measure
from perfci.analysis.bisect.model import Kind
from perfci.files import write_whole
from perfci.runs.ansible.playbook import Interrupted
from perfci.runs.night.assemble import night
from perfci.runs.night.take_back import kept_machines
from perfci.runs.publish.bisect_store import keep_bisect
from perfci.runs.state.digests import digest
from perfci.runs.studies.bisect_course import FOLDER
from perfci.runs.studies.bisect_inside import question_inside
from perfci.runs.studies.bisect_rule import BisectRule, archived_runs
from perfci.runs.verdicts.trials import TrialBudget, Trials, Why
from perfci.wording import counted

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from perfci.alerts.bisect_story import BisectStory
    from perfci.alerts.model import Alert
    from perfci.errors import PerfciError
    from perfci.runs.state.progress import Progress
    from perfci.runs.studies.bisect_question import AskedBisect
    from perfci.runs.studies.bisect_rule import Replayed
    from perfci.runs.verdicts.lab_services import LabServices
    from perfci.runs.verdicts.trials import TrialsEnd

ANSWERS = frozenset({End.CULPRIT, End.NONE, End.SEVERAL})
"""Ends that answer the question; the others say why it can't be answered."""


@dataclass(frozen=True, slots=True, eq=False)
class BisectOutcome:
    """How far a bisect came. `inside` is the one within the change of requirements that it found.

    `ended` says why it stopped before its end, and `error` what stopped it; empty and None where it did not.
    """

    asked: AskedBisect
    replayed: Replayed
    ended: str = ""
    error: PerfciError | None = None
    inside: BisectOutcome | None = None

    @property
    def result(self) -> BisectResult | None:
        """The answer; None as long as there is none."""
        move = self.replayed.move
        return move if isinstance(move, BisectResult) else None

    @property
    def final(self) -> bool:
        """Whether it came to an end, whatever that is, also within requirements."""
        return self.result is not None and (self.inside is None or self.inside.final)

    @property
    def exit_code(self) -> int:
        """0 where the question is answered, 3 where it is not."""
        return 0 if self.result is not None and self.final and self.result.end in ANSWERS else 3


def bisect(
    services: LabServices,
    asked: AskedBisect,
    *,
    holder: str,
    progress: Progress,
    until: datetime | None = None,
    gives_way: bool = False,
) -> BisectOutcome:
    """Measure until the question is answered, or no run would end before `until`.

    With `gives_way` it ends when somebody else wants the nodes, as it does when a signal asks it to stop.
    What is archived counts already. An error of a run is in the outcome: what was measured stays.
    """
    rule = BisectRule(services, asked, archived_runs(services, asked))
    trials = Trials(rule)
    if rule.now.used:
        progress.say(f"{counted(len(rule.now.used), 'run')} in the archive already count.")

    def measure(_side: str) -> Path:
        move = rule.now.move
        if not isinstance(move, Measure):
            raise TypeError(move)
        if trials.spoilt:
            progress.say(f"It does not count: {trials.spoilt[-1].reason}")
        told = described(asked, move)
        progress.say(f"\nRun {len(rule.now.used) + 1} of at most {asked.question.most_runs}: {told}")
        job = asked.course.job_of(move.point).model_copy(update={"description": f"{asked.title}: {told}"})
        one = night(
            job,
            services.settings,
            holder=holder,
            progress=progress,
            label=asked.label,
            gives_way=gives_way,
            kept=kept,
        )
        outcome = one.run()
        if outcome.failure and outcome.failure.get("message") == str(Interrupted()):
            raise Interrupted
        return outcome.folder

    with kept_machines(services.settings, holder=holder, progress=progress) as kept:
        end = trials.run(measure, TrialBudget(until=until))
    found = BisectOutcome(asked, rule.now, _why(end), end.error)
    inner = question_inside(asked, found.result) if found.result is not None else None
    if inner is None:
        return found
    progress.say(f"\nThe culprit is a change of pins: {inner.title}.")
    within = bisect(services, inner, holder=holder, progress=progress, until=until, gives_way=gives_way)
    return replace(found, inside=within)


def described(asked: AskedBisect, move: Measure) -> str:
    """Say in one line what is measured next."""
    steps, index = asked.course.steps, move.point.index
    name = steps[index - 1].name if index else ""
    if move.point.kind is Kind.REVISION:
        ends = {0: "the good end", len(steps): "the bad end"}
        return f"{ends.get(index) or f'after {name}, {index} of {len(steps)}'} ({move.why})"
    return {
        Kind.PARENT: f"before {name}, afresh",
        Kind.CHANGE: f"with {name}, afresh",
        Kind.HEAD: "the newest revision",
        Kind.REVERTED: f"the newest revision without {name}",
    }[move.point.kind]


def _why(end: TrialsEnd) -> str:
    match end.why:
        case Why.DECIDED:
            return ""
        case Why.TIME:
            return "there was no time for another run"
        case Why.SPOILT:
            last = end.spoilt[-1].reason
            return f"{len(end.spoilt)} runs in a row did not count, the last because {last}"
        case Why.ERROR:
            return str(end.error)
        case _:
            return str(end.why)


def keep_found(services: LabServices, alert: Alert | None, story: BisectStory) -> Path | None:
    """Keep what was found for the page of its alert, and draw what was measured below the state folder.

    Returns the picture; None where nothing was measured.
    """
    if alert is not None:
        keep_bisect(services.state.root, alert.id, story)
    os.environ.setdefault("MPLCONFIGDIR", str(services.state.root / "cache" / "matplotlib"))
    picture = draw(story)
    if picture is None:
        return None
    file = services.state.root / FOLDER / f"{digest([story.job, story.title])}.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, picture)
    return file
