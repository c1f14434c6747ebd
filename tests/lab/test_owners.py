"""Whether a process lives, asked of a real kernel."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

from perfci.lab.owners import dead, me


def test_the_caller_lives() -> None:
    assert me().pid == os.getpid()
    assert me() == me()
    assert dead([me()]) == frozenset()


def test_another_start_or_another_boot_is_another_process() -> None:
    earlier, before_reboot = replace(me(), started_ticks=1), replace(me(), boot="another")
    assert dead([earlier, before_reboot, me()]) == {earlier, before_reboot}


def test_nothing_is_said_of_other_hosts() -> None:
    assert dead([replace(me(), host="another", boot="another")]) == frozenset()


def test_a_killed_process_is_dead_before_and_after_it_is_waited_for() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        stat = Path(f"/proc/{process.pid}/stat").read_text()
        owner = replace(me(), pid=process.pid, started_ticks=int(stat.rpartition(")")[2].split()[19]))
        assert dead([owner]) == frozenset()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert dead([owner]) == {owner}  # a zombie
    assert dead([owner]) == {owner}


def test_a_process_that_proc_hides_is_not_taken_for_dead(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text(f"{me().boot}\n")
    with subprocess.Popen(["sleep", "60"]) as process:
        hidden = replace(me(), pid=process.pid)
        assert dead([hidden, replace(me(), pid=1)], tmp_path) == frozenset()
        process.kill()
    assert dead([hidden], tmp_path) == {hidden}
