"""What the controller does with an archived run: store, analyse, confirm, alert, publish.

Each step is independent: the archive is safe, so a step that can't be done now is reported and done
later (`perfci results sync`, the outbox), and the steps after it go on.

"Judged, alerts changed, letters in the outbox, nothing owed" is one transaction. Where the verdict can't be
made, nothing of it happens: the run stays unreported, and the next start judges it from its archive.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from perfci import names
from perfci.alerts.lifecycle import process, run_failed
from perfci.alerts.model import JudgedRun, RunFailure
from perfci.alerts.noise_digest import noise_grows
from perfci.errors import FailureClass, InternalError, PerfciError, ServiceError
from perfci.logs import FILE, traceback_of
from perfci.results.errors import ResultFileError
from perfci.results.model import FINISHED, Purpose, RunResults
from perfci.runs.publish.notify import compose_letters, deliver, put
from perfci.runs.publish.site_data import growing_noise, write_site
from perfci.runs.state.unreported import settle
from perfci.runs.verdicts import judge as judging
from perfci.runs.verdicts import reruns as confirm
from perfci.runs.verdicts.confirmation_store import has_asked
from perfci.runs.verdicts.judgement_store import keep_judgements
from perfci.runs.verdicts.lab_services import ArchivedJobInvalid
from perfci.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from perfci.alerts.model import Notification
    from perfci.alerts.outbox import Delivery
    from perfci.analysis.types import Judgement
    from perfci.results.model import RunRecord
    from perfci.runs.state.archived_run import ArchivedRun
    from perfci.runs.state.stages import Stages
    from perfci.runs.verdicts.lab_services import LabServices
    from perfci.runs.verdicts.rerun_round import Nodes


_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NightOutcome:
    """One run from first to last, as `perfci run` reports it."""

    run: ArchivedRun
    record: RunRecord
    failure: dict[str, Any] | None
    """Why the run failed, or which of its tasks gave nothing."""
    judgements: tuple[Judgement, ...]
    told: tuple[Notification, ...]
    delivery: Delivery | None
    site: Path | None
    later: tuple[PerfciError, ...]
    """What could not be done now."""

    @property
    def folder(self) -> Path:
        """Where the run is archived."""
        return self.run.folder

    @property
    def exit_code(self) -> int:
        """0: nothing to do, also where something waits for delivery. 1: something is slower, or failed.

        5: all that is slower is a known exception of the job.
        """
        if self.failure:
            return 1
        mine = [error.exit_code for error in self.later if not isinstance(error, ServiceError)]
        return max(mine, default=0) or judging.exit_code(self.judgements)


@dataclass(slots=True)
class _Steps:
    stages: Stages
    log: Path
    """The controller's log."""
    later: list[PerfciError] = field(default_factory=list)
    faults: list[tuple[str, Exception]] = field(default_factory=list)
    """The steps that ended with an error that nobody expected."""

    @contextmanager
    def step(self, name: str) -> Iterator[Any]:
        """Run a step; an error is kept for the end, and the night goes on."""
        try:
            with self.stages.stage(name) as stage:
                yield stage
        except PerfciError as error:
            _logger.warning("%s: %s: %s", name, type(error).__name__, error)
            self.later.append(error)
        except Exception as error:
            _logger.exception("unexpected error in the step %s", name)
            self.later.append(InternalError.of(error, log=self.log))
            self.faults.append((name, error))


@dataclass(frozen=True, slots=True)
class Aftermath:
    """The steps after the archive, with everything of the controller that they need."""

    controller: LabServices

    def of(self, run: ArchivedRun, stages: Stages, nodes: Nodes | None = None) -> NightOutcome:
        """Do all steps for one archived run; doing it again changes and sends nothing.

        A run that is reported is no longer owed. One that is no night, such as a calibration's, is stored
        and nothing else, whoever asks.

        On `nodes`, if the run still holds them, what it suspects is run again. Raises ArchiveError where
        run.json can't be read.
        """
        steps, controller = _Steps(stages, self.controller.state.logs / FILE), self.controller
        controller.share(run)
        if run.record.purpose is not Purpose.NIGHT:
            return self._stored(run, steps)
        failure = run.failure
        results = _results(run, steps)
        try:
            controller.archived_job(run.run_id)
        except ArchivedJobInvalid as invalid:
            _logger.warning("%s", invalid)
            steps.later.append(invalid)
        judgements: tuple[Judgement, ...] | None = ()
        told: tuple[Notification, ...] = ()
        delivery = site = None
        with steps.step("store") as stage:
            controller.local.write(results)
            series = f"{len(results.measurements)} series"
            synced = controller.sync(stages.progress.step)
            stage.note = f"{series}, {counted(len(synced.delivered), 'run')} to {controller.influx.identity}"
            steps.later += (*synced.unreadable, *synced.refused)
        if results.record.status == FINISHED:
            judgements = self._judged(results.record, steps, nodes)
        with steps.step("alert") as stage:
            told = self._report(results.record, failure, judgements)
            delivery = deliver(controller)
            stage.note = _delivered(delivery)
        with steps.step("publish") as stage:
            site = write_site(controller)
            stage.note = str(site)
        for name, error in steps.faults:
            self.report_fault(run.run_id, name, error)
        return NightOutcome(
            run=run,
            record=results.record,
            failure=failure,
            judgements=judgements or (),
            told=told,
            delivery=delivery,
            site=site,
            later=tuple(steps.later),
        )

    def _stored(self, run: ArchivedRun, steps: _Steps) -> NightOutcome:
        """Store a run that is no night: nobody judges it or hears of it, and it owes nothing then."""
        results = _results(run, steps)
        with steps.step("store") as stage:
            self.controller.local.write(results)
            settle(self.controller.database, run.run_id)
            stage.note = f"{len(results.measurements)} series"
        for name, error in steps.faults:
            self.report_fault(run.run_id, name, error)
        return NightOutcome(
            run=run,
            record=results.record,
            failure=run.failure,
            judgements=(),
            told=(),
            delivery=None,
            site=None,
            later=tuple(steps.later),
        )

    def report_fault(self, run_id: str, step: str, error: Exception) -> bool:
        """Tell the admins of an error in a step after a run that nobody expected, once for each run and step.

        Return False where not even that can be done.
        """
        controller = self.controller
        fault = InternalError.of(error, log=controller.state.logs / FILE)
        lab, (_, job) = controller.settings.lab, names.parts_of(run_id) or ("", "unknown")
        told = run_failed(
            RunFailure(
                run_id=run_id,
                lab=lab,
                job=job,
                stage=step,
                failure_class=fault.failure_class,
                error=str(fault),
                source=FILE,
                excerpt=traceback_of(error),
                advice=fault.advice,
            )
        )
        try:
            put(
                controller,
                compose_letters(controller, [replace(told, id=f"fault-{run_id}-{step}")], None, ()),
            )
            deliver(controller)
        except Exception:
            # This reports a fault of ours: one more must not end the night. The caller tries again later.
            _logger.exception("the fault can't be reported")
            return False
        return True

    def give_up(self, run_id: str, error: Exception) -> None:
        """Tell the admins that a run can't be reported.

        A damaged archive stays damaged, so once the admins know, that run is owed no longer. Whatever else it
        was may be over with the next start, or with the next release: the run stays owed.
        """
        told = not isinstance(error, ServiceError) and self.report_fault(run_id, "report", error)
        if told and isinstance(error, ResultFileError):
            settle(self.controller.database, run_id)

    def _judged(self, record: RunRecord, steps: _Steps, nodes: Nodes | None) -> tuple[Judgement, ...] | None:
        """Judge a run, and ask re-runs about what it suspects, once for each run; None where that failed."""
        controller = self.controller
        judgements: tuple[Judgement, ...] | None = None
        reruns = None
        with steps.step("analyse") as stage:
            found = judging.judge_run(controller, record)
            stage.note = judging.summary(found)
            if not has_asked(controller.database, record.run_id):
                reruns = confirm.plan(controller, record, found, nodes)
            judgements = found
        if reruns is not None:
            with steps.step("confirm") as stage:
                stage.note = reruns.carry_out(nodes, steps.stages.progress)
                judgements = judging.judge_after_reruns(controller, record, found)
        return judgements

    def _report(
        self, record: RunRecord, failure: dict[str, Any] | None, judgements: tuple[Judgement, ...] | None
    ) -> tuple[Notification, ...]:
        """Work out what is to be reported, and commit it together with its letters.

        A failed run says nothing about series. Of a run without judgements only its failure is reported; the
        rest is still owed.
        """
        controller = self.controller
        failures = (_failed(record, failure),) if failure else ()
        if record.status != FINISHED or judgements is None:
            letters = compose_letters(controller, failures, record, ())
            with controller.database.transaction():
                put(controller, letters)
                if judgements is not None:
                    settle(controller.database, record.run_id)
            return failures
        earlier = controller.local.records(record.lab, record.job, until=record.run_id)
        night = JudgedRun(record, judgements, {one.run_id: one for one in earlier})
        rotting = self._rotting(record)
        while True:
            # Mails with their charts take seconds, too long to keep other writers waiting.
            before = controller.alerts.load()
            after, changed = process(before, night)
            told = (*failures, *changed, *rotting)
            letters = compose_letters(controller, told, record, judgements)
            with controller.database.transaction():
                if controller.alerts.load() != before:
                    continue  # somebody acknowledged, accepted or reported meanwhile
                keep_judgements(controller.database, record.run_id, judgements)
                controller.alerts.save(after)
                put(controller, letters)
                settle(controller.database, record.run_id)
            return told

    def _rotting(self, record: RunRecord) -> tuple[Notification, ...]:
        """Return the week's list of series whose noise grows; told again, it is the same one."""
        found = growing_noise(self.controller, record)
        if not found:
            return ()
        return (noise_grows(found, lab=record.lab, job=record.job, run_id=record.run_id),)


def _failed(record: RunRecord, failure: dict[str, Any]) -> Notification:
    return run_failed(
        RunFailure(
            run_id=record.run_id,
            lab=record.lab,
            job=record.job,
            stage=failure["stage"],
            failure_class=FailureClass(failure["class"]),
            error=failure["message"],
            source=failure["source"],
            excerpt=failure["excerpt"],
            advice=failure["help"],
        )
    )


def _results(run: ArchivedRun, steps: _Steps) -> RunResults:
    """Read the archived run; where a report of it is damaged, its record alone, and say so at the end."""
    try:
        return run.results
    except ResultFileError as error:
        steps.later.append(error)
        return RunResults(run.record)


def _delivered(delivery: Delivery) -> str:
    parts = [f"{len(delivery.sent)} sent"] if delivery.sent else []
    if delivery.waiting:
        parts.append(f"{len(delivery.waiting)} waiting for the mail server")
    if delivery.failed:
        parts.append(f"{len(delivery.failed)} refused by the mail server")
    return ", ".join(parts) or "no mail"
