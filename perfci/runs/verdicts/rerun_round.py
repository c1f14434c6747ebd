"""Confirmation: the last good and the new code run again on the nodes of the night, whichever way.

Each re-run is a fresh deployment under the scenarios of the suspects alone, and one observation for all
questions at once. They end when all questions are answered, or when the runs, the minutes or the nodes' time
are used up (`trials`). A re-run that failed, on an unfit lab, or in another environment than the night's does
not count.

What re-runs left in the archive is all that is needed to go on: a night that was killed in between is
concluded from there by the next start.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Generic, TypeVar

from perfci.alerts.attribution import revision_changes
from perfci.analysis.decision import Decision
from perfci.analysis.rerun_verdict import decided, measured, reordered, told
from perfci.analysis.sequential_test import ConfirmSettings, read
from perfci.analysis.types import Basis, Confirmation
from perfci.results.errors import ResultFileError
from perfci.runs.jobs.model import Confirm
from perfci.runs.state.archive import rerun_folders
from perfci.runs.state.run_folder import utc_now
from perfci.runs.verdicts.confirmation_store import Answer, write_answers
from perfci.runs.verdicts.suspects import unasked
from perfci.runs.verdicts.trials import Spoilt, TrialBudget, Trials, Why
from perfci.runs.verdicts.trials import measured as measured_run
from perfci.wording import counted, revision_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from perfci.analysis.rerun_verdict import Effect, Question
    from perfci.analysis.types import Judgement
    from perfci.results.archive import RunFiles
    from perfci.results.model import Measurement, RunRecord, SeriesKey
    from perfci.runs.jobs.model import Job
    from perfci.runs.state.archived_run import ArchivedRun
    from perfci.runs.state.progress import Progress
    from perfci.runs.verdicts.lab_services import LabServices
    from perfci.runs.verdicts.suspects import Suspects

_NAMED_SERVICES = 2


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes of a night that has been measured, as far as they are still held.

    `rerun` deploys a job on them, measures, archives and takes it down again, whatever happens; it returns
    the archive folder. `until` is when they have to be back. `stopping` turns signals into a request.
    """

    rerun: Callable[[Job, threading.Event, Progress], Path]
    until: datetime
    stopping: Callable[[threading.Event], AbstractContextManager[None]]
    carry_two: Callable[[Job], bool] = lambda _job: False
    """Tells whether they have room for two clouds of a job at a time."""


S = TypeVar("S", bound=str)


@dataclass(slots=True)
class Reruns(ABC, Generic[S]):
    """The suspects of one run, and what its re-runs have shown so far. Made by `plan`.

    How they are run is the subclasses': one deployment after the other, or two side by side.
    """

    controller: LabServices
    record: RunRecord
    job: Job | None
    found: Suspects
    judgements: dict[SeriesKey, Judgement]
    questions: dict[SeriesKey, Question] = field(default_factory=dict)
    kept: tuple[int, ...] = ()
    """Indices of the job's scenarios that the re-runs take."""
    runs: list[str] = field(default_factory=list)
    """Ids of the re-runs that counted."""
    tried: int = 0
    span: tuple[float, float] | None = None
    ended: str = ""
    """Why there are no more re-runs, where it is not that nobody wants any."""
    possible: bool = True
    """False where the end says nothing about the series, so that the night's own verdict has to do."""

    @property
    def limits(self) -> Confirm:
        """What the job allows."""
        return self.job.analysis.confirm if self.job is not None else Confirm(enabled=False)

    @property
    def settings(self) -> ConfirmSettings:
        """When a question is answered. The budget of runs is the driver's: only it can say that it ended."""
        return ConfirmSettings(most_runs=self.limits.most_runs + 1)

    def prepare(self) -> None:
        """Choose the scenarios to run again, and let the trials know what that changes.

        Raises ArchiveError and ReportError.
        """
        questions, job = self.found.questions, self.job
        if job is None or not job.analysis.confirm.enabled:
            self.questions = {one.key: one for one in questions if one.claimed}
            self._end(
                "the job wants none" if job is not None else "the archive lacks the job", possible=False
            )
            return
        places = scenarios_of(self.controller.archived(self.record.run_id))
        indices = {
            one.key: [
                i
                for i in places.get((one.key.scenario, one.key.arguments), ())
                if i < max(1, len(job.scenarios))
            ]
            for one in questions
        }
        self.kept = tuple(sorted({index for found in indices.values() for index in found}))
        for one in questions:
            if indices[one.key]:
                before = set(range(min(indices[one.key])))
                self.questions[one.key] = one if before <= set(self.kept) else reordered(one)
            elif one.claimed:
                answer = unasked(self.record, one, Basis.NOTHING, "no scenario of the job measures it")
                self.found = replace(self.found, answered=(*self.found.answered, (one.key, answer)))

    def carry_out(self, nodes: Nodes | None, progress: Progress) -> str:
        """Run what is wanted, write the answers down, and return in a few words what came out.

        Without nodes, as for a night that was cut short, what its re-runs have shown so far has to do.
        """
        trials = Trials(self)
        for folder in rerun_folders(self.controller.state.archive):
            if is_rerun_of(self.controller, folder, self.record):
                trials.resume(folder)
        if nodes is None:
            self._end("the night was cut short", possible=False)
        elif self.questions and not self.ended:
            self._run(trials, nodes, progress)
        self.tried = trials.tried
        answers = self._answers()
        write_answers(self.controller.database, self.record.run_id, answers)
        return _note(answers, self.tried)

    def _run(self, trials: Trials[S], nodes: Nodes, progress: Progress) -> None:
        stop = threading.Event()
        until = min(nodes.until, utc_now() + timedelta(minutes=self.limits.most_minutes))
        most = self.most_runs

        def measure(side: S) -> Path:
            label = f"re-run {trials.tried + 1} of at most {most}, {self.told_of(side)}"
            return nodes.rerun(self.job_of(side), stop, _Inner(progress, label))

        with nodes.stopping(stop):
            end = trials.run(measure, TrialBudget(most, until), stop)
        match end.why:
            case Why.STOPPED:
                self._end("perfci was stopped", possible=False)
            case Why.SPOILT:
                # What the lab spoilt is tried again tomorrow. What can't be deployed again never will be.
                last = end.spoilt[-1].reason
                self._end(
                    f"{len(end.spoilt)} re-runs in a row did not count, the last because {last}",
                    possible=any(one.lab for one in end.spoilt),
                )
            case Why.RUNS:
                self._end(f"the {most} re-runs of a night were not enough", possible=True)
            case Why.TIME:
                self._end(f"there was no time for more re-runs than {end.tried}", possible=bool(self.runs))
            case Why.ERROR:
                self._end(str(end.error), possible=False)

    @property
    @abstractmethod
    def most_runs(self) -> int:
        """How many re-runs there may be."""

    @abstractmethod
    def told_of(self, side: S) -> str:
        """Name a side for the progress."""

    @abstractmethod
    def job_of(self, side: S) -> Job:
        """Return the job that deploys and measures a side."""

    @abstractmethod
    def next_side(self, done: Sequence[S], seconds: Mapping[S, float]) -> S | None:
        """See Rule."""

    @abstractmethod
    def side_of(self, run: ArchivedRun) -> S | None:
        """Return the side that a re-run is of; None where its code is neither."""

    @abstractmethod
    def take(self, side: S, run: ArchivedRun) -> str:
        """Give a re-run to every question; return why it does not count, empty where it does."""

    @abstractmethod
    def answer(self, question: Question) -> Answer | None:
        """Return what the re-runs say to a question; None where nobody asked and nothing was run."""

    def observe(self, folder: Path, wanted: S | None) -> S | Spoilt:
        """See Rule: one more observation for every question."""
        results = measured_run(folder)
        if isinstance(results, Spoilt):
            return results
        record = results.record
        if record.environment != self.record.environment:
            return Spoilt(f"{record.run_id} ran in another environment")
        run = self.controller.archived(record.run_id)
        side = self.side_of(run)
        if side is None or wanted not in (None, side):
            reason = f"{record.run_id} ran other code than it should have"
            return Spoilt(reason, lab=False)
        if why := self.take(side, run):
            return Spoilt(why)
        self.runs.append(record.run_id)
        begin, end = record.started_at.timestamp(), record.finished_at.timestamp()
        self.span = (min(begin, self.span[0]), max(end, self.span[1])) if self.span else (begin, end)
        return side

    def _end(self, why: str, *, possible: bool) -> None:
        if not self.ended:
            self.ended, self.possible = why, possible

    def _answers(self) -> list[Answer]:
        out = [Answer(key, answer) for key, answer in self.found.answered]
        out += [one for question in self.questions.values() if (one := self.answer(question)) is not None]
        return sorted(out, key=lambda answer: answer.key)

    def confirmation(self, question: Question, shown: Shown) -> Confirmation:
        """Return the answer to a question: what re-runs have shown, or why they could not."""
        undecided = shown.decision is Decision.UNKNOWN
        if undecided and not (self.possible and self.tried):
            # One sentence for all series alike, so that a mail says it once.
            return unasked(self.record, question, Basis.NOTHING, self.ended or "nothing could be run")
        old, new = self.names
        return Confirmation(
            shown.decision,
            Basis.RERUNS,
            f"{shown.reason}; {self.ended}" if undecided and self.ended else shown.reason,
            asked=self.record.run_id,
            since=question.since,
            worse=question.worse,
            tail=question.tail,
            claimed=question.claimed,
            good=self.found.good.run_id if self.found.good else None,
            old=old,
            new=new,
            runs=tuple(self.runs),
            old_runs=shown.old_runs,
            new_runs=shown.new_runs,
            pairs=shown.pairs,
            effect=shown.effect.size if shown.effect else None,
            low=shown.effect.low if shown.effect else None,
            high=shown.effect.high if shown.effect else None,
            log_proof=shown.log_proof,
            began=self.span[0] if self.span else None,
            ended=self.span[1] if self.span else None,
        )

    @property
    def names(self) -> tuple[str, str]:
        """Name the old and the new code."""
        return code_names(self.found.good, self.record) if self.found.good else ("", "")

    def seen_by_trial(self, question: Question) -> Shown:
        """Return what the runs of a question's trial show, which knows the nights' level and noise."""
        decision = decided(question, self.settings)
        trial = question.trial
        return Shown(
            decision,
            told(question, decision, self.judgements[question.key].effect),
            measured(question),
            len(trial.old),
            len(trial.new),
            log_proof=read(trial, fine=True).log_proof if trial.runs else None,
        )


@dataclass(frozen=True, slots=True)
class Shown:
    """What re-runs have shown of one question, from so many fresh deployments of either side."""

    decision: Decision
    reason: str
    effect: Effect | None
    old_runs: int
    new_runs: int
    pairs: int = 0
    log_proof: float | None = None


def values_of(measurements: Iterable[Measurement], key: SeriesKey) -> tuple[float, ...]:
    """Return what a run of another job measured of a series; nothing where it has none."""
    return next((one.values for one in measurements if replace(one.key, job=key.job) == key), ())


def is_rerun_of(controller: LabServices, folder: Path, record: RunRecord) -> bool:
    """Say whether a folder holds a re-run of a night."""
    try:
        return (
            folder.name > record.run_id and controller.archived(folder.name).record.confirms == record.run_id
        )
    except ResultFileError:
        return False  # whose it was can't be told, nor what it measured


def trial_factors(question: Question) -> tuple[float, ...]:
    """Return the log Bayes factors of a question's trial; none where nothing was run."""
    return tuple(read(question.trial, fine=True).log_factors.tolist()) if question.trial.runs else ()


def scenarios_of(run: RunFiles) -> dict[tuple[str, str], list[int]]:
    """Return which of its job's scenarios, by index, measured each (scenario, arguments) of a run.

    What measured phases in place of Rally's tasks is one whole, with the index 0. Raises ArchiveError,
    PhasesError and ReportError.
    """
    if run.has_phases:
        return {(part.scenario, part.arguments_digest): [0] for part in run.parts}
    places: dict[tuple[str, str], list[int]] = {}
    for task in run.tasks:
        number, _, _ = task.slug.partition("-")
        if not number.isdigit():
            continue
        names = {(m.key.scenario, m.key.arguments) for load in run.loads(task) for m in load.measurements}
        for name in names:
            places.setdefault(name, []).append(int(number) - 1)
    return places


@dataclass(frozen=True, slots=True)
class _Inner:
    """Shows the stages of a re-run as steps of the stage `confirm`."""

    outer: Progress
    label: str

    def begin(self, stage: str) -> None:
        self.outer.step(f"{self.label}: {stage}")

    def step(self, text: str) -> None:
        self.outer.step(f"{self.label}: {text}")

    def end(self, stage: str, note: str, seconds: float, *, ok: bool) -> None:
        pass

    def say(self, text: str) -> None:
        self.outer.say(text)


def code_names(before: RunRecord, after: RunRecord) -> tuple[str, str]:
    """Name two revisions by the services in which they differ."""
    changes = revision_changes(before, after)
    if not changes:
        return before.code.digest, after.code.digest

    def named(sides: Iterable[tuple[str, str]]) -> str:
        found = [f"{service} {revision}" for service, revision in sides]
        rest = len(found) - _NAMED_SERVICES
        more = [f"{rest} more"] if rest > 0 else []
        return ", ".join([*found[:_NAMED_SERVICES], *more])

    return (
        named((one.service, revision_name(one.before) if one.before else "not deployed") for one in changes),
        named((one.service, revision_name(one.after) if one.after else "not deployed") for one in changes),
    )


def _note(answers: Sequence[Answer], tried: int) -> str:
    """Say what came out: `6 runs  2 different, 1 same`."""
    shown = Counter(
        str(answer.confirmation.decision)
        if answer.confirmation.basis is Basis.RERUNS
        else "not confirmed"
        if answer.confirmation.basis is Basis.NOTHING
        else "the lab's"
        for answer in answers
    )
    order = (*map(str, (Decision.DIFFERENT, Decision.SAME, Decision.UNKNOWN)), "the lab's", "not confirmed")
    return f"{counted(tried, 'run')}  {', '.join(f'{shown[word]} {word}' for word in order if shown[word])}"
