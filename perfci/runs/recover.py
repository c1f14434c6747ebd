"""What a killed run left: its folder is archived as failed, its processes are ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfci.errors import FailureClass
from perfci.runs.processes import reap
from perfci.runs.record import Ended, document
from perfci.runs.stages import Failure
from perfci.runs.work import seal, unfinished

if TYPE_CHECKING:
    from pathlib import Path

    from perfci.runs.folders import StateFolder


def recover(state: StateFolder) -> list[Path]:
    """Archive the runs whose process died, and end what they left running; return the archive folders.

    While another run of this state folder lives, its processes can't be told from a dead run's, so
    nothing is ended then: the last one to start cleans up.
    """
    folders = unfinished(state.runs)
    dead = [folder for folder in folders if not folder.alive()]
    if len(dead) == len(folders):
        reap(state.root)
    sealed = []
    for folder in dead:
        stage = str(folder.notes().get("stage", "start"))
        failure = Failure(
            stage=stage,
            failure_class=FailureClass.LAB,
            message=f"the run was killed in the stage {stage}",
            help="Look for an out-of-memory kill or a reboot at that time: journalctl -k, or dmesg.",
        )
        sealed.append(seal(folder, state.archive, document(folder, Ended(failure))))
    return sealed
