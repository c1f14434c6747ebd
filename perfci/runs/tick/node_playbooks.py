"""The project's playbooks on the nodes of a reservation: system, canary, cloud, and taking back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perfci.errors import PerfciError
from perfci.lab.errors import ControllerUnprepared
from perfci.lab.reservations.model import Wipe
from perfci.parsing import NotReadable, yaml_value
from perfci.runs.ansible.lab_playbooks import (
    PARTS_FILE,
    cloud_parts,
    cloud_variables,
    node_playbooks,
    spread,
)
from perfci.runs.ansible.playbook import PlaybookFailed, PlaybookTimeout
from perfci.runs.jobs.node_roles import SEVERAL
from perfci.runs.night.measure import KEEP_RUNNING
from perfci.runs.tick.clouds import cloud_job

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from perfci.config import Settings
    from perfci.lab.model import Node
    from perfci.lab.reservations.model import Booking
    from perfci.runs.ansible.playbook import Playbooks
    from perfci.runs.jobs.model import Job

    Play = Callable[[str, tuple[str, ...], str], dict[str, str]]

CLOUD = "cloud"
"""Not one playbook but those that deploy a cloud, up to a server that booted."""
ACTIVITY = "activity"
"""The playbook that looks whether anybody works on nodes."""
LOGIN = "login"
"""The playbook that says whose SSH keys open nodes."""
RECLAIMS = {wipe: "reclaim" if wipe is Wipe.NONE else f"reclaim-{wipe}" for wipe in Wipe}
"""The playbook that takes machines back, called after what it wipes of their disks."""
_WIPES = {name: wipe for wipe, name in RECLAIMS.items() if wipe is not Wipe.NONE}
PREPARE_SECONDS = 3600.0
CHECK_SECONDS = 600.0
RECLAIM_SECONDS = 900.0
WIPE_SECONDS = {Wipe.HEADERS: 3600.0, Wipe.FULL: 2 * 86400.0}
"""The playbook ends before that what is silent for too long: `provision_wipe_seconds` in the inventory."""
FOLDER = "reservations"
"""In the state folder: one folder for each reservation, with the access to its cloud."""
_PREPARE = frozenset({"provision", "check"})
"""Where these fail without a word about a node, no node is at fault: another one would fare no better."""
_DEPLOYS = {"devstack": "devstack"}
_LIMITS = {"provision": PREPARE_SECONDS, "supplies": PREPARE_SECONDS, "check": CHECK_SECONDS}


class NodePlaybooks:
    """Runs the project's playbooks on some nodes, and says which of them failed."""

    def __init__(
        self,
        settings: Settings,
        nodes: tuple[Node, ...],
        stop: threading.Event,
        booking: Booking | None = None,
    ) -> None:
        self._settings = settings
        self._nodes = nodes
        self._stop = stop
        self._booking = booking

    def play(self, playbook: str, names: tuple[str, ...], reason: str) -> dict[str, str]:
        """Return the nodes that failed, each with the words; where nobody can say which, all of them.

        `playbook` is `provision`, `check`, `teardown`, one of RECLAIMS, ACTIVITY, LOGIN or CLOUD.
        Raises Interrupted, and ControllerUnprepared where `provision` or `check` fails on no node.
        """
        try:
            self._run(playbook, names, reason)
        except PlaybookFailed as error:
            if playbook in _PREPARE and not named_nodes(names, str(error)):
                raise ControllerUnprepared(reason=error) from error
            return failed_nodes(names, str(error))
        except PlaybookTimeout as error:
            return dict.fromkeys(names, str(error))
        except PerfciError as error:
            if self._stop.is_set():
                raise
            if playbook in _PREPARE:
                raise ControllerUnprepared(reason=error) from error
            return dict.fromkeys(names, str(error))
        return {}

    def _run(self, playbook: str, names: tuple[str, ...], reason: str) -> None:
        chosen = [node for node in self._nodes if node.name in names]
        books = node_playbooks(self._settings, chosen, self._stop)
        # The book says that the nodes are the holder's: that is for whom this is done, and it is recorded.
        variables: dict[str, Any] = {
            "provision_force": True,
            "provision_reason": reason,
            "provision_nodes": ",".join(names),
        }
        folder, job = self._folder(names), self._job()
        deploy = "deploy"
        if job is not None:
            variables |= cloud_variables(job, self._settings.root_dir)
            deploy = _DEPLOYS.get(job.cloud.kind, deploy)
            if playbook == CLOUD:
                books = spread(books, cloud_parts(job, books), folder)
        keys = self._booking.keys if self._booking else ()
        needed = {
            # Nodes without a cloud run nobody's code: there is none to make for them.
            "provision": ("supplies", "provision", *((LOGIN,) if keys else ())),
            CLOUD: ("setup", deploy, "access"),
        }
        if playbook == LOGIN or keys:
            variables["login_keys"] = list(keys)
        if playbook == ACTIVITY:
            variables["perfci_run_dir"] = str(folder)
        elif playbook in needed:
            variables |= {"perfci_run_dir": str(folder), "supplies_code": job is not None}
            if books.nodes:
                variables["perfci_node_run_dir"] = "{{ perfci_state_dir }}/reservation"
        elif playbook in _WIPES:
            variables["reclaim_wipe"] = str(_WIPES[playbook])
        elif playbook == "teardown":
            variables["teardown_keep"] = list(KEEP_RUNNING)
        name = playbook if playbook == "provision" else needed.get(playbook, (playbook,))[-1]
        log = self._settings.state_dir / "logs" / f"{name}-{'-'.join(names)[:80]}.log"
        if playbook in _WIPES:
            books.run("reclaim", log=log, limit_seconds=WIPE_SECONDS[_WIPES[playbook]], variables=variables)
        else:
            self._play(books, needed.get(playbook, (playbook,)), variables, log=log, job=job)

    def _play(
        self,
        books: Playbooks,
        playbooks: tuple[str, ...],
        variables: dict[str, Any],
        *,
        log: Path,
        job: Job | None,
    ) -> None:
        limits = _LIMITS | (dict.fromkeys(("setup", "deploy", "devstack"), job.limits.deploy) if job else {})
        for name in playbooks:
            books.run(name, log=log, limit_seconds=limits.get(name, RECLAIM_SECONDS), variables=variables)

    def _job(self) -> Job | None:
        booking = self._booking
        if booking is None or not booking.cloud:
            return None
        return cloud_job(booking.cloud, booking.wish.size, self._settings)

    def _folder(self, names: tuple[str, ...]) -> Path:
        """Return the folder of the reservation on the controller; nobody else may read it."""
        name = self._booking.id if self._booking else "-".join(names)[:80]
        folder = folder_of(self._settings, name)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder


def folder_of(settings: Settings, reservation_id: str) -> Path:
    """Return where the controller keeps the files of a reservation, such as the access to its cloud."""
    return settings.state_dir / FOLDER / reservation_id


def cloud_groups(settings: Settings, reservation_id: str) -> dict[str, tuple[str, ...]]:
    """Return which nodes of a reservation play which part of its cloud, by group; empty without parts.

    Raises NotReadable where the file that says so is damaged.
    """
    try:
        written = yaml_value((folder_of(settings, reservation_id) / PARTS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    try:
        (of_kind,) = written["all"]["children"][SEVERAL]["children"].values()
        return {name: tuple(group["hosts"]) for name, group in of_kind["children"].items()}
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise NotReadable(f"{PARTS_FILE} says of no node which part it plays") from error


def failed_nodes(names: tuple[str, ...], text: str) -> dict[str, str]:
    """Return the nodes that a playbook's error names; where it names none, all of them."""
    return named_nodes(names, text) or dict.fromkeys(names, text.splitlines()[0])


def named_nodes(names: tuple[str, ...], text: str) -> dict[str, str]:
    """Return the nodes that a playbook's error names, at the begin of a line or as the host."""
    found = {}
    for name in names:
        told = [line for line in text.splitlines() if line.strip().startswith(f"{name}: ")]
        if told or f" on {name}: " in text:
            found[name] = told[0].strip() if told else text.splitlines()[0]
    return found
