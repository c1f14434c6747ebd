"""Ends what runs in a state folder and removes what can be made again, or everything."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfci.errors import LabError, UsageError
from perfci.lab.virtual.lab import down, left
from perfci.runs.state import units
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
        "lab.db",
        "mail",
        "virtual",
        "netboot",
        "images",
    }
)


_KEPT = frozenset(
    {
        "archive",
        "runs",
        "mail",
        # The key by which the nodes know this controller, and who took nodes by force.
        "ssh",
        "forced.jsonl",
        # Machines that a killed trial left on: the next tick or run takes them back.
        "switched-on.json",
        # As versions before the database kept what they knew.
        "alerts.json",
        "analysis",
        "calibration",
        "confirmations",
        "delivered.json",
        "outbox",
        "owed",
    }
)
"""What nothing but a night, or a person, can make again; with every database beside it."""
_TAKEN_OVER = re.compile(r"\.(migrated|damaged|changed-later)(-\d+)?$")
"""How the names of such files end once the database has taken them over, or could not."""
_DATABASE = re.compile(r".+\.db(-wal|-shm|-journal)?")


CONTROLLER_SERVICES = ("netboot", "netboot/site")
"""The state folders of what a controller runs for its nodes: booting from the network; time, names and a way out."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was ended, and what is still there of the state folder."""

    ended: list[str]
    kept: list[Path]


class NotAStateFolder(UsageError):
    """The folder to remove does not look like a state folder of perfci."""

    template = "{path} does not look like a state folder of perfci: nothing in it is perfci's"
    help = "Check PERFCI_STATE_DIR and `state_dir` in perfci.toml. Nothing was removed."


class RunsStay(LabError):
    """A run uses the state folder, and perfci can't end its process."""

    template = ("{path} is used by runs of other hosts, or by runs whose process perfci can't identify: {runs}")
    help = "Nothing was removed. End these runs where they run, then run `perfci clean` again."


def clean(state: StateFolder, project: Path, *, purge: bool = False) -> Cleaned:
    """Stop the runs, the virtual lab and the services of a state folder, then remove what can be made again.

    The archive, the databases, the mail and runs that are not archived yet stay, unless `purge`. `project`
    is the folder with the inventories. Raises NotAStateFolder, before anything is done, for a folder that
    holds nothing of ours, RunsStay, RootNeeded where a virtual lab is up and this is not root, and UnitsStay.
    """
    _check(state.root)
    runs = [folder for folder in unfinished(state.runs) if folder.alive()]
    found = {folder.run_id: folder.process() for folder in runs}
    if unknown := [run_id for run_id, process in found.items() if process is None]:
        raise RunsStay(path=state.root, runs=", ".join(unknown))
    if found:
        end([process for process in found.values() if process], grace_seconds=_STOP_SECONDS)
    if left(state.root, project):
        down(state.root, project)
    # The services of the roles netboot and site_services have state folders of their own, so that no cloud's end
    # stops them.
    ended = [
        *(folder.run_id for folder in runs),
        *(name for root in state.clouds for name in reap(root)),
        # First their units, where they have any: systemd would start them again.
        *(name for folder in CONTROLLER_SERVICES for name in units.remove(state.root / folder)),
        *(name for folder in CONTROLLER_SERVICES for name in reap(state.root / folder)),
    ]
    if not state.root.exists():
        return Cleaned(ended, [])
    kept = [] if purge else sorted(path for path in state.root.iterdir() if keeps(path))
    if not kept:
        shutil.rmtree(state.root)
        return Cleaned(ended, [])
    for path in state.root.iterdir():
        if path not in kept:
            _remove(path)
    return Cleaned(ended, kept)


def keeps(path: Path) -> bool:
    """Tell whether `clean` keeps this part of a state folder: what is known there, not an empty folder."""
    name = _TAKEN_OVER.sub("", path.name)
    if path.is_dir():
        return name in _KEPT and any(path.iterdir())
    return name in _KEPT or _DATABASE.fullmatch(path.name) is not None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _check(root: Path) -> None:
    if root.is_dir() and any(root.iterdir()) and not _OURS & {path.name for path in root.iterdir()}:
        raise NotAStateFolder(path=root)
