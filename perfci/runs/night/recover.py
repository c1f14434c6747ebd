"""What a killed run left: its folder is archived, its processes are ended."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from perfci.errors import FailureClass
from perfci.files import locked
from perfci.results.errors import ArchiveError
from perfci.results.model import Purpose
from perfci.results.record import read_record
from perfci.runs.night.record import RunEnd, document, noted_end, run_record
from perfci.runs.state.processes import reap, run_of
from perfci.runs.state.run_folder import RUN, WorkFolder, seal, seal_again, sweep, unfinished
from perfci.runs.state.stages import StageFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psutil

    from perfci.runs.state.archived_run import ArchivedRun
    from perfci.runs.state.processes import Chosen
    from perfci.runs.state.state_folder import StateFolder

_logger = logging.getLogger(__name__)


def recover(state: StateFolder) -> list[ArchivedRun]:
    """Archive the runs whose process died, and end what they left running; return the archived runs.

    A run that had ended when it died is archived as it ended, any other as failed. Runs of this state
    folder that live, and the controller's own services, are left alone. A folder that can't be archived
    now is left for the next start. Raises OSError where the state folder can't be written at all.
    """
    with locked(state.recovering):
        dead = [folder for folder in unfinished(state.runs) if not folder.alive()]
        for root in state.clouds:
            reap(root, _left_over(state))
        sweep(state.runs)
        return list(_archived(dead, state))


def _archived(dead: list[WorkFolder], state: StateFolder) -> Iterator[ArchivedRun]:
    for folder in dead:
        try:
            yield _sealed(folder, state)
        except OSError:
            _logger.exception("the run %s can't be archived now", folder.run_id)


def _sealed(folder: WorkFolder, state: StateFolder) -> ArchivedRun:
    is_rerun = run_record(folder, RunEnd()).purpose is Purpose.CONFIRM
    archive = state.reruns if is_rerun else state.archive
    if _has_ended(folder):
        _logger.warning("the run %s was killed while it was archived: archived as it ended", folder.run_id)
        return seal_again(folder, archive)
    if (ended := noted_end(folder)) is not None:
        _logger.warning("the run %s ended, and was not archived: archived as it ended", folder.run_id)
        return seal(folder, archive, document(folder, ended))
    stage = str(folder.notes().get("stage", "start"))
    _logger.warning("the run %s was killed in the stage %s: archived as failed", folder.run_id, stage)
    failure = StageFailure(
        stage=stage,
        failure_class=FailureClass.LAB,
        message=f"the run was killed in the stage {stage}",
        help=(
            "logs/perfci.log in the archive says what perfci did last. An out-of-memory kill or a reboot at "
            "that time: journalctl -k, or dmesg."
        ),
    )
    return seal(folder, archive, document(folder, RunEnd(failure)))


def _has_ended(folder: WorkFolder) -> bool:
    """Tell whether a run's own run.json stands: from then on only the way into the archive was left."""
    try:
        return read_record(folder.path / RUN).run_id == folder.run_id
    except ArchiveError:
        return False


def _left_over(state: StateFolder) -> Chosen:
    """Choose what belongs to a run that does not live any more, or to a deployment by hand.

    A run's folder is there before its first process is, so it is asked for each process when that has
    been seen: a run that starts at this moment is not taken for a dead one.
    """

    def chosen(process: psutil.Process) -> bool:
        run = run_of(process)
        return bool(run) and not WorkFolder(state.runs / run).alive()

    return chosen
