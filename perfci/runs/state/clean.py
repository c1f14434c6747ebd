"""Removing everything of a state folder: what runs, and the folder."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import psutil

from perfci.errors import UsageError
from perfci.lab.virtual.lab import down
from perfci.lab.virtual.remains import find
from perfci.runs.state.processes import end, reap
from perfci.runs.state.run_folder import unfinished

if TYPE_CHECKING:
    from pathlib import Path

    from perfci.runs.state.state_folder import StateFolder

_STOP_SECONDS = 240.0
"""A run that is told to stop first gives its nodes back."""
_OURS = frozenset(
    {
        "archive",
        "runs",
        "cache",
        "logs",
        "secrets",
        "ansible",
        "venvs",
        "analysis",
        "results.db",
        "virtual",
        "netboot",
        "images",
    }
)


class NotAStateFolder(UsageError):
    """What should be removed does not look like a state folder of perfci."""

    template = "{path} does not look like a state folder of perfci: nothing in it is ours"
    help = "Check PERFCI_STATE_DIR and `state_dir` in perfci.toml. Nothing was removed."


def clean(state: StateFolder, project: Path) -> list[str]:
    """Stop the runs, the virtual lab and the services of a state folder, then remove it; return what ended.

    `project` is the folder with the inventories. Raises NotAStateFolder, before anything is done, for a
    folder that holds nothing of ours, and RootNeeded where a virtual lab is up and this is not root.
    """
    _check(state.root)
    runs = [folder for folder in unfinished(state.runs) if folder.alive()]
    owners = [psutil.Process(int(folder.notes()["owner"]["pid"])) for folder in runs]
    if owners:
        end(owners, grace_seconds=_STOP_SECONDS)
    if find(state.root, project):
        down(state.root, project)
    # The services of the role netboot have a state folder of their own, so that no cloud's end stops them.
    ended = [*reap(state.root), *reap(state.root / "netboot")]
    if state.root.exists():
        shutil.rmtree(state.root)
    return [*(folder.run_id for folder in runs), *ended]


def _check(root: Path) -> None:
    if root.is_dir() and any(root.iterdir()) and not _OURS & {path.name for path in root.iterdir()}:
        raise NotAStateFolder(path=root)
