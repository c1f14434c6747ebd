"""What every book of reservations promises: in memory, in SQLite, in PostgreSQL."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from perfci.database.engine import Database
from perfci.database.errors import DatabaseUnavailable
from perfci.lab import owners
from perfci.lab.errors import (
    LeaseInUse,
    NodesBusy,
    NodesQuarantined,
    NodesUnknown,
    ReservationInvalid,
    ReservationNotFound,
)
from perfci.lab.ledger import Ledger, MemoryLedger
from perfci.lab.model import Node
from perfci.lab.scheduling import EndReason
from perfci.lab.sql import SqlLedger

if TYPE_CHECKING:
    from pathlib import Path

NODES = (Node("b"), Node("a"))
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def in_hours(self, hours: float) -> datetime:
        return self.now + timedelta(hours=hours)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def ledger(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Ledger:
    if request.param == "memory":
        return MemoryLedger("lab", NODES, clock=clock)
    if request.param == "sqlite":
        return SqlLedger(Database(f"sqlite:///{tmp_path}/state/lab.db"), "lab", NODES, clock=clock)
    # One server for all tests: each has a lab of its own in it.
    lab = f"lab-{tmp_path.name}"
    return SqlLedger(Database(request.getfixturevalue("postgresql")), lab, NODES, clock=clock)


def test_a_reservation_holds_until_it_is_released(ledger: Ledger, clock: Clock) -> None:
    made = ledger.reserve(nodes=1, holder="ann", purpose="a look", until=clock.in_hours(4))
    assert (made.nodes, made.holder, made.purpose, made.owner) == (("a",), "ann", "a look", None)
    assert (made.starts_at, made.ends_at, made.released_at) == (START, START + timedelta(hours=4), None)
    assert ledger.held() == (made,)
    clock.now = clock.in_hours(1)
    released = ledger.release(made.id)
    assert released == replace(made, released_at=clock.now)
    assert ledger.held() == ()
    clock.now = clock.in_hours(1)
    assert ledger.release(made.id) == released, "the first release counts"


def test_times_of_any_zone_are_kept_in_utc(ledger: Ledger, clock: Clock) -> None:
    until = clock.in_hours(4).astimezone(timezone(timedelta(hours=9))) + timedelta(microseconds=1)
    ledger.reserve(nodes=1, holder="ann", purpose="a look", until=until)
    (kept,) = ledger.held()
    assert kept.ends_at == until
    assert kept.ends_at.utcoffset() == timedelta(0)


def test_a_name_can_be_asked_for(ledger: Ledger, clock: Clock) -> None:
    named = frozenset({"b"})
    assert ledger.reserve(nodes=named, holder="ann", purpose="x", until=clock.in_hours(1)).nodes == ("b",)
    assert ledger.reserve(nodes=1, holder="bob", purpose="x", until=clock.in_hours(1)).nodes == ("a",)


def test_who_is_in_the_way_is_named(ledger: Ledger, clock: Clock) -> None:
    ledger.reserve(nodes=2, holder="ann", purpose="tuning neutron", until=clock.in_hours(4))
    with pytest.raises(NodesBusy) as caught:
        ledger.reserve(nodes=frozenset({"b"}), holder="bob", purpose="x", until=clock.in_hours(1))
    text = str(caught.value)
    assert "a, b: held by ann (tuning neutron) since 2026-03-01" in text
    assert "until" in text
    assert "perfci lab nodes" in caught.value.advice
    assert [one.holder for one in caught.value.reservations] == ["ann"]
    assert len(ledger.held()) == 1


def test_what_the_lab_does_not_have(ledger: Ledger, clock: Clock) -> None:
    with pytest.raises(NodesUnknown, match="2 nodes"):
        ledger.reserve(nodes=3, holder="ann", purpose="x", until=clock.in_hours(1))
    with pytest.raises(NodesUnknown, match="wanted: c"):
        ledger.reserve(nodes=frozenset({"c"}), holder="ann", purpose="x", until=clock.in_hours(1))


@pytest.mark.parametrize(
    ("purpose", "hours"), [("", 1), ("  ", 1), ("two\nlines", 1), ("\x1b[2J", 1), ("x", 0), ("x", -1)]
)
def test_what_is_no_reservation(ledger: Ledger, clock: Clock, purpose: str, hours: float) -> None:
    with pytest.raises(ReservationInvalid):
        ledger.reserve(nodes=1, holder="ann", purpose=purpose, until=clock.in_hours(hours))
    assert ledger.held() == ()


def test_a_reservation_whose_time_is_over_is_in_nobodys_way(ledger: Ledger, clock: Clock) -> None:
    old = ledger.reserve(nodes=2, holder="ann", purpose="x", until=clock.in_hours(1))
    clock.now = clock.in_hours(1)
    assert ledger.held() == ()
    assert ledger.reserve(nodes=2, holder="bob", purpose="x", until=clock.in_hours(1)).holder == "bob"
    assert ledger.sweep() == ((replace(old, released_at=clock.now), EndReason.TIME),)
    assert ledger.sweep() == ()


def test_an_unknown_reservation(ledger: Ledger) -> None:
    with pytest.raises(ReservationNotFound, match="nosuch"):
        ledger.release("nosuch")


def test_a_lease_is_this_processs_and_ends_with_its_context(ledger: Ledger, clock: Clock) -> None:
    with ledger.lease(nodes=1, holder="run", purpose="nightly", until=clock.in_hours(1)) as lease:
        assert ledger.held() == (lease,)
        assert lease.owner == owners.me()
        assert ledger.sweep() == ()
    assert ledger.held() == ()


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), SystemExit(3)])
def test_a_lease_is_given_back_whatever_happens(ledger: Ledger, clock: Clock, error: BaseException) -> None:
    with (
        pytest.raises(type(error)) as caught,
        ledger.lease(nodes=2, holder="run", purpose="nightly", until=clock.in_hours(1)),
    ):
        raise error
    assert caught.value is error
    assert ledger.held() == ()


def test_the_first_error_is_told_when_giving_back_fails_too(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: str) -> None:
        raise DatabaseUnavailable(url="x", reason="the disk is full")

    monkeypatch.setattr(ledger, "release", fails)
    with (
        pytest.raises(RuntimeError, match="first") as caught,
        ledger.lease(nodes=1, holder="run", purpose="nightly", until=clock.in_hours(1)),
    ):
        raise RuntimeError("first")
    assert "the disk is full" in caught.value.__notes__[0]


def test_time_never_frees_the_nodes_of_a_process_that_lives(ledger: Ledger, clock: Clock) -> None:
    with ledger.lease(nodes=2, holder="run", purpose="nightly", until=clock.in_hours(1)) as lease:
        clock.now = clock.in_hours(2)
        assert ledger.sweep() == ()
        assert ledger.held() == (lease,)
        with pytest.raises(NodesBusy, match="nightly"):
            ledger.reserve(nodes=1, holder="bob", purpose="x", until=clock.in_hours(1))
    assert ledger.held() == ()
    ledger.reserve(nodes=2, holder="bob", purpose="x", until=clock.in_hours(1))


def test_a_lease_can_be_made_longer_and_never_shorter(ledger: Ledger, clock: Clock) -> None:
    with ledger.lease(nodes=1, holder="run", purpose="nightly", until=clock.in_hours(2)) as lease:
        assert ledger.extend(lease.id, clock.in_hours(1)) == lease
        longer = ledger.extend(lease.id, clock.in_hours(5))
        assert longer == replace(lease, ends_at=clock.in_hours(5))
        assert ledger.held() == (longer,)
    with pytest.raises(ReservationNotFound):
        ledger.extend(lease.id, clock.in_hours(5))


def test_a_lease_taken_over_by_another_host_a_day_after_its_end_is_not_released_by_its_first_holder(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ledger.lease(nodes=2, holder="run", purpose="nightly", until=clock.in_hours(1)):
        clock.now = clock.in_hours(24.9)
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(socket, "gethostname", lambda: "another")
            assert ledger.sweep() == ()
            assert len(ledger.held()) == 1
            with pytest.raises(NodesBusy):
                ledger.reserve(nodes=1, holder="bob", purpose="x", until=clock.in_hours(1))
            clock.now = clock.in_hours(0.2)
            assert [reason for _, reason in ledger.sweep()] == [EndReason.TIME]
            other = ledger.reserve(nodes=2, holder="bob", purpose="x", until=clock.in_hours(1))
    assert ledger.held() == (other,)


def test_a_person_gives_back_what_a_host_that_is_gone_held(
    ledger: Ledger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = replace(owners.me(), host="another")
    lost = ledger.reserve(nodes=2, holder="run", purpose="x", until=clock.in_hours(1), owner=far)
    clock.now = clock.in_hours(2)
    ledger.release(lost.id)
    assert ledger.held() == ()


def test_a_dead_owners_lease_is_swept_and_others_are_not(ledger: Ledger, clock: Clock) -> None:
    gone = replace(owners.me(), started_ticks=1)
    far = replace(owners.me(), host="another")
    lost = ledger.reserve(nodes=1, holder="run", purpose="x", until=clock.in_hours(1), owner=gone)
    kept = ledger.reserve(nodes=1, holder="run", purpose="x", until=clock.in_hours(1), owner=far)
    assert ledger.sweep() == ((replace(lost, released_at=START), EndReason.OWNER),)
    assert ledger.held() == (kept,)


def test_a_running_lease_is_not_released_by_others(ledger: Ledger, clock: Clock) -> None:
    parent = os.getppid()
    with open(f"/proc/{parent}/stat") as stat:  # noqa: PTH123
        ticks = int(stat.read().rpartition(")")[2].split()[19])
    owner = replace(owners.me(), pid=parent, started_ticks=ticks)
    lease = ledger.reserve(nodes=1, holder="run", purpose="nightly", until=clock.in_hours(1), owner=owner)
    with pytest.raises(LeaseInUse, match=f"process {parent}, which is running: nightly"):
        ledger.release(lease.id)
    assert ledger.held() == (lease,)


def test_a_node_in_quarantine_is_given_to_nobody_until_it_is_restored(ledger: Ledger, clock: Clock) -> None:
    held = ledger.reserve(nodes=frozenset({"a"}), holder="ann", purpose="x", until=clock.in_hours(2))
    entry = ledger.quarantine("a", "its BMC hangs")
    assert (entry.node, entry.reason, entry.since) == ("a", "its BMC hangs", START)
    assert ledger.held() == (held,), "who holds it keeps it"
    clock.now = clock.in_hours(1)
    assert ledger.quarantine("a", "another reason") == entry, "the first reason stays"
    assert ledger.quarantined() == (entry,)
    ledger.release(held.id)
    assert ledger.reserve(nodes=1, holder="bob", purpose="x", until=clock.in_hours(1)).nodes == ("b",)
    for nodes in (2, frozenset({"a"})):
        with pytest.raises(NodesQuarantined) as caught:
            ledger.reserve(nodes=nodes, holder="eve", purpose="x", until=clock.in_hours(1))
        assert "a: since 2026-03-01" in str(caught.value)
        assert "its BMC hangs" in str(caught.value)
        assert caught.value.quarantined == (entry,)
    assert ledger.restore("a") is True
    assert ledger.restore("a") is False
    assert ledger.reserve(nodes=1, holder="eve", purpose="x", until=clock.in_hours(1)).nodes == ("a",)


def test_what_can_not_be_put_into_quarantine(ledger: Ledger) -> None:
    with pytest.raises(NodesUnknown, match="wanted: c"):
        ledger.quarantine("c", "x")
    with pytest.raises(NodesUnknown, match="wanted: c"):
        ledger.restore("c")
    with pytest.raises(ReservationInvalid, match="the reason must be one line"):
        ledger.quarantine("a", "two\nlines")
    assert ledger.quarantined() == ()


def test_an_error_inside_a_transaction_writes_nothing(ledger: Ledger, clock: Clock) -> None:
    made = ledger.reserve(nodes=1, holder="ann", purpose="x", until=clock.in_hours(1))

    def interrupted() -> None:
        with ledger._transaction() as book:
            book.mark_released(made.id, clock.now, reclaim=False, killed=False)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert ledger.held() == (made,)


def test_labs_do_not_see_each_other(tmp_path: Path, clock: Clock) -> None:
    url = f"sqlite:///{tmp_path}/lab.db"
    here, there = (SqlLedger(Database(url), name, NODES, clock=clock) for name in ("here", "there"))
    made = here.reserve(nodes=2, holder="ann", purpose="x", until=clock.in_hours(1))
    assert there.held() == ()
    here.quarantine("a", "x")
    assert there.quarantined() == ()
    there.reserve(nodes=2, holder="bob", purpose="x", until=clock.in_hours(1))
    with pytest.raises(ReservationNotFound):
        there.release(made.id)


def test_what_is_written_is_there_for_the_next_process(tmp_path: Path, clock: Clock) -> None:
    def book() -> Ledger:
        return SqlLedger(Database(f"sqlite:///{tmp_path}/lab.db"), "lab", NODES, clock=clock)

    made = book().reserve(nodes=2, holder="ann", purpose="x", until=clock.in_hours(1), owner=owners.me())
    assert book().held() == (made,)
