"""What a killed run left: its folder is archived as failed, its processes are ended."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING

from perfci.errors import FailureClass
from perfci.runs.night.record import RunEnd, document
from perfci.runs.state.processes import reap, run_of
from perfci.runs.state.run_folder import WorkFolder, seal, unfinished
from perfci.runs.state.stages import StageFailure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psutil

    from perfci.runs.state.processes import Chosen
    from perfci.runs.state.state_folder import StateFolder


def recover(state: StateFolder) -> list[Path]:
    """Archive the runs whose process died, and end what they left running; return the archive folders.

    Other runs of this state folder that live, and the controller's own services, are left alone.
    """
    with _alone(state):
        dead = [folder for folder in unfinished(state.runs) if not folder.alive()]
        for root in state.clouds:
            reap(root, _left_over(state))
        return [_archived(folder, state) for folder in dead]


def _archived(folder: WorkFolder, state: StateFolder) -> Path:
    stage = str(folder.notes().get("stage", "start"))
    failure = StageFailure(
        stage=stage,
        failure_class=FailureClass.LAB,
        message=f"the run was killed in the stage {stage}",
        help="Look for an out-of-memory kill or a reboot at that time: journalctl -k, or dmesg.",
    )
    archive = state.archive_for(folder.notes().get("confirms"))
    return seal(folder, archive, document(folder, RunEnd(failure)))


@contextmanager
def _alone(state: StateFolder) -> Iterator[None]:
    """Let one of several runs that start at a time clean up after the dead ones."""
    state.root.mkdir(parents=True, exist_ok=True)
    with state.recovering.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _left_over(state: StateFolder) -> Chosen:
    """Choose what belongs to a run that does not live any more, or to a deployment by hand.

    A run's folder is there before its first process is, so it is asked for each process when that has
    been seen: a run that starts at this moment is not taken for a dead one.
    """

    def chosen(process: psutil.Process) -> bool:
        run = run_of(process)
        return bool(run) and not WorkFolder(state.runs / run).alive()

    return chosen
