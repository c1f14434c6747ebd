"""What `make test` does with a failure, and what `make test-container` asks of podman or docker."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from programs import needs

ROOT = Path(__file__).parents[1]
pytestmark = needs("make")


def make(*words: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/usr/bin/env", f"PATH={path}", "make", "-s", "-C", str(ROOT), *words],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def engine(tmp_path):
    """Return a program that takes the part of docker: it prints what it is asked, one word a line."""
    program = tmp_path / "docker"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    return program


def test_all_tests_run_on_a_copy_in_a_privileged_container(engine):
    done = make("test-container", f"CONTAINER={engine}", path=os.environ["PATH"])
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()
    assert words[:5] == ["run", "--rm", "--privileged", "--volume", f"{ROOT}:/src:ro"]
    assert words[5:8] == ["docker.io/library/debian:12", "sh", "-ec"]
    script = done.stdout.partition("-ec\n")[2]
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0
    assert "make test" in script
    assert "--exclude=./.venv" in script


def test_what_is_copied_is_all_but_what_this_machine_made(engine, tmp_path):
    """The copy is made by the very commands of the script, of a small tree."""
    source, target = tmp_path / "src", tmp_path / "perfci"
    for name in (".venv/bin/python", "state/lab.db", "perfci/state/x.py", "Makefile", ".git/HEAD"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    script = make("test-container", f"CONTAINER={engine}", path=os.environ["PATH"]).stdout.partition("-ec\n")[
        2
    ]
    copying = next(part for part in script.split(";") if "tar " in part)
    target.mkdir()
    copying = copying.replace("/src", str(source)).replace("/perfci", str(target))
    subprocess.run(["sh", "-ec", copying], check=True)
    copied = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    assert copied == [".git/HEAD", "Makefile", "perfci/state/x.py"]


def test_what_it_starts_keeps_its_bytecode(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    program = tmp_path / "tests"
    program.write_text('#!/bin/sh\necho "bytecode: ${PYTHONDONTWRITEBYTECODE-kept}"\n')
    program.chmod(0o755)
    assert make("suite", f"TESTS={program}", path=os.environ["PATH"]).stdout == "bytecode: kept\n"


@pytest.mark.parametrize(("gib", "processes"), [(8, 2), (13.9, 2), (14, 3), (60, 3)])
def test_each_process_of_the_tests_has_memory_for_a_cloud(tmp_path, gib, processes):
    memory = tmp_path / "meminfo"
    memory.write_text(f"MemTotal: 65805120 kB\nMemAvailable: {int(gib * 2**20)} kB\n")
    asked = ("--dry-run", "suite", f"MEMINFO={memory}")
    assert f" --numprocesses {processes} " in make(*asked, path=os.environ["PATH"]).stdout
    assert " --numprocesses 5 " in make(*asked, "WORKERS=5", path=os.environ["PATH"]).stdout


@pytest.mark.parametrize(
    ("exit_codes", "passes", "runs"),
    [
        ([0], True, 1),
        ([1, 0], True, 2),
        ([1, 1], False, 2),
        ([1, 5], False, 2),
        ([2], False, 1),
        ([3], False, 1),
    ],
    ids=["passes", "passes alone", "fails twice", "nothing to repeat", "interrupted", "internal error"],
)
def test_only_failed_tests_run_again_and_once(tmp_path, exit_codes, passes, runs):
    """The exit codes are pytest's."""
    (tmp_path / "codes").write_text("".join(f"{code}\n" for code in exit_codes))
    program = tmp_path / "tests"
    program.write_text(
        f'#!/bin/sh\ncd {tmp_path}\necho "$@" >>asked\ncode=$(head -n 1 codes)\nsed -i 1d codes\nexit $code\n'
    )
    program.chmod(0o755)
    done = make("suite", f"TESTS={program}", path=os.environ["PATH"])
    assert (done.returncode == 0) is passes, done.stdout + done.stderr
    asked = (tmp_path / "asked").read_text().splitlines()
    assert ["--last-failed" in line for line in asked] == [False, True][:runs]
    assert ["--numprocesses" in line for line in asked] == [True, False][:runs]


def test_without_podman_and_docker_it_says_what_to_install():
    done = make("test-container", "CONTAINER=", path=os.environ["PATH"])
    assert done.returncode != 0
    assert "apt-get install podman" in done.stdout
