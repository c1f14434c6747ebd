"""A small night that is killed, or gets an error, at every write; then the next night, and what must hold.

`python tests/kill_harness.py SCRATCH [--only KIND] [--every N]` prints a JSON summary. Playbooks are not run
(`recorded_playbooks`); all else is the real thing: folders, database, index, mail, pages. Nothing here knows a
format: points are what the interpreter itself reports (audit events of files and folders), what is flushed
(`os.fsync`), and the beginning and the end of each commit of a database.

Each point is a process forked from one that has everything loaded: a night that ends at that point, and one
more that is the next start and looks at what is left.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import archives
import sqlalchemy as sa
from recorded_playbooks import Recorded

from perfci import config
from perfci.files import write_json
from perfci.lab import inventory
from perfci.lab.sql import open_ledger
from perfci.results.archive import read_archive
from perfci.runs.ansible.playbook import PlaybookFailed
from perfci.runs.jobs.load import load_job
from perfci.runs.night import night as night_module
from perfci.runs.night.assemble import night
from perfci.runs.state.archive import run_folders
from perfci.runs.state.archived_run import ArchivedRun
from perfci.runs.state.processes import processes_of
from perfci.runs.state.progress import Silent
from perfci.runs.state.run_folder import MANIFEST
from perfci.runs.state.unreported import owing
from perfci.runs.verdicts.judgement_store import read_judgements
from perfci.runs.verdicts.lab_services import LabServices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perfci.runs.state.state_folder import StateFolder

JOB = """name: nightly
scenarios:
  - {task: ports, times: 28, warmup: 2}
analysis:
  confirm: {enabled: false}
mail: {to: [team@example.org]}
"""
BASELINE = 8
KILLED, NEXT = BASELINE + 1, BASELINE + 2
"""Numbers of the night that ends early and of the one after it; both are slower."""
SLOWER, FAILED = "nightly: neutron", "run failed in"
"""What the subjects of the two mails have in them."""
STEPS = ("store", "analyse", "confirm", "alert", "publish")
"""What follows the archive: a fault there is the admins' mail, and the run did not fail."""
KINDS = ("kill", "eio", "disk full")
CHANGES = frozenset({"os.rename", "os.mkdir", "os.truncate", "os.link"})
REMOVALS = frozenset({"os.remove", "os.rmdir"})
FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def run_id(number: int) -> str:
    """Return the id of a night by its number; ids sort by it."""
    return f"202611{number:02d}T041500Z-nightly-{number:04x}"


@dataclass
class Points:
    """Counts the writes below a folder, and ends things at one of them."""

    root: str
    act: Callable[[], None] = lambda: None
    removals: bool = True
    """Whether removing something is a point; on a full disk it works."""
    at: int = 0
    lasting: bool = False
    """Whether all writes after that one fail as well, as on a full disk."""
    seen: int = 0
    active: bool = False
    names: list[str] = field(default_factory=list)

    def reach(self, name: str) -> None:
        """Note a point, and act if it is the one."""
        if not self.active:
            return
        self.seen += 1
        if self.at == 0:
            self.names.append(name)
        elif self.seen == self.at or (self.lasting and self.seen > self.at):
            self.act()

    def mine(self, path: Any) -> bool:
        """Tell whether a path is below the folder."""
        try:
            return os.path.abspath(os.fsdecode(path)).startswith(self.root)  # noqa: PTH100 - no pathlib in a hook
        except (TypeError, ValueError):
            return False

    def install(self) -> None:
        """Look at what this process does from now on; there is no way back."""
        sys.addaudithook(self._audited)
        sa.event.listen(sa.Engine, "commit", lambda _connection: self.reach("commit"))
        sa.event.listen(sa.pool.Pool, "reset", lambda *_: self.reach("committed"))
        flush, opened = os.fsync, io.open

        def fsync(handle: int) -> None:
            self.reach("fsync")
            flush(handle)

        def open_(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            found = opened(file, mode, *args, **options)
            if set(mode) & set("wax+") and self.mine(file):
                try:
                    self.reach(f"opened {Path(os.fsdecode(file)).name}")
                except BaseException:
                    found.close()
                    raise
            return found

        os.fsync = fsync
        io.open = open_

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = bool(flags & FLAGS) if flags else bool(set(mode or "") & set("wax+"))
            if writes and self.mine(path):
                self.reach(f"open {Path(os.fsdecode(path)).name}")
        elif event in (REMOVALS | CHANGES if self.removals else CHANGES) and self.mine(arguments[0]):
            self.reach(f"{event} {Path(os.fsdecode(arguments[0])).name}")


@dataclass
class Project:
    """A lab whose playbooks are recorded."""

    root: Path
    fails: bool = False
    """Whether the hammer fails."""

    @property
    def settings(self) -> config.Settings:
        """The settings, read anew."""
        return config.load(
            environ={
                "PERFCI_ROOT_DIR": str(self.root),
                "PERFCI_STATE_DIR": str(self.root / "state"),
                "PERFCI_INFLUX__URL": "http://127.0.0.1:9",
                "PERFCI_MAIL__ADMINS": '["admins@example.org"]',
            }
        )

    def make(self) -> None:
        """Write the files of the project."""
        for folder in ("playbooks", "inventory/embedded", "jobs/tasks"):
            (self.root / folder).mkdir(parents=True)
        (self.root / "inventory/embedded/hosts.yml").write_text("cloud: {hosts: {node-0: {}}}\n")
        (self.root / "jobs/nightly.yml").write_text(JOB)
        (self.root / "jobs/tasks/ports.yml.j2").write_text("{}\n")

    def night(self, number: int) -> Any:
        """Run a night; those after the baseline are slower."""
        played = Recorded(sample=Path())
        played.instead = {
            "deploy": lambda folder: self._deploy(folder, number),
            "hammer": lambda folder: self._hammer(folder, number),
            "teardown": lambda _: None,
        }
        played.install(_Setter())
        night_module.new_run_id = lambda *_: run_id(number)
        job = load_job("nightly", self.settings.jobs_dir)
        return night(job, self.settings, holder="tester", progress=Silent()).run()

    def _deploy(self, folder: Path, number: int) -> None:
        slow = number > BASELINE
        marks = {
            "PERFCI_STATE_DIR": str(self.root / "state"),
            "PERFCI_SERVICE": "nova",
            "PERFCI_RUN": folder.name,
        }
        subprocess.Popen(["sleep", "600"], env={**os.environ, **marks}, stdout=subprocess.DEVNULL)
        services = [
            {"service": "neutron", "version": "29.1.0" if slow else "29.0.0", "source": "wheel",
             "revision": "29.1.0" if slow else "29.0.0", "changes": []}
        ]  # fmt: skip
        write_json(folder / "code.json", {"services": services, "packages": {}})
        write_json(folder / "environment.json", {})

    def _hammer(self, folder: Path, number: int) -> None:
        if self.fails:
            raise PlaybookFailed(playbook="hammer", where="here", detail="no luck", log="x")
        (folder / "rally").mkdir()
        report = archives.report(factor=1.5 if number > BASELINE else 1.0, seed=number)
        (folder / "rally" / "01-ports.json").write_text(json.dumps(report))
        task = {
            "slug": "01-ports", "task": "ports", "scenario": archives.SCENARIO, "warmup": 2, "times": 28,
            "concurrency": 2, "started_at": 1_700_000_000.0, "finished_at": 1_700_000_400.0, "status": "finished",
            "error": None,
        }  # fmt: skip
        write_json(folder / "tasks.json", [task])


class _Setter:
    """Sets attributes for good: the process is one night's."""

    def setattr(self, owner: Any, name: str, value: Any) -> None:
        setattr(owner, name, value)


def mails(state: StateFolder) -> list[str]:
    """Return the mails of a maildir, in any order."""
    return [path.read_text() for path in (state.mail / "new").glob("*")]


def judged(services: LabServices, run: str) -> list[tuple[str, str]]:
    """Return what was said of a run, series by series."""
    return sorted((one.key.label, str(one.outcome)) for one in read_judgements(services.database, run))


def wrong(project: Project, reference: dict[str, Any]) -> Iterator[str]:
    """Say what does not hold after the next start."""
    services = LabServices(project.settings)
    folders = {folder.name: folder for folder in run_folders(services.state.archive)}
    if run_id(NEXT) not in folders:
        yield "the next night is not archived"
        return
    yield from _left_over(project, services, folders)
    for name, folder in folders.items():
        if name >= run_id(KILLED):
            yield from _whole(folder)
            read_archive(folder)
    indexed = services.local.run_ids("embedded", "nightly")
    if sorted(indexed) != sorted(folders):
        yield f"the index has {set(indexed) ^ set(folders)} too many or too few"
    yield from _said(services, folders, reference)


def _left_over(project: Project, services: LabServices, folders: dict[str, Path]) -> Iterator[str]:
    state = services.state
    found = {
        "left in runs/": [path.name for path in state.runs.iterdir() if path.is_dir()],
        "no runs in the archive": [path.name for path in state.archive.iterdir() if path.name not in folders],
        "nodes are held": open_ledger(project.settings).held(),
        "still running": processes_of(state.root),
        "not reported": owing(services.database, state),
        "letters wait": services.outbox.letters(),
    }
    yield from (f"{name}: {what}" for name, what in found.items() if what)


def _said(services: LabServices, folders: dict[str, Path], reference: dict[str, Any]) -> Iterator[str]:
    names = [name for name in (run_id(KILLED), run_id(NEXT)) if name in folders]
    status = {name: ArchivedRun(folders[name]).document["status"] for name in names}
    first = status.get(run_id(KILLED))
    if status[run_id(NEXT)] != "finished":
        yield "the next night failed"
    expected = reference["after a finished night" if first == "finished" else "after a failed one"]
    for name, one in status.items():
        if one == "finished" and judged(services, name) != expected[name]:
            yield f"{name} is judged otherwise"
    subjects = [subject(text) for text in mails(services.state)]
    slower = sum(SLOWER in one for one in subjects)
    failed = sum(FAILED in one and not any(f"{FAILED} {step} " in one for step in STEPS) for one in subjects)
    if slower != expected["slower"]:
        yield f"the regression was reported {slower} times, not {expected['slower']}: {subjects}"
    if failed != int(first == "failed"):
        yield f"the failure was reported {failed} times: {subjects}"


def subject(text: str) -> str:
    """Return the subject of a mail."""
    return next((line for line in text.splitlines() if line.startswith("Subject:")), "")


def _whole(folder: Path) -> Iterator[str]:
    import hashlib

    listed = json.loads((folder / MANIFEST).read_text())["files"]
    found = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }
    if listed != found:
        yield f"{folder.name} is not what its manifest says: {set(listed.items()) ^ set(found.items())}"


def forked(work: Callable[[], None], log: Path) -> int:
    """Do something in a forked process; return its exit status as `os.waitpid` gives it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            output = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - the parent reads it in the log
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitpid(child, 0)[1]


def ending(kind: str) -> Callable[[], None]:
    """Return what happens at a point."""

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def fail() -> None:
        number, text = (5, "Input/output error") if kind == "eio" else (28, "No space left on device")
        caller = sys._getframe(2).f_code.co_name
        if "commit" in caller or caller == "<lambda>":
            raise sa.exc.OperationalError("COMMIT", None, sqlite3.OperationalError(text))
        raise OSError(number, text)

    return kill if kind == "kill" else fail


def one_point(template: Path, place: Path, kind: str, at: int, reference: dict[str, Any]) -> list[str]:
    """Let a night end at a point, start the next one, and return what is wrong then."""
    root = place / f"{kind.replace(' ', '-')}-{at}"
    shutil.copytree(template, root, symlinks=True)
    project = Project(root)
    log = root / "log"

    def early() -> None:
        full = kind == "disk full"
        points = Points(str(root / "state"), ending(kind), at=at, removals=not full, lasting=full)
        points.install()
        points.active = True
        project.night(KILLED)

    def after() -> None:
        project.night(NEXT)
        for problem in wrong(project, reference):
            print(f"WRONG {problem}")  # noqa: T201

    forked(early, log)
    status = forked(after, log)
    text = log.read_text(errors="replace")
    found = [line.removeprefix("WRONG ") for line in text.splitlines() if line.startswith("WRONG ")]
    if status:
        found.append(f"the next start failed: {text.strip().splitlines()[-1:]}")
    if not found:
        shutil.rmtree(root)
    return found


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--only", choices=KINDS, action="append")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--at", type=int)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    since = time.monotonic()
    template = options.scratch / "template"
    project = Project(template)
    project.make()
    # What Ansible says of the inventory is always the same, and takes it a second.
    listed = inventory._listed(template / "inventory/embedded")
    inventory._listed = lambda _folder: listed
    for number in range(1, BASELINE + 1):
        project.night(number)
    # Everything that a judged, reported night imports is imported here, once for all points.
    warm = Project(options.scratch / "warm")
    shutil.copytree(template, warm.root, symlinks=True)
    for number in (KILLED, NEXT):
        warm.night(number)
    prepared = time.monotonic() - since
    names, reference = _reference(template, options.scratch)
    jobs = [
        (kind, at)
        for kind in options.only or KINDS
        for at in ([options.at] if options.at else range(1, len(names) + 1, options.every))
    ]
    found: dict[str, list[str]] = {}
    pipes = []
    for worker in range(options.workers):
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.close(reader)
            with os.fdopen(writer, "w") as output:
                for kind, at in jobs[worker :: options.workers]:
                    if problems := one_point(template, options.scratch, kind, at, reference):
                        output.write(json.dumps([f"{kind} at {at} ({names[at - 1]})", problems]) + "\n")
            os._exit(0)
        os.close(writer)
        pipes.append(reader)
    for reader in pipes:
        with os.fdopen(reader) as lines:
            found |= dict(json.loads(line) for line in lines)
    for _ in pipes:
        os.wait()
    seconds = time.monotonic() - since
    summary = {
        "points": len(jobs),
        "writes": len(names),
        "prepared": prepared,
        "seconds": seconds,
        "found": found,
    }
    print(json.dumps(summary, indent=1))  # noqa: T201


def _reference(template: Path, scratch: Path) -> tuple[list[str], dict[str, Any]]:
    """Return the points of a night that nothing happens to, and what is said of that night and of the next.

    The next one is judged twice: after that night, and after one that failed.
    """

    def look(root: Path, *, fails: bool) -> dict[str, Any]:
        shutil.copytree(template, root, symlinks=True)
        result = root / "result.json"

        def play() -> None:
            project = Project(root, fails=fails)
            points = Points(str(root / "state"))
            points.install()
            points.active = True
            project.night(KILLED)
            points.active = project.fails = False
            project.night(NEXT)
            services = LabServices(project.settings)
            said = {one: judged(services, one) for one in (run_id(KILLED), run_id(NEXT))}
            slower = sum(SLOWER in subject(text) for text in mails(services.state))
            result.write_text(json.dumps({**said, "slower": slower, "names": points.names}))

        if forked(play, root / "log"):
            raise SystemExit((root / "log").read_text())
        found = json.loads(result.read_text())
        for one in (run_id(KILLED), run_id(NEXT)):
            found[one] = [tuple(pair) for pair in found[one]]
        return found

    finished = look(scratch / "reference", fails=False)
    failed = look(scratch / "failed", fails=True)
    return finished["names"], {"after a finished night": finished, "after a failed one": failed}


if __name__ == "__main__":
    main()
