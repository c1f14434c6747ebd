"""A night on a copy of inventory/example, which the documentation tells admins to copy, against simulated machines.

Only what an admin fills in differs. `make test` runs it: nobody noticed that the documented lab could not run one
while only the generated inventory was driven to the end.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from virtual_labs import as_example_lab, needs_nspawn, perfci, project_for_nights

from perfci.results.archive import read_archive
from perfci.results.model import TOTAL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), *needs_nspawn]
STAGES = ["reserve", "provision", "deploy", "hammer", "collect", "release"]


@pytest.fixture(scope="module")
def environ(tmp_path_factory):
    return project_for_nights(tmp_path_factory.mktemp("e"))


@pytest.fixture(scope="module")
def run(environ):
    code, now = perfci(environ, "virtual", "up", "--nodes", "2", "--kind", "nspawn")
    assert code == 0, now
    as_example_lab(environ)
    yield perfci(environ, "run", "smoke", "--lab", "virtual")
    perfci(environ, "virtual", "down")
    perfci(environ, "clean", "--yes", "--purge")


def test_the_night_ends_well(run):
    code, outcome = run
    assert outcome["failure"] is None
    assert (code, outcome["status"], outcome["later"]) == (0, "finished", [])


def test_its_stages_were_passed_and_its_results_came_back(run):
    folder = Path(run[1]["folder"])
    document = json.loads((folder / "run.json").read_text())
    assert [one["name"] for one in document["stages"] if one["ok"]] == STAGES
    assert document["cleanup_errors"] == []
    assert [m for m in read_archive(folder).measurements if m.key.action == TOTAL]
    assert (folder / "logs" / "node-1.tar.gz").exists()
