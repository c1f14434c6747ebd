"""Which runs still owe their verdict and mail, so that what a kill cut short is made up for once.

A run that begins is written down, and crossed out when its verdict and mail are out. One whose process died
in between is judged by the next start, from its archive.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from perfci.runs.state.archive import run_folders
from perfci.runs.state.run_folder import create, unfinished

if TYPE_CHECKING:
    from pathlib import Path

    from perfci.runs.state.state_folder import StateFolder


def owe(state: StateFolder, run_id: str) -> None:
    """Write down that a run's verdict and mail are to come from this process."""
    create(state.owed, run_id)


def settle(state: StateFolder, run_id: str) -> None:
    """Cross a run out; one that is not there stays so."""
    shutil.rmtree(state.owed / run_id, ignore_errors=True)


def left_owing(state: StateFolder) -> list[Path]:
    """Return the archive folders of runs whose process died before their verdict was out, oldest first.

    A run that died before it was archived owes nothing but its end, which `recover` archives.
    """
    dead = {note.run_id for note in unfinished(state.owed) if not note.alive()}
    archived = [folder for folder in run_folders(state.archive) if folder.name in dead]
    for run_id in dead - {folder.name for folder in archived}:
        settle(state, run_id)
    return archived
