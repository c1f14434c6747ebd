"""What a bisect found is kept for its alert's page, and what can't be read of it is left away."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from perfci.alerts.bisect_story import BisectRow, BisectStory
from perfci.changes.model import Change, Person
from perfci.report.model import BisectCulprit
from perfci.results.model import Metric
from perfci.runs.publish.bisect_store import keep_bisect, kept_bisect

INSIDE = BisectStory(
    title="oslo.db 17.0 → 18.0",
    job="tiny",
    series="list_ports in NeutronNetworks",
    metric=Metric.SECONDS,
    end="not finished",
    headline="bisect of list_ports is not finished",
    verdict="It is not finished: there was no time for another run.",
    command="perfci bisect 3f2a1b",
)
STORY = replace(
    INSIDE,
    title="alert 3f2a1b",
    end="culprit",
    culprit_at=1,
    rows=(
        BisectRow(0, "good end", "", 2, 0.4, 0.39, 0.41),
        BisectRow(1, "neutron 1f2e", "Slow <it>", 1, 0.52, None, None),
        BisectRow(2, "newest revision", "", 0, None, None, None, at_head=True, note="it does not deploy"),
    ),
    remarks=("8 runs.",),
    inside=INSIDE,
)


def test_what_was_kept_is_what_was_found(tmp_path):
    keep_bisect(tmp_path, "3f2a1b", STORY)
    found = kept_bisect(tmp_path, "3f2a1b")
    assert (found.title, found.series, found.metric, found.end) == (
        STORY.title,
        STORY.series,
        Metric.SECONDS,
        "culprit",
    )
    assert (found.verdict, found.command, found.culprit_at, found.remarks) == (
        STORY.verdict,
        STORY.command,
        1,
        STORY.remarks,
    )
    for place, row in zip(found.places, STORY.rows, strict=True):
        assert all(getattr(place, name) == getattr(row, name) for name in place.__dataclass_fields__)
    assert found.inside.title == INSIDE.title
    assert found.inside.inside is None
    keep_bisect(tmp_path, "3f2a1b", INSIDE)
    assert kept_bisect(tmp_path, "3f2a1b").end == "not finished", "a bisect that goes on is kept again"


def test_changes_are_kept_with_their_authors(tmp_path):
    change = Change(
        "neutron", "1f2e3d4c5b" * 4, None, "Slow it", Person("Ada", "ada@example.org"), None,
        datetime(2026, 11, 30, tzinfo=UTC), None, "https://x.org/1",
    )  # fmt: skip
    keep_bisect(tmp_path, "a1", replace(STORY, culprits=(change,)))
    (found,) = kept_bisect(tmp_path, "a1").culprits
    assert found == BisectCulprit(change.name, "Slow it", "Ada", change.link)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"title": 1}'])
def test_what_is_damaged_is_none(tmp_path, content):
    keep_bisect(tmp_path, "a1", STORY)
    (tmp_path / "bisects" / "a1.json").write_text(content)
    assert kept_bisect(tmp_path, "a1") is None
    assert kept_bisect(tmp_path, "another") is None


def test_an_id_that_is_no_name_of_a_file_is_kept_nowhere(tmp_path):
    keep_bisect(tmp_path / "state", "../a1", STORY)
    assert not list(tmp_path.rglob("*.json"))
    assert kept_bisect(tmp_path / "state", "../a1") is None
