"""Small nights with recorded playbooks, and what must hold after one of them ended early; see kill_harness."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import archives
from recorded_playbooks import Recorded

from perfci import config
from perfci.files import write_json
from perfci.lab import owners
from perfci.lab.model import Owner
from perfci.lab.sql import open_ledger
from perfci.results.archive import read_archive
from perfci.runs.ansible.playbook import PlaybookFailed
from perfci.runs.jobs.load import load_job
from perfci.runs.jobs.sources import Source, Sources
from perfci.runs.night import night as night_module
from perfci.runs.night.assemble import night
from perfci.runs.state import run_folder
from perfci.runs.state.archive import run_folders
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.processes import processes_of
from perfci.runs.state.progress import Silent
from perfci.runs.state.run_folder import MANIFEST
from perfci.runs.state.unreported import owing
from perfci.runs.verdicts.judgement_store import read_judgements
from perfci.runs.verdicts.lab_services import LabServices

if TYPE_CHECKING:
    from collections.abc import Iterator


JOB = """name: nightly
scenarios:
  - {task: ports, times: 28, warmup: 2}
analysis:
  confirm: {enabled: %s, most_runs: 6}
mail: {to: [team@example.org]}
"""
BASELINE = 8
SLOWER, FAILED = "nightly: neutron", "run failed in"
"""What the subjects of the two mails have in them."""
STEPS = ("store", "analyse", "confirm", "alert", "publish")
"""What follows the archive: a fault there is the admins' mail, and the run did not fail."""
GOOD_CODE, SLOW_CODE = "29.0.0", "29.1.0"
PID_MAX = Path("/proc/sys/kernel/pid_max")


def run_id(number: int, rerun: int = 0) -> str:
    """Return the id of a night by its number, or of one of its re-runs; ids sort by it."""
    if rerun:
        return f"202611{number:02d}T05{rerun:02d}00Z-nightly-confirm-{rerun:04x}"
    return f"202611{number:02d}T041500Z-nightly-{number:04x}"


@dataclass
class Project:
    """A lab whose playbooks are recorded."""

    root: Path
    slower: bool = False
    """Whether a night deploys the slow code."""
    fails: bool = False
    """Whether the hammer fails."""
    confirm: bool = False
    """Whether what looks slower is run again."""
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    """What the playbooks left running."""

    @property
    def settings(self) -> config.Settings:
        """The settings, read again."""
        return config.load(
            environ={
                "PERFCI_ROOT_DIR": str(self.root),
                "PERFCI_STATE_DIR": str(self.state),
                "PERFCI_INFLUX__URL": "http://127.0.0.1:9",
                "PERFCI_MAIL__ADMINS": '["admins@example.org"]',
            }
        )

    @property
    def state(self) -> Path:
        """Its state folder."""
        return self.root / "state"

    def make(self) -> None:
        """Write the files of the project."""
        for folder in ("playbooks", "inventory/embedded", "jobs/tasks"):
            (self.root / folder).mkdir(parents=True)
        (self.root / "inventory/embedded/hosts.yml").write_text("cloud: {hosts: {node-0: {}}}\n")
        (self.root / "jobs/tasks/ports.yml.j2").write_text("{}\n")
        self.write_job()

    def write_job(self) -> None:
        """Write the job file."""
        (self.root / "jobs/nightly.yml").write_text(JOB % str(self.confirm).lower())

    def night(self, number: int) -> Any:
        """Run a night, as a process that is dead afterwards."""
        played = Recorded(sample=Path())
        played.instead = {"deploy": self._deploy, "hammer": self._hammer, "teardown": lambda _: None}
        played.install(_Setter())
        ids = iter([run_id(number), *(run_id(number, again) for again in range(1, 60))])
        night_module.new_run_id = lambda *_: next(ids)
        # Re-runs in turns, however much memory there is: recorded reports have no pairs.
        night_module.carry_two = lambda *_, **__: False
        job = load_job("nightly", self.root / "jobs")
        if self.slower:
            job = job.model_copy(update={"sources": Sources(neutron=Source(version=SLOW_CODE))})
        myself = owners.me()
        gone = Owner(myself.host, myself.boot, int(PID_MAX.read_text()), 1)
        owners.me = lambda: gone  # type: ignore[assignment]
        try:
            return night(job, self.settings, holder="tester", progress=Silent()).run()
        finally:
            owners.me = lambda: myself  # type: ignore[assignment]
            for handle in run_folder._held.values():
                os.close(handle)
            run_folder._held.clear()

    def leave_running(self, run: str) -> None:
        """Start what a playbook leaves running for a run."""
        marks = {"PERFCI_STATE_DIR": str(self.state), "PERFCI_SERVICE": "nova", "PERFCI_RUN": run}
        environment = {"PATH": os.environ["PATH"], **marks}
        self.started.append(subprocess.Popen(["sleep", "600"], env=environment, stdout=subprocess.DEVNULL))

    def running(self) -> bool:
        """Tell whether anything that a playbook started still runs."""
        return any(process.poll() is None for process in self.started)

    def end(self) -> None:
        """End what the playbooks left running, and wait for it."""
        for process in self.started:
            process.kill()
            process.wait()
        self.started.clear()

    def _deploy(self, folder: Path) -> None:
        self.leave_running(folder.name)
        version = _version(folder)
        services = [
            {"service": "neutron", "version": version, "source": "wheel", "revision": version, "changes": []}
        ]
        write_json(folder / "code.json", {"services": services, "packages": {}})
        write_json(folder / "environment.json", {})

    def _hammer(self, folder: Path) -> None:
        if self.fails:
            raise PlaybookFailed(playbook="hammer", where="here", detail="no luck", log="x")
        (folder / "rally").mkdir()
        seed = int(folder.name[6:8]) + 100 * int(folder.name.rpartition("-")[2], 16)
        report = archives.report(factor=1.5 if _version(folder) == SLOW_CODE else 1.0, seed=seed)
        (folder / "rally" / "01-ports.json").write_text(json.dumps(report))
        task = {
            "slug": "01-ports", "task": "ports", "scenario": archives.SCENARIO, "warmup": 2, "times": 28,
            "concurrency": 2, "started_at": 1_700_000_000.0, "finished_at": 1_700_000_400.0, "status": "finished",
            "error": None,
        }  # fmt: skip
        write_json(folder / "tasks.json", [task])


class _Setter:
    """Sets attributes for good: the process is the nights' alone."""

    def setattr(self, owner: Any, name: str, value: Any) -> None:
        setattr(owner, name, value)


def _version(folder: Path) -> str:
    return SLOW_CODE if SLOW_CODE in (folder / "job.yml").read_text() else GOOD_CODE


@dataclass(frozen=True)
class Said:
    """What was said of some nights."""

    judged: dict[str, list[tuple[str, str]]]
    slower: int
    failed: int


def said(services: LabServices, runs: tuple[str, ...]) -> Said:
    """Return what was said of runs: the outcome of each series, and how many mails of either kind there are."""
    subjects = [_subject(path.read_text()) for path in (services.state.mail / "new").glob("*")]
    return Said(
        {
            run: sorted((one.key.label, str(one.outcome)) for one in read_judgements(services.database, run))
            for run in runs
        },
        sum(SLOWER in one for one in subjects),
        sum(FAILED in one and not any(f"{FAILED} {step} " in one for step in STEPS) for one in subjects),
    )


def _subject(text: str) -> str:
    return next((line for line in text.splitlines() if line.startswith("Subject:")), "")


def wrong(
    project: Project, first: str, early: str, last: str, references: dict[str, list[Said]]
) -> Iterator[str]:
    """Say what does not hold after the night `early` ended somehow and `last` went well.

    `first` is the first run that something may have happened to. `references` is what is to be said, by how the
    night `early` came out: each may be.
    """
    services = LabServices(project.settings)
    folders = {folder.name: folder for folder in run_folders(services.state.archive)}
    if last not in folders:
        yield "the next night is not archived"
        return
    yield from _left_over(project, services, folders)
    for name, folder in folders.items():
        if name >= first:
            yield from _whole(folder)
            read_archive(folder)
    indexed = services.local.run_ids("embedded", "nightly")
    if sorted(indexed) != sorted(folders):
        yield f"the index has {set(indexed) ^ set(folders)} too many or too few"
    status = {
        name: ArchivedRun(folders[name]).document["status"] for name in (early, last) if name in folders
    }
    if status[last] != "finished":
        yield "the next night failed"
    possible = references[status.get(early, "none")]
    found = said(services, tuple(possible[0].judged))
    if found not in possible:
        yield f"of {early} ({status.get(early, 'not archived')}) was said {found}, not {possible}"


def _left_over(project: Project, services: LabServices, folders: dict[str, Path]) -> Iterator[str]:
    state = services.state
    found = {
        "left in runs/": [path.name for path in state.runs.iterdir() if path.is_dir()],
        "no runs in the archive": [
            path.name for path in state.archive.iterdir() if path.name not in {*folders, "reruns"}
        ],
        "nodes are held": open_ledger(project.settings).held(),
        "still running": processes_of(state.root),
        "not reported": owing(services.database, state),
        "letters wait": services.outbox.letters(),
    }
    yield from (f"{name}: {what}" for name, what in found.items() if what)


def _whole(folder: Path) -> Iterator[str]:
    listed = json.loads((folder / MANIFEST).read_text())["files"]
    found = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }
    if listed != found:
        yield f"{folder.name} is not what its manifest says: {set(listed.items()) ^ set(found.items())}"
