"""The guides for developers name files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`((?:perfci|tests|roles|jobs|docs|playbooks|plugins)/[\w./-]*)`")
ROOM = re.compile(r"^\| `(\w+)/` \|.*\| (.*) \|$", re.MULTILINE)
GUIDES = ("CONTRIBUTING.md", "docs/architecture.md")
EXAMPLES = {"jobs/tasks/nova-boot-and-resize-server.yml.j2"}


@pytest.mark.parametrize("guide", GUIDES)
def test_named_files_exist(guide):
    named = set(NAMED.findall((ROOT / guide).read_text(encoding="utf-8")))
    assert {name for name in named - EXAMPLES if not (ROOT / name).exists()} == set()
    assert len(named) > 3


def test_the_table_of_rooms_is_that_of_the_code():
    rooms = dict(ROOM.findall((ROOT / "docs/architecture.md").read_text(encoding="utf-8")))
    runs = ROOT / "perfci" / "runs"
    assert set(rooms) == {folder.name for folder in runs.iterdir() if (folder / "__init__.py").exists()}
    for room, starts in rooms.items():
        for start in re.findall(r"`([\w.]+)`", starts):
            assert (runs / room / start).exists(), f"{room}/{start}"


def test_files_below_perfci_that_a_table_names_exist():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    below = set(
        re.findall(r"`((?:results|analysis|alerts|report|lab|night|verdicts|publish|state)/[\w/.]+)`", text)
    )
    rooms = [ROOT / "perfci", ROOT / "perfci" / "runs"]
    assert {name for name in below if not any((room / name).exists() for room in rooms)} == set()
    assert len(below) > 10
