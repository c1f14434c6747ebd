"""What tasks left in the cloud: the file, and the series."""

from __future__ import annotations

import json

import pytest

from perfci.results.archive import read_archive
from perfci.results.errors import ArchiveError
from perfci.results.leftovers import LEFTOVERS, read_leftovers
from perfci.results.model import TOTAL, Metric

PORT = {"kind": "port", "id": "p1", "name": "", "error": ""}
ROUTER = {
    "kind": "router",
    "id": "r1",
    "name": "c_rally_1",
    "error": "removal of the router r1: Conflict: in use",
}
FOUND = [
    {"slug": "01-authenticate", "found": [PORT, {**PORT, "id": "p2"}, ROUTER], "error": None},
    {"slug": "02-create-and-list-ports", "found": None, "error": "list of every port: timed out"},
]


def left(folder, content=FOUND):
    (folder / LEFTOVERS).write_text(json.dumps(content))
    return folder


def test_each_task_says_what_it_left_and_what_could_not_be_removed(tmp_path):
    first, second = read_leftovers(left(tmp_path)).values()
    assert first.kinds == {"port": 2, "router": 1}
    assert [one.id for one in first.kept] == ["r1"]
    assert (second.found, second.error) == (None, "list of every port: timed out")


def test_a_run_that_did_not_look_says_nothing(tmp_path):
    assert read_leftovers(tmp_path) == {}


@pytest.mark.parametrize(
    "content", ["", "[", '[{"slug": "", "found": []}]', '[{"slug": "a", "found": 3}]', "{}"]
)
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / LEFTOVERS).write_text(content)
    with pytest.raises(ArchiveError, match=LEFTOVERS):
        read_leftovers(tmp_path)


def test_the_number_is_a_series_of_the_scenario(make_record, archive_run):
    folder = left(archive_run(make_record()), [FOUND[0], {**FOUND[1], "found": [], "error": None}])
    found = {m.key.scenario: m for m in read_archive(folder).measurements if m.key.metric is Metric.LEFTOVERS}
    assert found["Authenticate.keystone"].values == (3.0,)
    assert found["NeutronNetworks.create_and_list_ports"].values == (0.0,)
    assert {m.key.action for m in found.values()} == {TOTAL}


def test_what_is_unknown_is_no_number(make_record, archive_run):
    folder = left(archive_run(make_record()))
    found = [m for m in read_archive(folder).measurements if m.key.metric is Metric.LEFTOVERS]
    assert [m.key.scenario for m in found] == ["Authenticate.keystone"]
