"""Nights of several kinds that are killed, or get an error, at every write; then the next night, and what must hold.

`python tests/kill_harness.py SCRATCH [--scene NAME] [--kind KIND] [--every N]` prints a JSON summary. Playbooks are
not run (`recorded_playbooks`); all else is the real thing: folders, database, index, mail, pages.

Nights run in processes that have everything loaded, and that go on to the next point; a night's own process is taken
for dead afterwards (`killed_nights.Project.night`). A kill leaves the files as they are at that moment, so one night
that is copied at each of its writes gives all points of `kill`, and writes that leave the same are one case.
`really killed` is a process of its own that gets SIGKILL.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import kill_caches
import sqlalchemy as sa
from kill_points import Copier, Points, fail
from killed_nights import BASELINE, Project, Said, run_id, said, wrong

from perfci.alerts import mail_sections
from perfci.database.schema import unreported
from perfci.lab import inventory
from perfci.runs.state.run_folder import RUN
from perfci.runs.verdicts.lab_services import LabServices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRST = BASELINE + 1
"""Number of the first night after the baseline."""
KILL, REALLY, EIO, FULL = KINDS = ("kill", "really killed", "eio", "disk full")
REALLY_EVERY = 25
"""Of the points at which a night is killed, how many are left out between two with a process of their own."""
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Scene:
    """A kind of night, and what was before it."""

    name: str
    slower: bool = True
    fails: bool = False
    confirm: bool = False
    stride: int = 1
    """Every how many of its points are tried at most."""
    before: Callable[[Path], bool] | None = None
    """Of the night before, which was killed: whether that was in this state, given its state folder."""

    @property
    def early(self) -> int:
        """Number of the night that ends early."""
        return FIRST + (self.before is not None)

    def project(self, root: Path, *, next_one: bool = False) -> Project:
        """Return the lab of such a night; the next one never fails."""
        return Project(root, slower=self.slower, fails=self.fails and not next_one, confirm=self.confirm)


def _measuring(state: Path) -> bool:
    work = state / "runs" / run_id(FIRST)
    return (work / "tasks.json").exists() and not (work / RUN).exists()


def _sealing(state: Path) -> bool:
    return (state / "runs" / run_id(FIRST) / RUN).exists()


def _archived(state: Path) -> bool:
    return (state / "archive" / run_id(FIRST)).exists()


SCENES = (
    Scene("regression"),
    Scene("good night", slower=False),
    Scene("failed night", fails=True),
    Scene("re-runs", confirm=True, stride=5),
    Scene("after a night killed while it measured", before=_measuring),
    Scene("after a night killed while it was archived", before=_sealing),
    Scene("after a night killed before its mail", before=_archived),
)


@dataclass
class Stage:
    """A scene made ready: where its night begins, its points, and what is to be said of it and of the next."""

    scene: Scene
    template: Path
    names: list[str]
    references: dict[str, list[Said]]


@dataclass
class Worker:
    """One process that works on points, in a folder of its own."""

    root: Path
    points: Points = field(default_factory=Points)

    @property
    def state(self) -> Path:
        """The state folder of the nights."""
        return self.root / "state"

    def begin(self, template: Path) -> None:
        """Begin with a copy of a project."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(template, self.root, symlinks=True)
        _move_in(self.root)

    def play(self, project: Project, number: int) -> str:
        """Run a night; return the traceback of what it ended with."""
        try:
            project.night(number)
        except Exception:  # noqa: BLE001 - it is part of what is found
            return traceback.format_exc()
        finally:
            self.points.active = False
        return ""

    def look(self, stage: Stage, ended: str = "") -> list[str]:
        """Run the next night, and return what is wrong then."""
        scene = stage.scene
        project = scene.project(self.root, next_one=True)
        if error := self.play(project, scene.early + 1):
            found = ["the next start failed", error]
        else:
            names = (run_id(FIRST), run_id(scene.early), run_id(scene.early + 1))
            found = list(wrong(project, *names, stage.references))
        project.end()
        return [*found, ended] if found else []

    def killed(self, stage: Stage, every: int) -> Iterator[tuple[str, list[str]]]:
        """Kill a night at each of its points; return those, each with what is wrong then."""
        project, copies = stage.scene.project(self.root), self.root.with_name(f"{self.root.name}-copies")
        shutil.rmtree(copies, ignore_errors=True)
        copies.mkdir()
        self.begin(stage.template)
        copier, kept = Copier(), {}

        def copy() -> None:
            self.points.active = False
            at = self.points.seen
            if at % every == 0 and copier.copy(self.state, copies / str(at)):
                kept[at] = project.running()
            self.points.active = True

        self.points.watch(self.state, copy)
        self.play(project, stage.scene.early)
        project.end()
        copier.close()
        for at, running in kept.items():
            gc.collect(1)
            shutil.rmtree(self.state)
            (copies / str(at)).rename(self.state)
            if running:
                project.leave_running(run_id(stage.scene.early))
            found = self.look(stage)
            project.end()
            yield self._name(stage, KILL, at), found

    def really_killed(self, stage: Stage, at: int) -> list[str]:
        """Kill the process of a night at a point; return what is wrong after the next one."""
        self.begin(stage.template)
        child = os.fork()
        if child == 0:
            os.close(1)
            self.points.watch(self.state, lambda: os.kill(os.getpid(), signal.SIGKILL), at=at)
            self.play(stage.scene.project(self.root), stage.scene.early)
            os._exit(0)
        ended = os.waitpid(child, 0)[1]
        return self.look(stage, f"it ended with {ended}")

    def failed(self, stage: Stage, kind: str, at: int) -> list[str]:
        """Let a write of a night fail; return what is wrong after the next one."""
        self.begin(stage.template)
        project = stage.scene.project(self.root)
        self.points.watch(self.state, fail(kind), at=at, lasting=kind == FULL)
        ended = self.play(project, stage.scene.early)
        found = self.look(stage, ended)
        project.end()
        return found

    def work(self, jobs: list[tuple[Stage, str, range]], every: int) -> Iterator[tuple[str, list[str]]]:
        """Do all of these; return each point with what is wrong then."""
        for stage, kind, ats in jobs:
            if kind == KILL:
                yield from self.killed(stage, every * stage.scene.stride)
                continue
            for at in ats:
                gc.collect(1)
                found = self.really_killed(stage, at) if kind == REALLY else self.failed(stage, kind, at)
                yield self._name(stage, kind, at), found

    def _name(self, stage: Stage, kind: str, at: int) -> str:
        return (
            f"{stage.scene.name}: {kind} at {at} ({stage.names[at - 1] if at <= len(stage.names) else '?'})"
        )


def _move_in(root: Path) -> None:
    """Let the database say that it is this folder's."""
    services = LabServices(Project(root).settings)
    with services.database.transaction() as connection:
        connection.execute(sa.update(unreported).values(state_dir=str(root / "state")))


def _prepared(scratch: Path, scenes: tuple[Scene, ...], worker: Worker) -> Iterator[Stage]:
    """Run the baseline, and make each scene ready."""
    template = scratch / "template"
    project = Project(template)
    project.make()
    # What Ansible says of the inventory is always the same, and takes it a second.
    listed = inventory._listed(template / "inventory/embedded")
    inventory._listed = lambda _folder: listed
    # A picture takes a second, and none of a state folder's files.
    mail_sections.draw = lambda *_, **__: PNG
    kill_caches.install()
    for number in range(1, FIRST):
        project.night(number)
    project.end()
    worker.points.install()
    for scene in scenes:
        yield _stage(scratch / scene.name.replace(" ", "-"), template, scene, worker)


def _stage(place: Path, template: Path, scene: Scene, worker: Worker) -> Stage:
    worker.begin(template)
    begin = scene.project(worker.root)
    begin.write_job()
    if scene.before is not None:
        _kill_one(place, begin, scene.before, worker)
    shutil.copytree(worker.root, place, symlinks=True)
    names: list[str] = []
    references: dict[str, list[Said]] = {}
    for status, early in _undisturbed(scene):
        worker.begin(place)
        last = scene.project(worker.root, next_one=True)
        if early is not None:
            worker.points.watch(worker.state)
            _well(worker, replace(early, root=worker.root), scene.early)
            names = names or worker.points.names
            last.write_job()
        _well(worker, last, scene.early + 1)
        runs = tuple(run_id(number) for number in range(FIRST, scene.early + 2))
        references.setdefault(status, []).append(said(LabServices(last.settings), runs))
    return Stage(scene, place, names, references)


def _undisturbed(scene: Scene) -> Iterator[tuple[str, Project | None]]:
    """Return what else the night may be, as far as anybody can tell from its archive; the first is what it is."""
    whole = scene.project(Path())
    if not scene.fails:
        yield "finished", whole
    if scene.confirm:  # a night that was cut short is reported without them
        yield "finished", replace(whole, confirm=False)
    yield "failed", replace(whole, fails=True)
    # One that was killed before it had a folder was none.
    yield "none", None


def _well(worker: Worker, project: Project, number: int) -> None:
    """Run a night to which nothing happens."""
    project.write_job()
    if error := worker.play(project, number):
        raise SystemExit(error)
    project.end()


def _kill_one(place: Path, project: Project, wanted: Callable[[Path], bool], worker: Worker) -> None:
    """Leave the state of a night that was killed when it first was as wanted."""
    copier, copy = Copier(), place.with_name(f"{place.name}-killed")

    def look() -> None:
        worker.points.active = False
        if not copy.exists() and wanted(worker.state):
            copier.copy(worker.state, copy)
        worker.points.active = True

    worker.points.watch(worker.state, look)
    if error := worker.play(project, FIRST):
        raise SystemExit(error)
    project.end()
    copier.close()
    shutil.rmtree(worker.state)
    copy.rename(worker.state)


def _jobs(
    stages: list[Stage], kinds: tuple[str, ...], every: int, workers: int
) -> list[list[tuple[Stage, str, range]]]:
    """Share the points out: kills of a scene to one worker, all else point by point."""
    out: list[list[tuple[Stage, str, range]]] = [[] for _ in range(workers)]
    for number, stage in enumerate(stages):
        for kind in kinds:
            if kind == KILL:
                out[number % workers].append((stage, kind, range(0)))
                continue
            step = every * (REALLY_EVERY if kind == REALLY else 1)
            for worker in range(workers):
                ats = range(
                    1 + (number + worker * step) % every + worker * step, len(stage.names) + 1, step * workers
                )
                out[worker].append((stage, kind, ats))
    return out


def _work_on(jobs: list[tuple[Stage, str, range]], folder: Path, every: int) -> tuple[int, int]:
    """Start a worker; return its process id, and a pipe that gives a line of JSON for each point."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    os.close(reader)
    code = 1
    try:
        worker = Worker(folder, Points())
        worker.points.install()
        with os.fdopen(writer, "w") as output:
            for point in worker.work(jobs, every):
                output.write(json.dumps(point) + "\n")
                output.flush()
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the parent must not go on as this one
        traceback.print_exc()
    finally:
        os._exit(code)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--scene", choices=[scene.name for scene in SCENES], action="append")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--at", type=int)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    since, place = time.monotonic(), options.scratch.absolute()
    place.mkdir(exist_ok=True)
    scenes = tuple(scene for scene in SCENES if options.scene is None or scene.name in options.scene)
    stages = list(_prepared(place, scenes, Worker(place / "work")))
    prepared = time.monotonic() - since
    kinds = tuple(options.kind or KINDS)
    if options.at:
        shares = [[(stage, kind, range(options.at, options.at + 1)) for stage in stages for kind in kinds]]
    else:
        shares = _jobs(stages, kinds, options.every, options.workers)
    gc.collect()
    gc.freeze()
    gc.disable()  # looking for garbage in the middle of a night takes as long as the night
    workers = [
        _work_on(jobs, place / f"worker-{number}", options.every) for number, jobs in enumerate(shares)
    ]
    tried, found = 0, {}
    for _, reader in workers:
        with os.fdopen(reader) as lines:
            for name, problems in map(json.loads, lines):
                tried += 1
                if problems:
                    found[name] = problems
    # As the first process of a namespace it is also the parent of what killed nights left: that does not count.
    ends = [os.waitpid(child, 0)[1] for child, _ in workers]
    summary = {
        "tried": tried,
        "writes": {stage.scene.name: len(stage.names) for stage in stages},
        "prepared": round(prepared, 1),
        "seconds": round(time.monotonic() - since, 1),
        "found": found,
    }
    print(json.dumps(summary, indent=1))  # noqa: T201
    sys.exit(any(ends))


if __name__ == "__main__":
    main()
