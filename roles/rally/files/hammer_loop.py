"""The loop over a plan's tasks: what happens when one fails, and the record that is kept of it.

It knows nothing of Rally: an Engine runs a task. So it is tested without a cloud.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from leftovers import InventoryFailed, Leftovers

if TYPE_CHECKING:
    from collections.abc import Callable

    from leftovers import Inventory
    from turns import Turns

FINISHED = "finished"
CRASHED = "crashed"
EXIT_UNREACHABLE = 3
WAITING = 3
"""In lock-step a task may take this many times its limit: its own, the other side's, and as long as it takes
to see that the other side hangs."""


class TaskCrashed(Exception):
    """A task gave no usable result; the text says why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a task that ran to its end. `report` is Rally's export of type `json`."""

    iterations: int
    failed: int
    report: str


class Engine(Protocol):
    """What carries out one task."""

    @property
    def inventory(self) -> Inventory:
        """What there is in the cloud."""
        ...

    def scenario_of(self, task: dict[str, Any]) -> str:
        """Return the name of the Rally scenario; raises TaskCrashed if the template is not usable."""
        ...

    def run(self, task: dict[str, Any]) -> Outcome:
        """Run the task within its time limit; raises TaskCrashed."""
        ...

    def unreachable(self) -> str | None:
        """Return why no further task can run, None if the cloud answers."""
        ...


@dataclass(slots=True)
class Record:
    """One entry of tasks.json. Times are seconds since the epoch, None for a task that did not start."""

    slug: str
    task: str
    scenario: str
    warmup: int
    times: int
    concurrency: int
    started_at: float | None = None
    finished_at: float | None = None
    status: str = CRASHED
    error: str | None = None


class Hammer:
    """Runs the tasks of a plan one after the other and keeps tasks.json and leftovers.json up to date.

    After each task what it left in the cloud is listed and removed. Between two tasks, before the first and
    after the last one nothing happens for `idle_seconds`, so that samples taken once a second separate the
    tasks. With `turns`, tasks begin together with those of another hammer, which runs the same plan.
    """

    def __init__(
        self,
        plan: dict[str, Any],
        engine: Engine,
        *,
        say: Callable[[str], None],
        turns: Turns | None = None,
        idle_seconds: float = 1.2,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.plan = plan
        self.engine = engine
        self.say = say
        self.turns = turns
        self.idle_seconds = idle_seconds
        self.clock = clock
        self.sleep = sleep
        self.output = Path(plan["output"])
        self.records: list[Record] = []
        self.leftovers = Leftovers(engine.inventory, sleep=sleep)
        self.swept: list[dict[str, Any]] = []
        self.lost: str | None = None
        """Why the cloud can't be reached any more."""

    def run(self) -> int:
        """Return 0, or 3 when the cloud went away before all tasks had run."""
        self.lost = self.engine.unreachable()
        if not self.lost:
            self._remember()
        for position, task in enumerate(self.plan["tasks"], 1):
            if self.lost:
                self._skip(task, self.lost)
                continue
            if self._run_one(position, task).status == CRASHED:
                self.lost = self.engine.unreachable()
            if task["clean"] and not self.lost:
                self._sweep(task)
        self.sleep(self.idle_seconds)
        return EXIT_UNREACHABLE if self.lost else 0

    def _run_one(self, position: int, task: dict[str, Any]) -> Record:
        record = self._new_record(task)
        if self.turns is not None:
            self.turns.begin(task["slug"], task["timeout_seconds"], task.get("until"))
        self.sleep(self.idle_seconds)
        total = len(self.plan["tasks"])
        record.started_at = self.clock()
        # Should this process be killed meanwhile, tasks.json says which task was running.
        record.error = "did not end: the hammer was stopped"
        self._keep()
        try:
            record.scenario = self.engine.scenario_of(task)
            count = task["warmup"] + task["times"]
            self.say(f"[{position}/{total}] {record.scenario} {count} iterations ... ")
            outcome = self.engine.run(self._patient(task))
        except TaskCrashed as error:
            record.finished_at, record.error = self.clock(), str(error)
            self.say(f"crashed: {error}\n")
        else:
            record.finished_at, record.status, record.error = self.clock(), FINISHED, None
            write(self.output / "rally" / f"{record.slug}.json", outcome.report)
            seconds = record.finished_at - record.started_at
            self.say(f"{seconds:.0f} s, {outcome.failed} failed\n")
        if self.turns is not None:
            self.turns.end(task["slug"])
        self._keep()
        return record

    def _patient(self, task: dict[str, Any]) -> dict[str, Any]:
        """Return the task with the time that it needs where it has to wait for the other side, or for its
        end.
        """
        if self.turns is None:
            return task
        return {**task, "timeout_seconds": WAITING * task["timeout_seconds"]}

    def _remember(self) -> None:
        try:
            self.leftovers.remember()
        except InventoryFailed as error:
            self.say(f"what tasks leave can't be told: {error}\n")

    def _sweep(self, task: dict[str, Any]) -> None:
        # The sample that ends the task's counters must not have the sweep in it.
        self.sleep(self.idle_seconds)
        entry: dict[str, Any] = {"slug": task["slug"], "found": None, "error": None}
        try:
            entry["found"] = [asdict(one) for one in self.leftovers.sweep()]
        except InventoryFailed as error:
            entry["error"] = str(error)
        self.swept.append(entry)
        if entry["found"]:
            self.say(f"  {len(entry['found'])} things of it were left in the cloud\n")
        write(self.output / "leftovers.json", json.dumps(self.swept, indent=1) + "\n")

    def _skip(self, task: dict[str, Any], reason: str) -> None:
        record = self._new_record(task)
        record.error = f"not started: the cloud can't be reached: {reason}"
        self._keep()

    def _new_record(self, task: dict[str, Any]) -> Record:
        # Until the template has been rendered, the task's own name has to do for the scenario.
        names = ("slug", "task", "warmup", "times", "concurrency")
        record = Record(scenario=task["task"], **{name: task[name] for name in names})
        self.records.append(record)
        return record

    def _keep(self) -> None:
        rows = [{name: getattr(record, name) for name in Record.__slots__} for record in self.records]
        write(self.output / "tasks.json", json.dumps(rows, indent=1) + "\n")


def placed(
    plan: dict[str, Any], *, output: str | None, clouds_file: str | None, image_file: str | None
) -> dict[str, Any]:
    """Return a plan with the paths of this machine; those that are not given stay as they are."""
    cloud, tasks = plan["cloud"], plan["tasks"]
    more = {"image_file": image_file} if image_file else {}
    return {
        **plan,
        "output": output or plan["output"],
        "cloud": {**cloud, "clouds_file": clouds_file or cloud["clouds_file"]},
        "tasks": [{**task, "variables": {**task["variables"], **more}} for task in tasks],
    }


def write(path: Path, text: str) -> None:
    """Write a file so that a reader, or a kill, never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
