"""Running one Ansible playbook: progress, a time limit, and an error that says what failed where."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import ansible_runner

from perfci.errors import FailureClass, PerfciError
from perfci.runs.state.processes import RUN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_FAILED_EVENTS = frozenset({"runner_on_failed", "runner_on_unreachable", "runner_item_on_failed"})
_OF_THE_CONTROLLER = frozenset({"controller", "supplies"})
"""Playbooks that reach no node, and need the way out that the nodes' network does not have."""
_WITH_THE_CONTROLLER = frozenset({"supplies", "provision", "reclaim"})
"""Playbooks that also work on the group `controller`, which has to be within their limit."""


class PlaybookFailed(PerfciError):
    """A task of a playbook failed, or a host could not be reached."""

    template = "{playbook}: {where}: {detail}"
    help = "The whole output is in {log}."

    def __init__(self, *, role: str = "", **fields: Any) -> None:
        self.role = role
        super().__init__(**fields)


class PlaybookTimeout(PerfciError):
    """A playbook did not end within its time limit."""

    template = "{playbook} did not end within {seconds:.0f} s; it was at: {where}"
    help = "See {log} for what it waited for. The job's `limits` set how long a stage may take."

    def __init__(self, *, role: str = "", **fields: Any) -> None:
        self.role = role
        super().__init__(**fields)


class Interrupted(PerfciError):
    """A person or the system asked perfci to stop."""

    template = "stopped by a signal"
    help = "Nothing is left running. Start the job again when it suits."
    failure_class: ClassVar[FailureClass] = FailureClass.LAB


_HIDDEN = "'no_log: true' was specified"
"""In what Ansible says in place of the words of a task that handles secrets."""


@dataclass(slots=True)
class _Watcher:
    """Follows the events of one playbook."""

    on_step: Callable[[str], None]
    task: str = "start"
    role: str = ""
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    """(role, task on host, message) in the order in which they happened."""
    hosts: set[str] = field(default_factory=set)
    """On which a task was begun."""

    def __call__(self, event: dict[str, Any]) -> bool:
        data = event.get("event_data", {})
        if event.get("event") == "playbook_on_task_start":
            self.task, self.role = str(data.get("task", "")), str(data.get("role", "") or "")
            self.on_step(self.task)
        elif event.get("event") == "runner_on_start":
            self.hosts.add(str(data.get("host", "")))
        elif event.get("event") == "runner_retry":
            self._progress(str(data.get("res", {}).get("stdout", "")))
        elif event.get("event") in _FAILED_EVENTS and not data.get("ignore_errors"):
            where = f"{data.get('task', self.task)} on {data.get('host', '?')}"
            self.failures.append((str(data.get("role") or self.role), where, _message(data.get("res", {}))))
        return False

    def _progress(self, output: str) -> None:
        """Tell the last line that a task printed which looks again and again until something is so."""
        if lines := output.strip().splitlines():
            self.on_step(f"{self.task}: {lines[-1]}")


def _first(failures: Sequence[tuple[str, str, str]]) -> tuple[str, str, str] | None:
    """Return the first failure. Of a task that hides what it says, the next one on its host has the words."""
    if not failures:
        return None
    role, where, detail = failures[0]
    host = where.rpartition(" on ")[2]
    if _HIDDEN in detail:
        said = (text for _, place, text in failures[1:] if place.endswith(f" on {host}"))
        detail = next((text for text in said if _HIDDEN not in text), detail)
    return role, where, detail


def _message(result: Mapping[str, Any]) -> str:
    """Return what a failed task said, as short as it can be told."""
    if "results" in result:
        failed = [item for item in result["results"] if item.get("failed")]
        if failed:
            return _message(failed[0])
    parts = [str(result.get(name, "")).strip() for name in ("msg", "stderr", "module_stderr")]
    text = "\n".join(part for part in dict.fromkeys(parts) if part)
    return text or json.dumps({k: v for k, v in result.items() if not k.startswith("_")})[:2000]


@dataclass(frozen=True, slots=True)
class Playbooks:
    """The playbooks of one checkout, run against one inventory.

    `variables` go to every playbook, through a file, so that they never stand on a command line.
    `nodes` are the machines behind BMCs that playbooks are limited to; where there are none, it is all
    of the inventory. `entering` begins the command line of what reaches nodes in another network
    namespace, as `nsenter --net=FILE`. `parts` is an inventory file beside the lab's own, which says which
    node plays which part of the cloud.
    """

    root: Path
    inventory: Path
    variables: Mapping[str, Any]
    environment: Mapping[str, str]
    stop: threading.Event = field(default_factory=threading.Event)
    nodes: tuple[str, ...] = ()
    entering: tuple[str, ...] = ()
    parts: Path | None = None

    def run(
        self,
        name: str,
        *,
        log: Path,
        limit_seconds: float,
        variables: Mapping[str, Any] | None = None,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Run playbooks/NAME.yml to its end; its output goes to `log`.

        Raises PlaybookFailed, PlaybookTimeout, or Interrupted when `stop` is set meanwhile.
        """
        watcher = _Watcher(on_step)
        log.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._home()
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="play-", dir=scratch) as private:
            result = ansible_runner.run(
                private_data_dir=private,
                project_dir=str(self.root),
                playbook=f"playbooks/{name}.yml",
                inventory=[str(source) for source in (self.inventory, self.parts) if source],
                extravars={**self.variables, **(variables or {})},
                envvars=self._environment(self._programs(name, Path(private))),
                limit=self._limit(name),
                event_handler=watcher,
                cancel_callback=self.stop.is_set,
                settings={"job_timeout": limit_seconds, "pexpect_timeout": 1},
                quiet=True,
            )
            _keep_output(result, log)
        if self.stop.is_set():
            raise Interrupted
        self._raise_for(result.status, name, log, limit_seconds, watcher)

    def uninterrupted(self) -> Playbooks:
        """Return the same playbooks for cleaning up, which must not be interrupted any more."""
        return replace(self, stop=threading.Event())

    def of_run(self, run_id: str) -> Playbooks:
        """Return the same playbooks for one run, whose mark all that they start will carry."""
        return replace(self, environment={**self.environment, RUN: run_id})

    def _limit(self, name: str) -> str | None:
        more = ("controller",) if name in _WITH_THE_CONTROLLER else ()
        return ",".join((*self.nodes, *more)) if self.nodes else None

    def _programs(self, name: str, private: Path) -> Path:
        """Return the folder with Ansible's programs; they enter the nodes' network where that is needed."""
        real = Path(sys.executable).parent
        if not self.entering or name in _OF_THE_CONTROLLER:
            return real
        program = private / "bin" / "ansible-playbook"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shlex.join([*self.entering, str(real / program.name)])} "$@"\n')
        program.chmod(0o700)
        return program.parent

    def _home(self) -> Path:
        return Path(self.environment["PERFCI_STATE_DIR"]) / "ansible"

    def _environment(self, programs: Path) -> dict[str, str]:
        inherited = os.environ.get("PATH", os.defpath)
        return {
            **self.environment,
            "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), inherited]),
            "ANSIBLE_CONFIG": str(self.root / "ansible.cfg"),
            "ANSIBLE_HOME": str(self._home()),
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_NOCOLOR": "1",
        }

    def _raise_for(self, status: str, name: str, log: Path, limit_seconds: float, seen: _Watcher) -> None:
        if status == "timeout":
            where = f"{seen.role} : {seen.task}" if seen.role else seen.task
            raise PlaybookTimeout(
                playbook=f"playbooks/{name}.yml", seconds=limit_seconds, where=where, log=log, role=seen.role
            )
        if status == "successful":
            self._refuse_nothing_done(name, log, seen.hosts)
            return
        role, where, detail = _first(seen.failures) or ("", seen.task, _tail(log))
        raise PlaybookFailed(
            playbook=f"playbooks/{name}.yml", where=where, detail=detail, log=log, role=role or seen.role
        )

    def _refuse_nothing_done(self, name: str, log: Path, hosts: set[str]) -> None:
        """Raise PlaybookFailed where no play had a host: Ansible passes over that, and calls it a success."""
        meant = frozenset(self.nodes) if self.nodes and name not in _OF_THE_CONTROLLER else hosts
        if hosts and not meant.isdisjoint(hosts):
            return
        nodes = ", ".join(self.nodes) or "the inventory"
        detail = f"nothing was done: none of {nodes} is in a group that this playbook is for"
        raise PlaybookFailed(playbook=f"playbooks/{name}.yml", where="no host", detail=detail, log=log)


def _keep_output(result: Any, log: Path) -> None:
    with result.stdout as source, log.open("a", encoding="utf-8", errors="replace") as target:
        target.writelines(source)


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
