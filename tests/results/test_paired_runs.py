"""Pairs out of an archived run: matched by Rally's own time stamps, never by position."""

from __future__ import annotations

import json
import math

import pytest
from archives import night
from paired_runs import SLUG, iterations, write_sides

from perfci.results.archive import RunFiles
from perfci.results.errors import ArchiveError
from perfci.results.model import TOTAL
from perfci.results.pairs import NEW, OLD, PAIRS, REFERENCE, is_paired


@pytest.fixture
def folder(tmp_path):
    return night(tmp_path, 1)


def whole(folder):
    return next(one for one in RunFiles(folder).paired.series if one.key.action == TOTAL)


def changed(folder, change):
    """Change a side's report or the record of pairs in place."""
    data = json.loads(folder.read_text())
    change(data)
    folder.write_text(json.dumps(data))


def test_each_measured_pair_gives_its_log_ratio_in_order(folder):
    write_sides(folder, factor=1.1)
    assert is_paired(folder)
    found = whole(folder)
    assert len(found.differences) == 28  # of 30, two for warm-up
    new, old = (
        iterations(json.loads((place / "rally" / f"{SLUG}.json").read_text()))
        for place in (folder, folder / REFERENCE)
    )
    wanted = [math.log(a["duration"] / b["duration"]) for a, b in zip(new, old, strict=True)][2:]
    assert found.differences == pytest.approx(wanted)
    assert found.new_logs[0] - found.old_logs[0] == pytest.approx(wanted[0])
    assert (found.dropped, found.old_failures, found.new_failures) == (0, 0, 0)
    actions = {one.key.action for one in RunFiles(folder).paired.series}
    assert "neutron.create_port" in actions


def test_a_block_is_one_pair(folder):
    write_sides(folder, factor=1.1, block=2)
    found = whole(folder)
    assert len(found.differences) == 14
    assert sum(found.differences) / 14 == pytest.approx(math.log(1.1), abs=0.01)


@pytest.mark.parametrize(("place", "counts"), [(".", (0, 1)), (REFERENCE, (1, 0))])
def test_a_failed_iteration_drops_its_pair_and_is_counted_on_its_side(folder, place, counts):
    write_sides(folder, block=2)

    def fail(document):
        iterations(document)[7]["error"] = ["Timeout", "it took too long", ""]

    changed(folder / place / "rally" / f"{SLUG}.json", fail)
    found = whole(folder)
    assert len(found.differences) == 13
    assert found.dropped == 1
    assert (found.old_failures, found.new_failures) == counts


def test_an_iteration_that_ran_alone_is_in_no_pair(folder):
    write_sides(folder)

    def alone(record):
        task = record["tasks"][SLUG]
        task["alone"] = {NEW: [pair[NEW][0] for pair in task["pairs"][20:]]}
        del task["pairs"][20:]
        task["notes"] = ["old: an iteration did not end within 60 s; from here on the other side was alone"]
        record["sides"][OLD]["left"] = "its hammer ended with -9"

    changed(folder / PAIRS, alone)
    assert len(whole(folder).differences) == 18
    assert RunFiles(folder).paired.notes == (
        "old: its hammer ended with -9",
        "01-ports: old: an iteration did not end within 60 s; from here on the other side was alone",
    )


def test_results_that_are_missing_or_shifted_pair_nothing_wrong(folder):
    """A load generator that died leaves a gap in one side's report: what follows must not move up."""
    write_sides(folder, factor=1.1)
    before = whole(folder).differences
    changed(folder / REFERENCE / "rally" / f"{SLUG}.json", lambda document: iterations(document).pop(10))
    after = whole(folder)
    assert after.dropped == 1
    assert list(after.differences) == pytest.approx([*before[:8], *before[9:]])


def test_the_order_of_what_is_written_does_not_matter(folder):
    write_sides(folder, factor=1.1)
    before = whole(folder)
    changed(folder / "rally" / f"{SLUG}.json", lambda document: iterations(document).reverse())
    assert whole(folder) == before


def test_half_a_record_is_said(folder):
    write_sides(folder)
    (folder / PAIRS).write_text((folder / PAIRS).read_text()[:200])
    with pytest.raises(ArchiveError, match=PAIRS):
        _ = RunFiles(folder).paired


def test_a_run_of_one_cloud_is_not_paired(folder):
    assert not is_paired(folder)
