"""Tasks that gave nothing are told, whatever form their remains have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from perfci.runs.night.failed_tasks import problems, told

DATA = Path(__file__).parents[2] / "data"
SAMPLE = DATA / "archive" / "20261121T052400Z-sample-7c3d"


def test_a_crashed_task_of_a_real_run_is_found():
    found, total = problems(SAMPLE)
    assert total == 7
    assert [one.slug for one in found] == [
        "04-glance-create-and-delete-image",
        "06-neutron-create-and-delete-routers",
    ]
    assert found[0].text.startswith("all 4 iterations failed; the first with ")
    assert found[1].text.startswith("crashed: ")
    assert told(found, total).splitlines()[0] == "2 of 7 tasks gave no results"


def folder_with(tmp_path, report, status="finished"):
    (tmp_path / "rally").mkdir()
    shutil.copy(DATA / "rally" / report, tmp_path / "rally" / "01-x.json")
    (tmp_path / "tasks.json").write_text(json.dumps([{"slug": "01-x", "status": status, "error": None}]))
    return tmp_path


def test_a_task_whose_iterations_all_failed_says_how_the_first_did(tmp_path):
    (found,), total = problems(folder_with(tmp_path, "all-failed.json"))
    assert total == 1
    assert "iterations failed; the first with" in found.text


def test_some_failed_iterations_are_the_failure_rates_business(tmp_path):
    assert problems(folder_with(tmp_path, "some-failed.json")) == ([], 1)


@pytest.mark.parametrize("text", [None, "", "[", "{}", "[1, 2]", "null"])
def test_no_tasks_are_no_tasks(tmp_path, text):
    if text is not None:
        (tmp_path / "tasks.json").write_text(text)
    assert problems(tmp_path) == ([], 0)
