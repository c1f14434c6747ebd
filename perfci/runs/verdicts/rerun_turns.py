"""Re-runs in turns: the last good and the new code, one deployment after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfci.analysis.rerun_verdict import wish
from perfci.analysis.run_order import next_deployment
from perfci.analysis.sequential_test import Side
from perfci.runs.verdicts.confirmation_store import Answer
from perfci.runs.verdicts.rerun_jobs import rerun_job
from perfci.runs.verdicts.rerun_round import Reruns, trial_factors, values_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.analysis.rerun_verdict import Question
    from perfci.runs.jobs.model import Job
    from perfci.runs.state.archived_run import ArchivedRun


@dataclass(slots=True)
class RerunsInTurns(Reruns[Side]):
    """One deployment after the other, of the last good and of the new code."""

    @property
    def most_runs(self) -> int:
        """See Reruns."""
        return self.limits.most_runs

    def told_of(self, side: Side) -> str:
        """See Reruns."""
        return f"{side} code"

    def next_side(self, done: Sequence[Side], _seconds: Mapping[Side, float]) -> Side | None:
        """See Rule: what most questions want, in blocks."""
        wishes = [wish(question, self.settings) for question in self.questions.values()]
        return next_deployment(done, [side for side in wishes if side is not None])

    def job_of(self, side: Side) -> Job:
        """See Reruns."""
        if self.job is None or self.found.good is None:
            msg = "nothing is run again without a job and a run to compare with"
            raise ValueError(msg)
        ran = self.record if side is Side.NEW else self.found.good
        job = self.controller.job(ran.run_id) or self.job
        return rerun_job(self.job, job, ran.code.services, self.kept)

    def side_of(self, run: ArchivedRun) -> Side | None:
        """See Reruns."""
        good = self.found.good
        sides = {self.record.code.digest: Side.NEW, **({good.code.digest: Side.OLD} if good else {})}
        return sides.get(run.record.code.digest)

    def take(self, side: Side, run: ArchivedRun) -> str:
        """See Reruns."""
        self.questions = {
            key: question.observe(side, values_of(run.measurements, key))
            for key, question in self.questions.items()
        }
        return ""

    def answer(self, question: Question) -> Answer | None:
        """See Reruns."""
        trial = question.trial
        if not (trial.runs or question.claimed):
            return None
        found = self.confirmation(question, self.seen_by_trial(question))
        return Answer(question.key, found, trial.old, trial.new, trial_factors(question))
