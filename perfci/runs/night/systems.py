"""Which system the machines of a run work with: a fresh image, or the one that an earlier run put on them.

Fresh images take real machines 10 to 15 minutes each. So re-runs and trials deploy again on the system that
is there, as long as nothing is left on it: `playbooks/reuse.yml` compares each machine with what it was after
provisioning. All machines of a run get the same: one that differs means a fresh image for all.

What a process knows of the machines that it provisioned (`KeptMachines`) ends with it: nobody trusts a system
that another process left. That they are on is written down, so that they are taken back where it is killed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from perfci.runs.ansible.playbook import PlaybookFailed, PlaybookTimeout
from perfci.runs.state.switched_on import switched_on

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from perfci.runs.ansible.playbook import Playbooks
    from perfci.runs.state.run_folder import WorkFolder
    from perfci.runs.state.state_folder import StateFolder
    from perfci.runs.state.switched_on import Machines

SUPPLIES = "supplies"
"""The playbook that makes, on the controller, what machines behind BMCs get."""
REUSE = "reuse"
"""The playbook that looks whether machines are as provisioning left them."""
DIFFERENCES = "differences.json"
"""In the folder of a run: what was different on each machine, as that playbook writes it."""
_MOST_TOLD = 3
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class System:
    """The system of a machine: the run that put it there, and how many clouds were deployed on it."""

    since: str
    deployments: int


@dataclass(slots=True)
class KeptMachines:
    """The machines that runs of this process left provisioned, by name.

    With a state folder they are written down there: for runs that don't hold them all the time. Where that
    fails the log says so; it costs no run.
    """

    systems: dict[str, System] = field(default_factory=dict)
    state: StateFolder | None = None

    def keep(self, nodes: Iterable[str], system: System, run_id: str) -> None:
        """Remember that a run leaves these on, with this system."""
        nodes = tuple(nodes)
        self.systems |= dict.fromkeys(nodes, system)
        self._write(lambda machines: machines.note(nodes, run_id))

    def forget(self, nodes: Iterable[str]) -> None:
        """Expect nothing of these any more: they were taken back, or somebody else has them."""
        nodes = tuple(nodes)
        self.give_up(nodes)
        self._write(lambda machines: machines.strike(nodes))

    def give_up(self, nodes: Iterable[str]) -> None:
        """Expect nothing of these any more; that they are on stays written down."""
        for node in nodes:
            self.systems.pop(node, None)

    def _write(self, change: Callable[[Machines], None]) -> None:
        if self.state is None:
            return
        try:
            with switched_on(self.state) as machines:
                change(machines)
        except OSError:
            _logger.exception("which machines are left on can't be written down")


@dataclass(frozen=True, slots=True)
class SystemUsed:
    """What a run worked with. `reason` says why it was a fresh image; empty for the first of a series.

    `deployments` counts the clouds on this system, that of the run included.
    """

    fresh: bool
    since: str
    deployments: int
    reason: str = ""

    @property
    def text(self) -> str:
        """Say it in one line."""
        if self.fresh:
            return f"a fresh image{f': {self.reason}' if self.reason else ''}"
        return f"no new image: deployment {self.deployments} on the system that {self.since} installed"

    def as_dict(self) -> dict[str, Any]:
        """Return it as it stands in run.json."""
        return {
            "fresh": self.fresh,
            "since": self.since,
            "deployments": self.deployments,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Reuse:
    """Machines whose system may be used again, if nothing is different on them."""

    nodes: tuple[str, ...]
    system: System


def candidates(
    kept: Mapping[str, System], taken: Iterable[str], *, count: int, reimage_every: int, unfit: str = ""
) -> Reuse | str:
    """Return which of the machines that a run took may keep their system; or why they get a fresh image.

    `count` machines are needed. `unfit` says why the cloud can't be deployed on a used system.
    """
    known = {node: kept[node] for node in sorted(taken) if node in kept}
    if unfit or not known:
        return unfit
    if len(known) < count:
        return f"only {', '.join(known)} of the {count} machines had a system of an earlier run"
    chosen = dict(list(known.items())[:count])
    systems = set(chosen.values())
    if len(systems) > 1:
        return "different runs provisioned the machines"
    (system,) = systems
    if system.deployments >= reimage_every:
        return f"provision.reimage_every allows {reimage_every} deployments on one system"
    return Reuse(tuple(chosen), system)


def why_not(found: Any, nodes: Iterable[str]) -> str:
    """Return why machines can't be used again, by what the playbook wrote; empty where they can.

    A machine of which nothing is known can't.
    """
    known: dict[str, Any] = found if isinstance(found, dict) else {}
    told = []
    for node in nodes:
        lines = known.get(node)
        if lines == []:
            continue
        lines = list(map(str, lines)) if isinstance(lines, list) else ["nothing is known of it"]
        more = len(lines) - _MOST_TOLD
        told.append(f"{node}: {'; '.join(lines[:_MOST_TOLD])}{f'; and {more} more' if more > 0 else ''}")
    return " | ".join(told)


@dataclass(frozen=True, slots=True)
class Systems:
    """How the machines of one run get their system, and whether they keep it for the next run.

    `count` of them are needed; `unfit` says why the run's cloud needs a fresh one.
    """

    kept: KeptMachines = field(default_factory=KeptMachines)
    reimage_every: int = 1
    count: int = 1
    unfit: str = ""

    @property
    def stay(self) -> bool:
        """Whether the machines stay provisioned for a further run."""
        return self.reimage_every > 1 and not self.unfit

    def install(
        self, play: Callable[..., None], books: Playbooks, work: WorkFolder, tell: Callable[[str], None]
    ) -> tuple[Playbooks, SystemUsed | None]:
        """Give the machines a system; return the playbooks for those that have one, and which it is.

        `play(books, playbook, **variables)` runs a playbook. Raises what it raises, but not where machines
        could only not be looked at: they get a fresh image. Without machines there is nothing to do.
        """
        if not books.nodes:
            return books, None
        play(books, SUPPLIES)
        books, used = self._installed(play, books, work)
        work.note(system=used.as_dict())
        if not used.fresh or used.reason:
            tell(f"The machines get {used.text}.")
        return books, used

    def _installed(
        self, play: Callable[..., None], books: Playbooks, work: WorkFolder
    ) -> tuple[Playbooks, SystemUsed]:
        offer = candidates(
            self.kept.systems,
            books.nodes,
            count=self.count,
            reimage_every=self.reimage_every,
            unfit=self.unfit,
        )
        if isinstance(offer, Reuse):
            reason = self._looked_at(offer, play, replace(books, nodes=offer.nodes), work)
            if not reason:
                again = SystemUsed(
                    fresh=False, since=offer.system.since, deployments=offer.system.deployments + 1
                )
                return replace(books, nodes=offer.nodes), again
            offer = reason
        self.kept.give_up(books.nodes)
        # Only who will look at them again has the machines remember what they were.
        play(books, "provision", node_baseline_mark=work.run_id if self.stay else "")
        return books, SystemUsed(fresh=True, since=work.run_id, deployments=1, reason=offer)

    def _looked_at(self, offer: Reuse, play: Callable[..., None], books: Playbooks, work: WorkFolder) -> str:
        """Look at the machines; return why they can't be used again."""
        record = work.path / DIFFERENCES
        try:
            play(books, REUSE, node_baseline_mark=offer.system.since, node_baseline_record=str(record))
        except (PlaybookFailed, PlaybookTimeout) as error:
            return f"perfci could not check them: {error}"
        return why_not(work.read(DIFFERENCES), offer.nodes)

    def settle(
        self, used: SystemUsed | None, nodes: Iterable[str], taken_back: Collection[str], run_id: str
    ) -> None:
        """Remember which of the machines that a run worked on it left provisioned; None: it had no system."""
        self.kept.forget(taken_back)
        if used is not None and self.stay:
            left = [node for node in nodes if node not in taken_back]
            self.kept.keep(left, System(used.since, used.deployments), run_id)
