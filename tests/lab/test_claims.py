"""Who is in the way of an order to nodes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from perfci.lab.claims import Claims, against, record_override
from perfci.lab.errors import NodeHeld, NodesQuarantined
from perfci.lab.model import Owner, Quarantine, Reservation

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 3, 1, tzinfo=UTC)
RUN = Owner("here", "boot", 7, 70)


def reservation(holder: str, *nodes: str, owner: Owner | None = None) -> Reservation:
    return Reservation(f"{holder}-{nodes}", "lab", nodes, holder, "x", NOW, NOW + timedelta(hours=1), owner)


ANN, ME = reservation("ann", "a", "b"), reservation("me", "c")
MY_RUN = reservation("me", "d", owner=RUN)
BROKEN = Quarantine("e", "fan broken", NOW)
LOST = Quarantine("d", "it did not come up", NOW)


@pytest.mark.parametrize(
    ("nodes", "processes", "held", "quarantined"),
    [
        ("a", (), (ANN,), ()),
        ("abc", (), (ANN,), ()),
        ("c", (), (), ()),
        ("d", (), (MY_RUN,), (LOST,)),
        ("d", (RUN,), (), ()),
        ("d", (Owner("here", "boot", 7, 71),), (MY_RUN,), (LOST,)),
        ("e", (RUN,), (), (BROKEN,)),
        ("f", (), (), ()),
        ("de", (RUN,), (), (BROKEN,)),
        ("d", (Owner("here", "boot", 8, 80),), (MY_RUN,), (LOST,)),
    ],
)
def test_who_would_be_disturbed(nodes, processes, held, quarantined):
    for known in permutations((ANN, ME, MY_RUN)):
        found = against(nodes, iter(known), (BROKEN, LOST), person="me", processes=frozenset(processes))
        assert found == Claims(held, quarantined)
        assert bool(found) is bool(held or quarantined)


def test_what_is_told():
    both = Claims((ANN,), (BROKEN,))
    assert isinstance(both.error, NodeHeld)
    assert isinstance(Claims((), (BROKEN,)).error, NodesQuarantined)
    first, second = both.lines()
    assert first.startswith("a, b: held by ann (x) since")
    assert second == "e: in quarantine: fan broken"


def test_each_override_is_kept(tmp_path: Path):
    file = tmp_path / "new" / "forced.jsonl"
    for reason in ("first", "second"):
        record_override(file, Claims((ANN,)), nodes=["b", "a"], person="me", reason=reason, at=NOW)
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    assert [entry["why"] for entry in entries] == ["first", "second"]
    assert entries[0]["who"] == "me"
    assert entries[0]["nodes"] == ["a", "b"]
    assert "held by ann" in entries[0]["against"][0]
