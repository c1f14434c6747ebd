"""Which re-runs a night calls for: two clouds side by side where there is room, else one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perfci.analysis.sequential_test import ConfirmSettings
from perfci.results.pairs import is_paired
from perfci.results.validity import comparable
from perfci.runs.state.archive import rerun_folders
from perfci.runs.verdicts.confirmation_store import read_answers
from perfci.runs.verdicts.judge import HISTORY_RUNS, histories_of
from perfci.runs.verdicts.rerun_pairs import RerunsInPairs
from perfci.runs.verdicts.rerun_round import is_rerun_of
from perfci.runs.verdicts.rerun_turns import RerunsInTurns
from perfci.runs.verdicts.suspects import Known, looked_into, screened, suspects, timed_nights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.analysis.types import Judgement
    from perfci.results.model import RunRecord
    from perfci.runs.verdicts.lab_services import LabServices
    from perfci.runs.verdicts.rerun_round import Nodes, Reruns


def plan(
    controller: LabServices, record: RunRecord, judgements: Sequence[Judgement], nodes: Nodes | None = None
) -> Reruns[Any] | None:
    """Return the re-runs that a judged run calls for; None where nothing is to be asked.

    `nodes` are those that may carry them. Where the job wants none, or they are not possible, the answers say
    why. Raises ResultFileError and ConfirmationsUnreadable.
    """
    records = controller.local.records(record.lab, record.job, until=record.run_id, limit=HISTORY_RUNS)
    places = comparable(records)
    analysis = controller.analysis_settings(record)
    environment, _ = places[record.run_id]
    timings = histories_of(controller, screened(judgements), records, places)
    known = Known(
        record=record,
        judgements=tuple(judgements),
        histories=tuple(histories_of(controller, looked_into(judgements), records, places)),
        timings=timed_nights(timings, [one.run_id for one in records], environment, analysis),
        records=records,
        places=places,
        alerts=controller.alerts.load(),
        answers=read_answers(controller.database, [one.run_id for one in records]),
        analysis=analysis,
        confirming=ConfirmSettings(),
    )
    found = suspects(known, runnable=lambda run_id: controller.job(run_id) is not None)
    if not found.questions and not found.answered:
        return None
    job = controller.job(record.run_id)
    kind = RerunsInPairs if _in_pairs(controller, record, nodes) else RerunsInTurns
    reruns: Reruns[Any] = kind(controller, record, job, found, {one.key: one for one in judgements})
    reruns.prepare()
    return reruns if reruns.questions or found.answered else None


def _in_pairs(controller: LabServices, record: RunRecord, nodes: Nodes | None) -> bool:
    """Say whether a night is confirmed by two clouds side by side.

    One that was paired is, and one whose re-runs have begun so; any other where there is room.
    """
    if record.reference is not None:
        return True
    begun = [one for one in rerun_folders(controller.state.archive) if is_rerun_of(controller, one, record)]
    if begun:
        return is_paired(begun[0])
    job = controller.job(record.run_id)
    return job is not None and nodes is not None and nodes.carry_two(job)
