"""Two hammers in lock-step with real Rally and its Dummy scenarios; no cloud is needed."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

FILES = Path(__file__).parents[2] / "roles" / "rally" / "files"

TEMPLATE = """
version: 2
title: dummy
subtasks:
  - title: {{ scenario }}
    workloads:
      - scenario: { {{ scenario }}: {{ arguments | tojson }} }
        runner: { {{ runner }}: {{ how | tojson }} }
"""

HAMMER = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import hammer_rally
from hammer_loop import Hammer
from rally_turns import take_turns
from turns import Turns
hammer_rally._ABORT_GRACE_SECONDS = 2

class Engine(hammer_rally.RallyEngine):
    def unreachable(self):
        return None  # there is no cloud to ask, nor one to leave anything in

folder = Path(sys.argv[2])
plan = json.loads((folder / "plan.json").read_text())
engine = Engine(plan["cloud"], config=folder / "rally.conf", database=folder / "rally.db", log=folder / "rally.log")
say = lambda text: print(text, end="", flush=True)
turns = Turns(Path(sys.argv[4]), sys.argv[6])
take_turns(turns)
sys.exit(Hammer(plan, engine, say=say, idle_seconds=0, turns=turns).run())
"""


def task(
    scenario: str = "Dummy.dummy", *, times: int = 4, concurrency: int = 1, limit: int = 60, **more
) -> dict:
    how = {"times": times, "concurrency": concurrency} if more.get("runner") != "serial" else {"times": times}
    how = more.pop("how", how)
    runner = more.pop("runner", "constant")
    variables = {"scenario": scenario, "arguments": more or {"sleep": 0.02}, "runner": runner, "how": how}
    return {
        "task": "dummy", "template": "dummy.yml.j2", "source": TEMPLATE, "times": times, "warmup": 0,
        "concurrency": concurrency, "timeout_seconds": limit, "clean": False, "variables": variables,
    }  # fmt: skip


def prepare(folder: Path, python: Path, **sides: list[dict]) -> list[str]:
    """Write both plans; return the command."""
    files = []
    for name, tasks in sides.items():
        own = folder / name
        own.mkdir()
        auth = {
            "auth_url": "http://127.0.0.1:9/v3",
            "username": "a",
            "password": "verysecret",
            "project_name": "a",
        }
        (own / "clouds.yaml").write_text(json.dumps({"clouds": {"perfci": {"auth": auth}}}))
        (own / "rally.conf").write_text("[DEFAULT]\nuse_stderr = false\n")
        plan = {
            "output": str(own / "run"),
            "cloud": {"clouds_file": str(own / "clouds.yaml"), "name": "perfci", "services": []},
            "tasks": [{"slug": f"{at:02d}-dummy", **one} for at, one in enumerate(tasks, 1)],
        }
        (own / "plan.json").write_text(json.dumps(plan))
        side = {
            "command": [str(python), "-c", HAMMER, str(FILES), str(own)],
            "environment": {"HOME": str(own), "SIDES_TEST": str(folder)},
            "output": str(own / "said"),
        }
        (own / "side.json").write_text(json.dumps(side))
        files += ["--side", f"{name}={own / 'side.json'}"]
    return [
        str(python), str(FILES / "side_by_side.py"), "--record", str(folder / "pairs.json"), "--seed", "7", *files,
    ]  # fmt: skip


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def report(folder: Path, side: str, slug: str = "01-dummy") -> list[dict]:
    data = json.loads((folder / side / "run" / "rally" / f"{slug}.json").read_text())
    return data["tasks"][0]["subtasks"][0]["workloads"][0]["data"]


def record(folder: Path) -> dict:
    return json.loads((folder / "pairs.json").read_text())


def marked(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SIDES_TEST") == str(folder) and process.status() != "zombie":
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def precise(**how: Any) -> dict:
    return {**task(times=200, sleep=0.01, **how), "until": {"precision": 0.2, "warmup": 2, "least": 30}}


TOGETHER = {
    "one": task(times=6, sleep=0.05),
    "two": task(times=7, concurrency=2, sleep=0.05),
    "drawn": task("Dummy.dummy_exception_probability", times=16, exception_probability=0.5),
    "precise": precise(),
    "after precise": task(times=3),
    "precise by two": precise(concurrency=2),
    "after precise by two": task(times=3),
    "precise, serial": precise(runner="serial"),
    "after precise, serial": task(times=3),
    "paced": task(times=6, runner="rps", how={"times": 6, "rps": 30}),
}
"""Tasks that both sides run to their end. Rally takes long to begin, so it does once for all of them."""


def slug(name: str) -> str:
    return f"{list(TOGETHER).index(name) + 1:02d}-dummy"


@pytest.fixture(scope="module")
def together(rally_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both sides after all tasks of TOGETHER."""
    folder = tmp_path_factory.mktemp("together")
    tasks = list(TOGETHER.values())
    done = run(prepare(folder, rally_python, new=tasks, old=tasks))
    assert done.returncode == 0, done.stderr + (folder / "new" / "said").read_text()
    assert "crashed" not in (folder / "new" / "said").read_text()
    return folder


@pytest.mark.parametrize("name", ["one", "two"])
def test_iterations_are_paired_within_the_second_and_never_overlap(together: Path, name: str) -> None:
    times = TOGETHER[name]["times"]
    found = record(together)["tasks"][slug(name)]
    assert found["notes"] == []
    assert found["alone"] == {}
    assert sum(len(pair["new"]) for pair in found["pairs"]) == times
    spans = []
    for side in ("new", "old"):
        by_time = {one["timestamp"]: one for one in report(together, side, slug(name))}
        assert len(by_time) == times
        for at, pair in enumerate(found["pairs"]):
            for _, timestamp, failed in pair[side]:
                one = by_time[timestamp]  # each is in Rally's report under exactly this time stamp
                assert not failed
                assert one["duration"] < 0.5  # the wait for the turn is not in it
                spans.append((timestamp, timestamp + one["duration"], side, at))
    spans.sort()
    for (_, end, side, _), (start, _, following, _) in itertools.pairwise(spans):
        assert side == following or start >= end - 0.001
    order = list(dict.fromkeys((at, side) for _, _, side, at in spans))
    assert order == [(at, side) for at, pair in enumerate(found["pairs"]) for side in pair["order"]]


def test_an_iteration_draws_the_same_on_both_sides(together: Path) -> None:
    """Half of the iterations fail, drawn by Rally's own scenario: which ones is no difference of the sides."""
    pairs = record(together)["tasks"][slug("drawn")]["pairs"]
    failed = {side: [failed for pair in pairs for *_, failed in pair[side]] for side in ("new", "old")}
    assert failed["new"] == failed["old"]
    assert set(failed["new"]) == {True, False}


@pytest.mark.parametrize("name", ["precise", "precise by two", "precise, serial"])
def test_rally_ends_both_sides_once_the_pairs_are_precise(together: Path, name: str) -> None:
    found = record(together)["tasks"][slug(name)]
    assert found["notes"] == []
    ran = {side: len(report(together, side, slug(name))) for side in ("new", "old")}
    assert ran["new"] == ran["old"]
    assert 30 < ran["new"] < 100
    assert sum(len(pair["new"]) for pair in found["pairs"]) == ran["new"]
    assert len(report(together, "new", slug(f"after {name}"))) == 3, "the next task is run as a whole"


def test_failures_crashes_and_hangs_of_one_side_leave_the_other_one_whole(
    rally_python: Path, tmp_path: Path
) -> None:
    good = task(limit=3)
    bad = [
        task("Dummy.dummy_exception", message="on purpose", limit=3),
        task("Dummy.no_such_thing", limit=3),
        task(sleep=300, limit=3),
        good,
    ]
    done = run(prepare(tmp_path, rally_python, new=[good] * 4, old=bad))
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "new" / "run" / "tasks.json").read_text())
    assert [row["status"] for row in rows] == ["finished"] * 4
    other = json.loads((tmp_path / "old" / "run" / "tasks.json").read_text())
    assert [row["status"] for row in other] == ["finished", "crashed", "crashed", "finished"]
    found = record(tmp_path)["tasks"]
    failed, crashed, hung, fine = (found[f"0{at}-dummy"] for at in range(1, 5))
    assert [pair["old"][0][2] for pair in failed["pairs"]] == [True] * 4
    assert [pair["new"][0][2] for pair in failed["pairs"]] == [False] * 4
    assert len(crashed["alone"]["new"]) == 4
    assert len(hung["alone"]["new"]) >= 3
    assert "old" in hung["notes"][0]
    assert len(fine["pairs"]) == 4
    assert fine["notes"] == []


def test_runners_that_rally_paces_itself_run_one_whole_side_after_the_other(together: Path) -> None:
    (pair,) = record(together)["tasks"][slug("paced")]["pairs"]
    times = {
        side: [one["timestamp"] for one in report(together, side, slug("paced"))] for side in ("new", "old")
    }
    first, second = pair["order"]
    assert max(times[first]) < min(times[second])


@pytest.mark.parametrize("victim", ["arbiter", "hammer"])
def test_whoever_is_killed_nobody_hangs_and_nothing_is_left(
    rally_python: Path, tmp_path: Path, victim: str
) -> None:
    tasks = [task(times=200, sleep=0.05, limit=200)]
    short = [task(times=20, sleep=0.05, limit=200)]
    with subprocess.Popen(
        prepare(tmp_path, rally_python, new=short if victim == "hammer" else tasks, old=tasks),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "SIDES_TEST": str(tmp_path)},
    ) as arbiter:
        log = tmp_path / "old" / "rally.log"
        deadline = time.monotonic() + 240
        while not (log.exists() and "ITER: 3 END" in log.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        if victim == "arbiter":
            arbiter.kill()
        else:
            hammers = [
                p for p in psutil.Process(arbiter.pid).children() if str(tmp_path / "old") in p.cmdline()
            ]
            hammers[0].send_signal(signal.SIGKILL)
        code = arbiter.wait(100)
    _, alive = psutil.wait_procs(marked(tmp_path), timeout=30)
    assert alive == []
    if victim == "hammer":
        assert code == 0
        assert len(report(tmp_path, "new")) == 20
        assert record(tmp_path)["sides"]["old"]["left"] == "its hammer ended with -9"
