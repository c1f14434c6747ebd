"""CPU time, memory and SQL statements per service: the bookkeeping, and real processes."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import counters
import proc_reader
import pytest
from accounts import Accounts
from proc_reader import Process, parse_stat
from queue_depth import NoQueues, RabbitMq, sums
from sql_statements import NoDatabase, Rising

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(counters.__file__)
STATE = "/srv/lab/state"
BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"


class Table:
    """A process table for the bookkeeping: environments by pid."""

    def __init__(self) -> None:
        self.environments: dict[int, dict[str, str] | None] = {}
        self.accounts = Accounts(STATE, self.environments.get)

    def mark(self, pid: int, service: str | None, state_dir: str = STATE) -> None:
        marks = {"PERFCI_STATE_DIR": state_dir}
        self.environments[pid] = marks if service is None else {**marks, "PERFCI_SERVICE": service}

    def cpu(self, service: str) -> float:
        return round(self.accounts.services[service].cpu_seconds, 6)


def process(pid: int, *, parent: int = 1, own: float = 0.0, reaped: float = 0.0, started: int = 0) -> Process:
    return Process(pid=pid, parent=parent, started=started or pid, own=own, reaped=reaped, rss_bytes=1000)


def test_only_what_was_used_since_the_first_snapshot_counts() -> None:
    table = Table()
    table.mark(10, "nova-api")
    table.accounts.update([process(10, own=100.0, reaped=50.0)])
    table.accounts.update([process(10, own=101.5, reaped=50.0)])
    assert table.cpu("nova-api") == 1.5


def test_processes_of_a_service_are_added_up() -> None:
    table = Table()
    for pid in (10, 11, 12):
        table.mark(pid, "neutron-api")
    table.accounts.update([process(pid) for pid in (10, 11, 12)])
    table.accounts.update([process(pid, own=1.0) for pid in (10, 11, 12)])
    assert table.cpu("neutron-api") == 3.0
    assert table.accounts.services["neutron-api"].processes == 3
    assert table.accounts.services["neutron-api"].rss_bytes == 3000


def test_a_service_is_as_old_as_its_oldest_process() -> None:
    table = Table()
    for pid in (10, 11, 12):
        table.mark(pid, "neutron-api")
    table.accounts.update([process(11), process(10), process(12)])
    assert table.accounts.services["neutron-api"].oldest == 10
    table.accounts.update([process(12), process(11)])
    assert table.accounts.services["neutron-api"].oldest == 11
    table.accounts.update([])
    assert table.accounts.services["neutron-api"].oldest is None


def test_when_a_process_started_is_told_in_the_time_of_clocks() -> None:
    before = time.time()
    with subprocess.Popen(["sleep", "60"]) as child:
        after = time.time()
        (found,) = (one for one in proc_reader.processes() if one.pid == child.pid)
        child.kill()
    at = proc_reader.started_at(found.started, time.time())
    assert before - 0.1 < at < after + 0.1


def test_the_cloud_beside_this_one_is_the_labs_but_no_service_of_this_one() -> None:
    table = Table()
    table.accounts = Accounts(STATE, table.environments.get, frozenset({f"{STATE}/reference"}))
    table.mark(10, "nova-api")
    table.mark(11, "nova-api", state_dir=f"{STATE}/reference")
    table.accounts.update([process(10), process(11)])
    table.accounts.update([process(10, own=1.0), process(11, own=5.0)])
    assert table.cpu("nova-api") == 1.0
    assert table.accounts.lab_seconds == 6.0  # so that nothing of it is foreign


def test_another_lab_and_unmarked_processes_are_not_ours() -> None:
    table = Table()
    table.mark(10, "nova-api", state_dir="/elsewhere")
    table.environments[11] = {"HOME": "/"}
    table.accounts.update([process(10), process(11), process(12)])
    table.accounts.update([process(10, own=5.0), process(11, own=5.0), process(12, own=5.0)])
    assert table.accounts.services == {}
    assert table.accounts.lab_seconds == 0


@pytest.mark.parametrize("mark", [None, "supervisord", "deploy"])
def test_the_controller_is_the_lab_but_no_service(mark: str | None) -> None:
    table = Table()
    table.mark(10, mark)
    table.accounts.update([process(10)])
    table.accounts.update([process(10, own=2.0)])
    assert table.accounts.services == {}
    assert table.accounts.lab_seconds == 2.0


def test_kernel_threads_are_kept_apart() -> None:
    table = Table()
    table.accounts.update([process(2, parent=0), process(30, parent=2)])
    table.accounts.update([process(2, parent=0, own=0.5), process(30, parent=2, own=1.0)])
    assert table.accounts.kernel_seconds == 1.5
    assert table.accounts.lab_seconds == 0


def test_a_child_without_a_readable_mark_belongs_to_its_parent_in_any_order() -> None:
    first = [process(10), process(11, parent=10), process(12, parent=11)]
    second = [process(10), process(11, parent=10), process(12, parent=11, own=1.0)]
    for order in (1, -1):
        table = Table()
        table.mark(10, "rabbitmq")
        table.accounts.update(first[::order])
        table.accounts.update(second[::order])
        assert table.cpu("rabbitmq") == 1.0


def test_what_a_child_used_after_the_last_snapshot_is_not_lost() -> None:
    table = Table()
    table.mark(5, None)
    table.mark(10, "glance")
    table.accounts.update([process(5), process(10, parent=5)])
    table.accounts.update([process(5), process(10, parent=5, own=1.0)])
    # It used 0.7 s more, ended, and the supervisor waited for it.
    table.accounts.update([process(5, reaped=1.7)])
    table.accounts.update([process(5, reaped=1.7)])
    assert table.cpu("glance") == 1.7
    assert round(table.accounts.lab_seconds, 6) == 1.7


def test_a_child_that_no_snapshot_saw_counts_for_its_parent() -> None:
    table = Table()
    table.mark(10, "nova-compute")
    table.accounts.update([process(10)])
    table.accounts.update([process(10, reaped=0.4)])
    table.accounts.update([process(10, reaped=0.4)])
    assert table.cpu("nova-compute") == 0.4


@pytest.mark.parametrize("seen_late", [True, False])
def test_a_snapshot_torn_between_parent_and_child_counts_nothing_twice(seen_late: bool) -> None:  # noqa: FBT001
    table = Table()
    table.mark(5, None)
    table.mark(10, "glance")
    table.accounts.update([process(5), process(10, parent=5)])
    table.accounts.update([process(5), process(10, parent=5, own=2.0)])
    if seen_late:  # the parent was read after it had waited for the child, the child before it ended
        table.accounts.update([process(5, reaped=2.5), process(10, parent=5, own=2.2)])
    else:  # the parent was read before, the child was gone already
        table.accounts.update([process(5)])
    for _ in range(3):
        table.accounts.update([process(5, reaped=2.5)])
    assert table.cpu("glance") == 2.5


def test_a_child_that_nobody_waited_for_keeps_what_was_seen() -> None:
    table = Table()
    table.mark(10, "nova-api")
    table.mark(11, "nova-api")
    table.accounts.update([process(10), process(11, parent=10)])
    table.accounts.update([process(10), process(11, parent=10, own=3.0)])
    for reaped in (0.0, 0.0, 0.0, 0.25, 0.25):  # later another child of 0.25 s is waited for
        table.accounts.update([process(10, reaped=reaped)])
    assert table.cpu("nova-api") == 3.25


def test_a_shell_that_started_a_service_does_not_pass_on_its_other_children() -> None:
    table = Table()
    table.environments[5] = {"HOME": "/"}
    table.mark(10, "glance")
    table.accounts.update([process(5), process(10, parent=5)])
    reaped = 1.0
    table.accounts.update([process(5, reaped=reaped)])
    for _ in range(5):
        reaped += 1.0
        table.accounts.update([process(5, reaped=reaped)])
    assert table.cpu("glance") <= 1.0


def test_a_reused_pid_is_another_process() -> None:
    table = Table()
    table.mark(10, "placement")
    table.accounts.update([process(10, own=9.0, started=1)])
    table.mark(10, "keystone")
    table.accounts.update([process(10, own=1.0, started=2)])
    assert table.cpu("keystone") == 1.0
    assert "placement" not in table.accounts.services or table.cpu("placement") == 0


def test_a_process_seen_before_its_exec_is_marked_anew() -> None:
    table = Table()
    table.mark(5, None)
    table.environments[10] = table.environments[5]
    table.accounts.update([process(5)])
    table.accounts.update([process(5), process(10, parent=5)])
    table.mark(10, "neutron-rpc")
    table.accounts.update([process(5), process(10, parent=5, own=0.5)])
    assert table.cpu("neutron-rpc") == 0.5


def test_no_account_ever_decreases_whatever_happens() -> None:
    rng = random.Random(7)  # noqa: S311
    table = Table()
    names = ["mariadb", "nova-api", "glance"]
    alive: dict[int, Process] = {5: process(5)}
    table.mark(5, None)
    next_pid, last = 100, dict.fromkeys(names, 0.0)
    for _ in range(400):
        if rng.random() < 0.5:
            next_pid += 1
            table.mark(next_pid, rng.choice(names))
            alive[next_pid] = process(next_pid, parent=rng.choice(list(alive)))
        for one in alive.values():
            one.own += rng.random() * 0.1
        victim = rng.choice([pid for pid in alive if pid != 5] or [5])
        if victim != 5 and rng.random() < 0.4:
            ended = alive.pop(victim)
            parent = alive.get(ended.parent)
            if parent and rng.random() < 0.8:
                parent.reaped += ended.own + ended.reaped + rng.random() * 0.05
        table.accounts.update(
            [Process(**{n: getattr(p, n) for n in Process.__slots__}) for p in alive.values()]
        )
        now = {name: s.cpu_seconds for name, s in table.accounts.services.items()}
        assert all(now[name] >= last.get(name, 0.0) for name in now)
        last = now
    assert min(last.values()) > 0


@pytest.mark.parametrize(
    "text",
    ["", "garbage", "12 (x", "12 (x) S 1 2 3", "x (y) " + "1 " * 40, "7 (a) b) S " + "q " * 40],
)
def test_garbage_is_no_process(text: str) -> None:
    assert parse_stat(text) is None


def test_a_name_with_parentheses_and_blanks() -> None:
    numbers = [0] * 50
    numbers[0], numbers[18], numbers[20] = 3, 777, 5  # fields 4 ppid, 22 starttime, 24 rss of proc(5)
    numbers[10], numbers[11] = 2 * proc_reader.TICKS, proc_reader.TICKS
    found = parse_stat(f"42 (a) (b c)) S {' '.join(map(str, numbers))}")
    assert found is not None
    assert (found.pid, found.parent, found.started) == (42, 3, 777)
    assert found.own == 3.0
    assert found.rss_bytes == 5 * proc_reader.PAGE_BYTES


def test_entries_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "12").mkdir()
    (tmp_path / "13").mkdir()
    (tmp_path / "13" / "stat").write_bytes(b"\xff\xfe not a stat")
    (tmp_path / "self").mkdir()
    assert proc_reader.processes(tmp_path) == []
    assert proc_reader.environment(12, tmp_path) is None


def test_where_a_title_was_written_over_the_environment_systemd_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = '$0 = "title"; open F, "/proc/$$/environ"; print <F>'
    title = subprocess.run(
        ["/usr/bin/perl", "-e", over], env={"PERFCI_SERVICE": "n-api"}, check=True, capture_output=True
    ).stdout
    assert title
    assert b"=" not in title
    title += b"\0PERFCI_SERVICE=n-api\0"  # a short title leaves the end as it was
    unit = "system.slice/system-devstack.slice/devstack@n-api.service"
    for pid, group in ((12, unit), (13, unit), (14, "user.slice/session-1.scope")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "environ").write_bytes(title)
        (tmp_path / str(pid) / "cgroup").write_text(f"1:name=systemd:/node-1/{group}\n0::/node-1/{group}\n")
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(
        f"""#!/bin/sh
        echo "$*" >>{tmp_path}/asked
        echo 'PERFCI_STATE_DIR=/srv "NAME=two words" PERFCI_SERVICE=n-api'
        """
    )
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert proc_reader.environment(12, tmp_path) == {}, "where it can't be asked, nobody is told"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    marks = {"PERFCI_STATE_DIR": "/srv", "NAME": "two words", "PERFCI_SERVICE": "n-api"}
    assert [proc_reader.environment(pid, tmp_path) for pid in (12, 13, 14)] == [marks, marks, {}]
    assert (tmp_path / "asked").read_text().splitlines() == [
        "show --property=Environment --value -- devstack@n-api.service"
    ]


def test_statements_go_on_rising_when_the_database_starts_anew() -> None:
    rising = Rising()
    assert rising.update({"nova": 100}) == {"nova": 100}
    assert rising.update({"nova": 150, "glance": 3}) == {"nova": 150, "glance": 3}
    assert rising.update({}) == {}
    assert rising.update({"nova": 20}) == {"nova": 170}


@contextlib.contextmanager
def started(state: Path, service: str, code: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "PERFCI_STATE_DIR": str(state), "PERFCI_SERVICE": service}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as child:
        try:
            yield child
        finally:
            child.kill()


def test_real_processes_with_short_lived_children(tmp_path: Path) -> None:
    sampler = counters.Sampler(str(tmp_path), NoDatabase(), NoQueues())
    sampler.sample()
    burn = BURN.format(seconds=0.3)
    parent = f"import subprocess, sys\nfor _ in range(3): subprocess.run([sys.executable, '-c', {burn!r}])\ninput()"
    environment = {**os.environ, "PERFCI_STATE_DIR": str(tmp_path), "PERFCI_SERVICE": "glance"}
    samples = []
    with subprocess.Popen([sys.executable, "-c", parent], env=environment, stdin=subprocess.PIPE) as child:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            samples.append(sampler.sample())
            if samples[-1]["services"].get("glance", {}).get("cpu_seconds", 0) >= 0.9:
                break
            time.sleep(0.05)
        child.communicate(b"\n")
    used = [sample["services"]["glance"]["cpu_seconds"] for sample in samples if sample["services"]]
    assert used[-1] >= 0.9
    assert used == sorted(used)
    assert samples[-1]["services"]["glance"]["rss_bytes"] > 1_000_000


def test_a_process_of_nobody_is_foreign_and_a_service_is_not(tmp_path: Path) -> None:
    sampler = counters.Sampler(str(tmp_path), NoDatabase(), NoQueues())
    before = sampler.sample()
    subprocess.run([sys.executable, "-c", BURN.format(seconds=1.0)], check=True, env={})
    after = sampler.sample()
    assert after["foreign_seconds"] - before["foreign_seconds"] > 0.5
    assert after["machine"]["busy_seconds"] - before["machine"]["busy_seconds"] > 0.5
    assert after["machine"]["cpus"] == os.cpu_count()


def test_the_script_writes_whole_lines_until_it_is_told_to_stop(tmp_path: Path) -> None:
    output = tmp_path / "run" / "counters" / "node.jsonl"
    command = [sys.executable, str(SCRIPT), "--state-dir", str(tmp_path), "--output", str(output)]
    environment = {**os.environ, "PERFCI_STATE_DIR": str(tmp_path), "PERFCI_SERVICE": "counters"}
    with subprocess.Popen([*command, "--period-seconds", "0.1"], env=environment) as child:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (not output.exists() or output.read_text().count("\n") < 4):
            time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
    samples = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(samples) >= 4
    assert set(samples[0]) == {"t", "services", "sql", "machine", "foreign_seconds", "messages"}
    assert [sample["t"] for sample in samples] == sorted(sample["t"] for sample in samples)
    assert "counters" in samples[-1]["services"]


def test_it_ends_by_itself_when_nobody_stops_it(tmp_path: Path) -> None:
    output = tmp_path / "node.jsonl"
    sampler = counters.Sampler(str(tmp_path), NoDatabase(), NoQueues())
    counters.run(sampler, output, threading.Event(), period=0.01, limit=0.1)
    assert output.read_text().count("\n") >= 2


def test_the_sampler_outlives_its_starter_and_is_stopped_by_its_pid_file(tmp_path: Path) -> None:
    control, output, pid_file = SCRIPT.with_name("control.py"), tmp_path / "n.jsonl", tmp_path / "run" / "pid"
    command = [sys.executable, str(SCRIPT), "--state-dir", str(tmp_path), "--output", str(output)]
    start = [sys.executable, str(control), "start", str(pid_file), str(tmp_path / "log"), str(output), "--"]
    subprocess.run([*start, *command], check=True, timeout=60)
    pid = int(pid_file.read_text().split()[0])
    assert Path(f"/proc/{pid}").exists()
    before = output.read_text().count("\n")
    stop = [sys.executable, str(control), "stop", str(pid_file)]
    for _ in range(2):  # stopping twice is no error
        subprocess.run(stop, check=True, timeout=60)
    assert not pid_file.exists()
    stat = Path(f"/proc/{pid}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
    assert output.read_text().count("\n") > before


def test_a_sampler_that_does_not_start_says_why(tmp_path: Path) -> None:
    control, pid_file = SCRIPT.with_name("control.py"), tmp_path / "pid"
    command = [sys.executable, str(SCRIPT), "--state-dir", "x"]
    start = [
        sys.executable,
        str(control),
        "start",
        str(pid_file),
        str(tmp_path / "log"),
        str(tmp_path / "n"),
        "--",
    ]
    done = subprocess.run([*start, *command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "--output" in done.stderr
    assert not pid_file.exists()


FIGURES = """# TYPE rabbitmq_queue_messages_ready gauge
# HELP rabbitmq_queue_messages_ready Messages ready to be delivered to consumers
rabbitmq_queue_messages_ready 12
rabbitmq_queue_messages_unacked 3
rabbitmq_queue_messages 15
rabbitmq_queue_messages_ready_bytes 4096
"""


def test_the_depth_of_all_queues_is_read_from_rabbitmqs_figures() -> None:
    assert sums(FIGURES) == {"ready": 12, "unacknowledged": 3}
    assert sums(FIGURES.replace(" 12\n", " 1.2e+06\n"))["ready"] == 1_200_000
    assert sums(FIGURES.replace("_unacked 3", "_unacked NaN")) == {}
    assert sums("") == {}


def test_queues_are_asked_about_every_five_seconds_and_may_be_away() -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(FIGURES.encode())

        def log_message(self, *_: object) -> None:
            pass

    now = 0.0
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        queues = RabbitMq(f"http://127.0.0.1:{server.server_port}/metrics", clock=lambda: now)
        assert queues.messages() == {"ready": 12, "unacknowledged": 3}
        now = 4.9
        assert queues.messages() == {}
    now = 5.0
    assert queues.messages() == {}, "nobody listens any more"
