"""Which code is the reference of a paired night: what was last accepted.

A job with `reference: accepted` begins with its own first code beside itself. That stays the reference, night
after night, so that small changes add up in the ratios instead of passing one by one. It moves forward to
the code of the night on which a change was accepted as the new normal, an alert was closed because it is
fixed, or an improvement has lasted; never while an alert of the job is open, whose change it would hide.
Ratios to another reference are other series; nothing links them.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from perfci.alerts.model import Closing
from perfci.analysis.facts import facts_from_dict
from perfci.results.model import FINISHED, Metric
from perfci.results.pairs import REFERENCE
from perfci.runs.jobs.sources import Reference
from perfci.runs.state.digests import code_under_test
from perfci.runs.verdicts.facts_store import read_facts
from perfci.runs.verdicts.judge import HISTORY_RUNS
from perfci.runs.verdicts.lab_services import ArchivedJobInvalid
from perfci.runs.verdicts.rerun_jobs import exact

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from perfci.alerts.model import Alert
    from perfci.results.model import RunRecord
    from perfci.runs.jobs.model import Job
    from perfci.runs.verdicts.lab_services import LabServices

_MOVES = frozenset({Closing.ACCEPTED, Closing.FIXED})


class Accepted(NamedTuple):
    """Where the accepted code ran: in a run, as the code under test or as its reference."""

    run_id: str
    beside: bool


def last_accepted(
    records: Sequence[RunRecord], alerts: Iterable[Alert], settled: Iterable[str]
) -> Accepted | None:
    """Return where the code ran that the next night is held against; None before the first paired one. Pure.

    `records` are the runs of the job, oldest first, `alerts` those of the job, `settled` the runs on which an
    improvement of a ratio became the normal.
    """
    paired = [one for one in records if one.reference is not None and one.status == FINISHED]
    if not paired:
        return None
    last, alerts = paired[-1], tuple(alerts)
    began = list(takewhile(lambda one: one.reference == last.reference, reversed(paired)))[-1].run_id
    closed = {one.closed for one in alerts if one.closed is not None and one.closing in _MOVES}
    moves = [one.run_id for one in paired if one.run_id >= began and one.run_id in {*closed, *settled}]
    if moves and all(one.closed is not None for one in alerts):
        return Accepted(moves[-1], beside=False)
    return Accepted(last.run_id, beside=True)


def accepted_reference(controller: LabServices, job: Job, lab: str) -> Reference:
    """Return the reference of tonight's run of a job; its own code before there is another one.

    Raises FactsUnreadable, and where the run of the accepted code can't be read ArchiveError or
    ArchivedJobInvalid: with any other code in its place a change would be held against itself.
    """
    same = Reference(accepted=True)
    alerts = [one for one in controller.alerts.load().alerts if (one.lab, one.job) == (lab, job.name)]
    records = controller.local.records(lab, job.name, limit=HISTORY_RUNS)
    found = last_accepted(records, alerts, _settled(read_facts(controller.database, lab, job.name)))
    if found is None:
        return same
    ran = controller.archived_job(found.run_id)
    if ran is None:
        raise ArchivedJobInvalid(run_id=found.run_id, reason="there is none")
    run = controller.archived(found.run_id)
    if not found.beside:
        return Reference.of(exact(ran.sources, run.record.code.services), accepted=True)
    services = code_under_test(run.document[REFERENCE]["services"]).services
    return Reference.of(exact((ran.reference or same).over(ran.sources), services), accepted=True)


def _settled(facts: Mapping[str, object]) -> set[str]:
    """Return the runs on which an improvement of a ratio became the normal."""
    return {
        run_id
        for run_id, document in facts.items()
        for one in facts_from_dict(document).ended
        if one.settled and one.part.key.metric is Metric.RATIO
    }
