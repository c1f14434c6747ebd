"""The loop over a plan's tasks, with an engine that needs neither Rally nor a cloud."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hammer_loop import EXIT_UNREACHABLE, Hammer, Outcome, TaskCrashed, placed
from leftovers import InventoryFailed

if TYPE_CHECKING:
    from pathlib import Path


class Inventory:
    """A cloud in which there are ports."""

    def __init__(self) -> None:
        self.ports: dict[str, str] = {}
        self.silent = False

    def list(self, kind: str) -> dict[str, str]:
        if self.silent:
            raise InventoryFailed("list of every port: 503")
        return dict(self.ports) if kind == "port" else {}

    def remove(self, kind: str, thing: str) -> None:
        del self.ports[thing]


class Engine:
    """Plays a part per task: an Outcome, or the text of a crash; `leaves` a port after some of them."""

    def __init__(
        self,
        parts: dict[str, Outcome | str | BaseException],
        *,
        lost_after: str = "",
        leaves: tuple[str, ...] = (),
    ) -> None:
        self.parts = parts
        self.lost_after = lost_after
        self.leaves = leaves
        self.lost = False
        self.ran: list[str] = []
        self.inventory = Inventory()

    def scenario_of(self, task: dict[str, Any]) -> str:
        if task["task"] == "bad-template":
            raise TaskCrashed("bad-template.yml.j2: 'times' is undefined")
        return f"Scenario.{task['task']}"

    def run(self, task: dict[str, Any]) -> Outcome:
        self.ran.append(task["slug"])
        if task["slug"] in self.leaves:
            self.inventory.ports[f"of-{task['slug']}"] = "s_rally_a_b"
        self.lost = task["slug"] == self.lost_after
        part = self.parts[task["slug"]]
        if isinstance(part, BaseException):
            raise part
        if isinstance(part, str):
            raise TaskCrashed(part)
        return part

    def unreachable(self) -> str | None:
        return "connection refused" if self.lost else None


class World:
    """A clock that only sleeping moves, and what was said."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.said = ""

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def say(self, text: str) -> None:
        self.said += text


def task(slug: str, name: str = "ports") -> dict[str, Any]:
    return {
        "slug": slug,
        "task": name,
        "times": 4,
        "warmup": 1,
        "concurrency": 2,
        "timeout_seconds": 60,
        "clean": True,
    }


def hammer(tmp_path: Path, engine: Engine, *tasks: dict[str, Any]) -> tuple[int, list[dict[str, Any]], World]:
    world = World()
    plan = {"output": str(tmp_path), "tasks": list(tasks)}
    code = Hammer(plan, engine, say=world.say, clock=world.clock, sleep=world.sleep).run()
    return code, json.loads((tmp_path / "tasks.json").read_text()), world


GOOD = Outcome(iterations=5, failed=0, report='{"tasks": []}')


def test_all_tasks_run_in_order_and_leave_their_reports(tmp_path: Path) -> None:
    code, records, world = hammer(tmp_path, Engine({"01-a": GOOD, "02-b": GOOD}), task("01-a"), task("02-b"))
    assert code == 0
    assert [(r["slug"], r["status"], r["error"]) for r in records] == [
        ("01-a", "finished", None),
        ("02-b", "finished", None),
    ]
    assert records[0]["scenario"] == "Scenario.ports"
    assert (records[0]["warmup"], records[0]["times"], records[0]["concurrency"]) == (1, 4, 2)
    assert (tmp_path / "rally" / "01-a.json").read_text() == GOOD.report
    assert "[2/2] Scenario.ports 5 iterations ... 0 s, 0 failed\n" in world.said


def test_a_pause_separates_the_tasks(tmp_path: Path) -> None:
    _, records, world = hammer(tmp_path, Engine({"01-a": GOOD, "02-b": GOOD}), task("01-a"), task("02-b"))
    assert records[0]["started_at"] - 1000.0 >= 1.2
    assert records[1]["started_at"] - records[0]["finished_at"] >= 1.2
    assert world.now - records[1]["finished_at"] >= 1.2


def test_a_crash_does_not_stop_the_others(tmp_path: Path) -> None:
    engine = Engine({"01-a": "did not end within 60 s and was aborted", "03-c": GOOD})
    tasks = (task("01-a"), task("02-b", "bad-template"), task("03-c"))
    code, records, _ = hammer(tmp_path, engine, *tasks)
    assert code == 0
    assert [r["status"] for r in records] == ["crashed", "crashed", "finished"]
    assert "did not end within 60 s" in records[0]["error"]
    assert "'times' is undefined" in records[1]["error"]
    assert sorted(p.name for p in (tmp_path / "rally").iterdir()) == ["03-c.json"]


def test_failed_iterations_are_a_result(tmp_path: Path) -> None:
    engine = Engine({"01-a": Outcome(iterations=5, failed=5, report="{}")})
    code, records, world = hammer(tmp_path, engine, task("01-a"))
    assert (code, records[0]["status"]) == (0, "finished")
    assert "5 failed" in world.said


def test_without_a_cloud_the_rest_is_not_tried(tmp_path: Path) -> None:
    engine = Engine({"01-a": "boom", "02-b": GOOD}, lost_after="01-a")
    code, records, _ = hammer(tmp_path, engine, task("01-a"), task("02-b"))
    assert code == EXIT_UNREACHABLE
    assert engine.ran == ["01-a"]
    assert records[1]["status"] == "crashed"
    assert records[1]["started_at"] is None
    assert "connection refused" in records[1]["error"]


def test_a_kill_loses_only_the_running_task(tmp_path: Path) -> None:
    engine = Engine({"01-a": GOOD, "02-b": KeyboardInterrupt(), "03-c": GOOD})
    with pytest.raises(KeyboardInterrupt):
        hammer(tmp_path, engine, task("01-a"), task("02-b"), task("03-c"))
    records = json.loads((tmp_path / "tasks.json").read_text())
    assert [r["status"] for r in records] == ["finished", "crashed"]
    assert records[1]["error"] == "did not end: the hammer was stopped"
    assert records[1]["finished_at"] is None


def leftovers(tmp_path: Path) -> dict[str, Any]:
    return {one["slug"]: one for one in json.loads((tmp_path / "leftovers.json").read_text())}


def test_what_a_task_left_is_written_down_and_removed_also_after_a_crash(tmp_path: Path) -> None:
    engine = Engine({"01-a": GOOD, "02-b": "boom", "03-c": GOOD}, leaves=("01-a", "02-b"))
    code, _, world = hammer(tmp_path, engine, task("01-a"), task("02-b"), task("03-c"))
    assert code == 0
    found = leftovers(tmp_path)
    port = {"kind": "port", "id": "of-01-a", "name": "s_rally_a_b", "error": ""}
    assert found["01-a"] == {"slug": "01-a", "found": [port], "error": None}
    assert [one["id"] for one in found["02-b"]["found"]] == ["of-02-b"]
    assert found["03-c"]["found"] == []
    assert engine.inventory.ports == {}
    assert world.said.count("1 things of it were left in the cloud") == 2


def test_a_sweep_waits_until_the_tasks_last_sample_is_taken(tmp_path: Path) -> None:
    engine = Engine({"01-a": GOOD, "02-b": GOOD})
    _, records, _ = hammer(tmp_path, engine, task("01-a"), task("02-b"))
    assert records[1]["started_at"] - records[0]["finished_at"] >= 2 * 1.2


def test_a_task_may_leave_what_it_made(tmp_path: Path) -> None:
    engine = Engine({"01-a": GOOD}, leaves=("01-a",))
    hammer(tmp_path, engine, {**task("01-a"), "clean": False})
    assert not (tmp_path / "leftovers.json").exists()
    assert engine.inventory.ports == {"of-01-a": "s_rally_a_b"}


def test_a_cloud_that_can_not_be_asked_stops_no_task(tmp_path: Path) -> None:
    engine = Engine({"01-a": GOOD, "02-b": GOOD})
    engine.inventory.silent = True
    code, records, world = hammer(tmp_path, engine, task("01-a"), task("02-b"))
    assert (code, [r["status"] for r in records]) == (0, ["finished", "finished"])
    assert "what tasks leave can't be told: list of every port: 503" in world.said
    assert leftovers(tmp_path)["01-a"]["found"] is None
    assert "before the first task" in leftovers(tmp_path)["01-a"]["error"]


PLAN = {
    "output": "/controller/runs/7",
    "cloud": {"clouds_file": "/controller/clouds.yaml", "name": "perfci"},
    "tasks": [{"slug": "01-glance", "variables": {"image_file": "/controller/image.raw", "times": 4}}],
}


def test_another_machine_has_places_of_its_own() -> None:
    plan = placed(PLAN, output="/node/runs/7", clouds_file="/node/clouds.yaml", image_file="/node/image.raw")
    assert plan["output"] == "/node/runs/7"
    assert plan["cloud"] == {"clouds_file": "/node/clouds.yaml", "name": "perfci"}
    assert plan["tasks"] == [
        {"slug": "01-glance", "variables": {"image_file": "/node/image.raw", "times": 4}}
    ]


def test_on_the_controller_the_plan_stays_as_it_is() -> None:
    assert placed(PLAN, output=None, clouds_file=None, image_file=None) == PLAN
