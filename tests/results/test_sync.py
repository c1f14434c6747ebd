import multiprocessing
import os
import signal

import pytest

from perfci.database.engine import Database
from perfci.results.archive import read_archive
from perfci.results.deliveries import DeliveryLedger
from perfci.results.errors import DeliveriesUnavailable, InfluxRunTooOld, ReportError
from perfci.results.stores.local import LocalStore
from perfci.results.stores.memory import MemoryStore
from perfci.results.sync import pending, sync


class Recording(MemoryStore):
    """A memory store that tells what was written, and fails when it is told to."""

    def __init__(self):
        super().__init__()
        self.writes = []
        self.fail_at = None
        self.too_old = ()

    def write(self, results):
        if results.record.run_id == self.fail_at:
            raise ConnectionError
        if results.record.run_id in self.too_old:
            raise InfluxRunTooOld(
                url="memory", run_id=results.record.run_id, status=400, reason="dropped=117"
            )
        self.writes.append(results.record.run_id)
        super().write(results)


@pytest.fixture
def archived(make_record, archive_run, tmp_path):
    records = [make_record(n) for n in range(1, 4)]
    for record in records:
        archive_run(record)
    return tmp_path / "archive", [record.run_id for record in records]


@pytest.fixture
def ledger(database_url):
    return DeliveryLedger(Database(database_url))


def test_each_run_is_delivered_once(archived, ledger):
    archive, ids = archived
    store, seen = Recording(), []
    assert pending(archive, store, ledger) == tuple(ids)
    assert sync(archive, store, ledger, on_delivered=seen.append).delivered == tuple(ids)
    assert store.writes == seen == ids
    assert sync(archive, store, ledger).delivered == pending(archive, store, ledger) == ()
    assert store.writes == ids
    assert store.results(ids[0]) == read_archive(archive / ids[0])


def test_an_empty_archive(tmp_path, ledger):
    assert sync(tmp_path / "none", MemoryStore(), ledger).delivered == ()


def test_what_was_delivered_before_a_failure_is_not_delivered_again(archived, ledger):
    archive, ids = archived
    store = Recording()
    store.fail_at = ids[1]
    with pytest.raises(ConnectionError):
        sync(archive, store, ledger)
    assert pending(archive, store, ledger) == tuple(ids[1:])
    store.fail_at = None
    assert sync(archive, store, ledger).delivered == tuple(ids[1:])
    assert store.writes == ids


def test_stores_are_apart(archived, ledger, tmp_path):
    archive, ids = archived
    sync(archive, MemoryStore(), ledger)
    assert pending(archive, LocalStore(tmp_path / "results.db"), ledger) == tuple(ids)


def test_a_run_that_cannot_be_read_does_not_hold_up_the_others(archived, ledger):
    archive, ids = archived
    report = archive / ids[1] / "rally" / "01-authenticate.json"
    whole = report.read_bytes()
    report.write_bytes(whole[:100])
    store = Recording()
    done = sync(archive, store, ledger)
    assert done.delivered == (ids[0], ids[2])
    assert [type(error) for error in done.unreadable] == [ReportError]
    report.write_bytes(whole)
    assert sync(archive, store, ledger).delivered == (ids[1],)


def test_a_run_that_the_store_refuses_for_good_holds_up_no_other_and_is_not_sent_again(archived, ledger):
    archive, ids = archived
    store = Recording()
    store.too_old = (ids[0], ids[1])
    done = sync(archive, store, ledger)
    assert done.delivered == (ids[2],)
    assert [error.fields["run_id"] for error in done.refused] == ids[:2]
    assert "dropped=117" in str(done.refused[0])
    assert pending(archive, store, ledger) == ()
    store.too_old = ()
    again = sync(archive, store, ledger)
    assert (again.delivered, again.refused) == ((), ())
    assert again.left == {run_id: str(error) for run_id, error in zip(ids, done.refused, strict=False)}
    assert pending(archive, LocalStore(archive / "results.db"), ledger) == tuple(ids)
    assert ledger.forget(store.identity, ids[0]) == 1
    assert sync(archive, store, ledger).delivered == (ids[0],)
    assert list(ledger.refused(store.identity)) == [ids[1]]


def test_a_run_can_be_delivered_again(archived, ledger):
    archive, ids = archived
    store = Recording()
    sync(archive, store, ledger)
    assert ledger.forget(store.identity, ids[1])
    assert not ledger.forget(store.identity, ids[1])
    assert not ledger.forget("another store")
    assert not ledger.forget("another store", ids[0])
    assert sync(archive, store, ledger).delivered == (ids[1],)
    assert ledger.forget(store.identity) == len(ids)
    assert sync(archive, store, ledger).delivered == tuple(ids)


def _deliver_and_die(archive, index, url):
    """Deliver until the second run is in the store and not in the ledger, then be killed."""
    store, ledger = LocalStore(index), DeliveryLedger(Database(url))
    whole = ledger.add

    def add(name, run_id):
        if ledger.delivered(name):
            os.kill(os.getpid(), signal.SIGKILL)
        whole(name, run_id)

    ledger.add = add
    sync(archive, store, ledger)


def test_killed_between_the_store_and_the_ledger(archived, ledger, database_url, tmp_path):
    archive, ids = archived
    store = LocalStore(tmp_path / "results.db")
    child = multiprocessing.get_context("spawn").Process(
        target=_deliver_and_die, args=(archive, store.path, database_url)
    )
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    child.close()
    assert store.run_ids("embedded", "nightly") == tuple(ids[:2])
    assert ledger.delivered(store.identity) == {ids[0]}
    assert sync(archive, store, ledger).delivered == tuple(ids[1:])
    assert [store.results(run) for run in ids] == [read_archive(archive / run) for run in ids]


def test_two_at_a_time_are_refused(archived, ledger):
    archive, ids = archived
    with ledger.locked(), pytest.raises(DeliveriesUnavailable, match="another process is delivering"):
        sync(archive, MemoryStore(), ledger)
    assert sync(archive, MemoryStore(), ledger).delivered == tuple(ids)
