"""Re-runs in pairs: the old and the new code on two clouds side by side, draw after draw.

A draw deploys both afresh and measures each iteration of one within the same second as one of the other
(`analysis.pairs`). In every other draw the two codes change places. A night that was paired itself is held
against its own reference, any other against the last good code.

Timings are answered by their pairs. Everything else (counters, tails) has no pairs: there a draw is one run
of either side, as in turns.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from perfci.analysis.paired_answer import answered, log_factors, reported, seen_effect, wants_draw
from perfci.analysis.pairs import draw_effect
from perfci.analysis.rerun_verdict import wish
from perfci.analysis.sequential_test import Side
from perfci.results.archive import RunFiles
from perfci.results.model import CONFIRM, CodeUnderTest, Metric
from perfci.results.pairs import REFERENCE, exchanged, is_paired
from perfci.runs.state.digests import code_under_test
from perfci.runs.verdicts.confirmation_store import Answer
from perfci.runs.verdicts.rerun_jobs import exact, rerun_job, side_by_side_job
from perfci.runs.verdicts.rerun_round import Reruns, Shown, code_names, trial_factors, values_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perfci.analysis.pairs import DrawEffect
    from perfci.analysis.rerun_verdict import Question
    from perfci.results.model import SeriesKey
    from perfci.runs.jobs.model import Job
    from perfci.runs.jobs.sources import Sources
    from perfci.runs.state.archived_run import ArchivedRun

DEPLOYMENTS = 2
"""What a draw costs of the runs that a job allows."""
_PAIRED = frozenset({Metric.SECONDS, Metric.RATIO})


class Places(StrEnum):
    """Where the two codes are: the new one at the usual ports and folders, or the old one."""

    USUAL = "usual places"
    EXCHANGED = "places exchanged"


@dataclass(slots=True)
class RerunsInPairs(Reruns[Places]):
    """Two deployments at a time, of the old and of the new code."""

    draws: dict[SeriesKey, list[DrawEffect]] = field(default_factory=dict)

    @property
    def most_runs(self) -> int:
        """See Reruns."""
        return max(1, self.limits.most_runs // DEPLOYMENTS)

    def told_of(self, side: Places) -> str:
        """See Reruns."""
        return f"both codes side by side, {side}"

    def next_side(self, done: Sequence[Places], _seconds: Mapping[Places, float]) -> Places | None:
        """See Rule: another draw while it can change an answer."""
        if not any(self._wants_draw(question) for question in self.questions.values()):
            return None
        return Places.EXCHANGED if len(done) % 2 else Places.USUAL

    def _wants_draw(self, question: Question) -> bool:
        draws = self.draws.get(question.key, [])
        if _is_paired(question):
            return wants_draw(question, draws, self.settings)
        return (question.claimed or not self.runs) and wish(question, self.settings) is not None

    @property
    def old(self) -> CodeUnderTest:
        """The code of the old side."""
        if self._has_reference:
            document = self.controller.archived(self.record.run_id).document
            services = code_under_test(document[REFERENCE]["services"]).services
            return CodeUnderTest(self.record.reference or "", services)
        if self.found.good is None:
            raise ValueError("nothing is run again without code to compare with")
        return self.found.good.code

    @property
    def _has_reference(self) -> bool:
        """Whether the night had other code beside it."""
        return self.record.reference not in {None, self.record.code.digest}

    @property
    def names(self) -> tuple[str, str]:
        """See Reruns."""
        return code_names(replace(self.record, code=self.old), self.record)

    def job_of(self, side: Places) -> Job:
        """See Reruns."""
        if self.job is None:
            raise ValueError("nothing is run again without a job")
        job = rerun_job(self.job, self.job, self.record.code.services, self.kept)
        constraints = job.reference.constraints if job.reference is not None else None
        old, new = self._old_sources(self.job), job.sources
        # Packages around the code belong to a place, so that these can't be exchanged.
        if side is Places.EXCHANGED and constraints is None:
            old, new = new, old
        return side_by_side_job(job, CONFIRM, old=old, new=new, constraints=constraints)

    def _old_sources(self, job: Job) -> Sources:
        if self._has_reference and job.reference is not None:
            return exact(job.reference.over(job.sources), self.old.services)
        good = self.controller.job(self.found.good.run_id) if self.found.good else None
        return exact((good or job).sources, self.old.services)

    def side_of(self, run: ArchivedRun) -> Places | None:
        """See Reruns."""
        old, new = self.old.digest, self.record.code.digest
        places = {(old, new): Places.USUAL, (new, old): Places.EXCHANGED}
        return places.get((run.record.reference or "", run.record.code.digest))

    def take(self, side: Places, run: ArchivedRun) -> str:
        """See Reruns."""
        if not is_paired(run.folder):
            return f"{run.run_id} has no record of pairs"
        usual = side is Places.USUAL
        paired = run.paired if usual else exchanged(run.paired)
        found = {
            (one.key.scenario, one.key.arguments, one.key.action): draw
            for one in paired.series
            if (draw := draw_effect(one.differences)) is not None
        }
        if not found:
            notes = "; ".join(paired.notes) or "no pair was measured on both sides"
            return f"{run.run_id} paired nothing: {notes}"
        for key, question in self.questions.items():
            if not _is_paired(question):
                self.questions[key] = self._observed(question, run, usual=usual)
            elif (draw := found.get((key.scenario, key.arguments, key.action))) is not None:
                self.draws.setdefault(key, []).append(draw)
        return ""

    def _observed(self, question: Question, run: ArchivedRun, *, usual: bool) -> Question:
        """Return a question without pairs after one run of either side."""
        if run.record.validity.pairs_only:
            return question
        beside = RunFiles(run.folder / REFERENCE, run.record)
        news, olds = (run, beside) if usual else (beside, run)
        for side, files in ((Side.OLD, olds), (Side.NEW, news)):
            question = question.observe(side, values_of(files.measurements, question.key))
        return question

    def answer(self, question: Question) -> Answer | None:
        """See Reruns."""
        draws, trial = self.draws.get(question.key, []), question.trial
        if not (draws or trial.runs or question.claimed):
            return None
        if not _is_paired(question):
            found = self.confirmation(question, self.seen_by_trial(question))
            return Answer(question.key, found, trial.old, trial.new, trial_factors(question))
        decision = answered(question, draws, self.settings)
        factors = log_factors(question, draws)
        looked = self.judgements[question.key].effect
        shown = Shown(
            decision,
            reported(question, draws, self.settings, decision, looked),
            seen_effect(question, draws, self.settings),
            len(draws),
            len(draws),
            pairs=sum(one.pairs for one in draws),
        )
        return Answer(question.key, self.confirmation(question, shown), log_factors=factors)


def _is_paired(question: Question) -> bool:
    """Say whether pairs answer a question: the middle of a timing has them."""
    return question.key.metric in _PAIRED and not question.tail
