"""Whose CPU time it was: pure bookkeeping over snapshots of the process table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proc_reader import Process

CONTROLLER = ""
"""Account of the lab's processes that are no service: perfci, Ansible, the supervisor."""
_CONTROLLERS = frozenset({"supervisord", "deploy"})
"""Marks that perfci's own helpers carry."""
KERNEL = "(kernel)"
"""Account of the kernel's threads: busy, but nobody's."""
_KTHREADD = 2

Account = str | None
"""A service's name, CONTROLLER, KERNEL, or None for a process that is not the lab's."""


@dataclass(slots=True)
class _Known:
    process: Process
    account: Account
    sightings: int = 1
    unclaimed: float = 0.0
    """CPU seconds of reaped children that have not been put to an account yet; negative while a child
    has vanished whose time has not arrived in the parent's sum."""
    heir: Account = None
    """The account that `unclaimed` goes to."""
    last_child: Account = None
    """Account of a child that vanished, until its time has arrived."""
    bereaved: bool = False
    """A child vanished in this very snapshot."""

    def claim(self) -> tuple[Account, float]:
        """Return what is unclaimed and the account it belongs to, and forget it."""
        heir = self.heir if self.last_child is None else self.last_child
        due, self.unclaimed = max(0.0, self.unclaimed), 0.0
        return heir, due

    def reap(self, seconds: float) -> None:
        """Take in time of children that were waited for."""
        self.unclaimed += seconds
        self.heir = self.account if self.last_child is None else self.last_child
        self.last_child = None


@dataclass(slots=True)
class Service:
    """What one service used: CPU seconds since the first snapshot, and its size now.

    `oldest` is when the oldest of its processes started, in ticks since the machine booted.
    """

    cpu_seconds: float = 0.0
    rss_bytes: int = 0
    processes: int = 0
    oldest: int | None = None


@dataclass(slots=True)
class Accounts:
    """CPU seconds per account since the first snapshot. They never decrease.

    A process belongs to the service named by its mark PERFCI_SERVICE if its PERFCI_STATE_DIR is ours;
    one whose environment can't be read belongs where its parent does. What a process used between the
    last snapshot and its end is not lost: the kernel adds it to the parent's sum of waited-for
    children, and from there it is put to the child's account, or for a child that lived so briefly
    that no snapshot saw it, to the parent's.
    """

    state_dir: str
    environment: Callable[[int], dict[str, str] | None]
    beside: frozenset[str] = frozenset()
    """State folders of other clouds of the same run: their processes are the lab's, but no service of
    this one."""
    services: dict[str, Service] = field(default_factory=dict)
    lab_seconds: float = 0.0
    kernel_seconds: float = 0.0
    _known: dict[tuple[int, int], _Known] = field(default_factory=dict)
    _by_pid: dict[int, _Known] = field(default_factory=dict)
    _started: bool = False

    def update(self, snapshot: Iterable[Process]) -> None:
        """Take in the next snapshot of the process table, in any order."""
        present = {process.key: process for process in snapshot}
        self._vanish(present)
        for service in self.services.values():
            service.rss_bytes = service.processes = 0
            service.oldest = None
        # Parents first, so that a child without a readable mark finds its parent's account.
        for process in sorted(present.values(), key=lambda p: (p.started, p.pid)):
            self._see(process)
        self._started = True

    def _vanish(self, present: dict[tuple[int, int], Process]) -> None:
        gone = [key for key in self._known if key not in present]
        for key in sorted(gone, key=lambda k: k[1], reverse=True):  # children before their parents
            known = self._known.pop(key)
            if self._by_pid.get(known.process.pid) is known:
                del self._by_pid[known.process.pid]
            self._credit(*known.claim())
            parent = self._by_pid.get(known.process.parent)
            if parent is not None:
                parent.unclaimed -= known.process.own + known.process.reaped
                parent.last_child = known.account
                parent.bereaved = True

    def _see(self, process: Process) -> None:
        known = self._known.get(process.key)
        if known is None:
            known = self._meet(process)
        else:
            if known.sightings == 1:
                # Between fork and exec a process still shows its parent's environment.
                known.account = self._account_of(process)
            known.sightings += 1
            self._credit(known.account, process.own - known.process.own)
            self._settle(known, process.reaped - known.process.reaped)
            known.process = process
        if known.account not in (None, CONTROLLER, KERNEL):
            service = self.services.setdefault(known.account, Service())
            service.rss_bytes += process.rss_bytes
            service.processes += 1
            if service.oldest is None or process.started < service.oldest:
                service.oldest = process.started

    def _meet(self, process: Process) -> _Known:
        known = _Known(process, self._account_of(process))
        self._known[process.key] = self._by_pid[process.pid] = known
        if self._started:
            self._credit(known.account, process.own)
            known.reap(process.reaped)
        return known

    def _settle(self, known: _Known, reaped: float) -> None:
        """Put waited-for children's time to an account, one snapshot late.

        Late, because a snapshot takes a while: the parent may have been read before its child ended
        and the child after, or the other way round.
        """
        # Below zero, with nothing arriving later on: somebody else waited for that child, or nobody.
        if known.unclaimed > 0 or (reaped == 0 and not known.bereaved):
            self._credit(*known.claim())
        known.bereaved = False
        if reaped > 0:
            known.reap(reaped)

    def _credit(self, account: Account, seconds: float) -> None:
        if account is None or seconds <= 0:
            return
        if account == KERNEL:
            self.kernel_seconds += seconds
            return
        self.lab_seconds += seconds
        if account != CONTROLLER:
            self.services.setdefault(account, Service()).cpu_seconds += seconds

    def _account_of(self, process: Process) -> Account:
        marks = self.environment(process.pid)
        if marks is None:
            if _KTHREADD in (process.pid, process.parent):
                return KERNEL
            parent = self._by_pid.get(process.parent)
            return parent.account if parent is not None else None
        folder = marks.get("PERFCI_STATE_DIR")
        if folder in self.beside:
            return CONTROLLER
        if folder != self.state_dir:
            return None
        service = marks.get("PERFCI_SERVICE", CONTROLLER)
        return CONTROLLER if service in _CONTROLLERS else service
