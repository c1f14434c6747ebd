import multiprocessing
import os
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from perfci.results.archive import read_archive
from perfci.results.errors import IndexDamaged, IndexUnavailable, ReportError
from perfci.results.model import RunResults
from perfci.results.stores import local
from perfci.results.stores.local import LocalStore


@pytest.fixture
def archived(make_record, archive_run, tmp_path):
    folders = [archive_run(make_record(n)) for n in range(1, 4)]
    return tmp_path / "archive", folders


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "state" / "results.db")


def execute(store, *statements):
    with closing(sqlite3.connect(store.path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_the_index_is_made_anew_from_the_archive(archived, store):
    archive, folders = archived
    done = store.rebuild(archive)
    assert done.runs == tuple(folder.name for folder in folders)
    assert done.unreadable == ()
    for folder in folders:
        assert store.results(folder.name) == read_archive(folder)
    assert sorted(p.name for p in store.path.parent.iterdir()) == ["results.db"]


def test_rebuilding_drops_what_the_archive_does_not_have(archived, store, make_record):
    archive, folders = archived
    store.write(RunResults(make_record(9)))
    store.rebuild(archive)
    assert store.run_ids("embedded", "nightly") == tuple(folder.name for folder in folders)


def test_rebuilding_passes_over_what_cannot_be_read(archived, store):
    archive, folders = archived
    (folders[0] / "rally" / "01-authenticate.json").write_text("{")
    done = store.rebuild(archive)
    assert done.runs == tuple(folder.name for folder in folders[1:])
    assert [type(error) for error in done.unreadable] == [ReportError]


def _rebuild_and_die(path, archive, at):
    """Rebuild, and be killed before one of the statements that take the new content over."""
    deadly, whole = local._TAKE_FRESH[at], local.text

    def text(statement):
        if statement is deadly:
            os._exit(9)
        return whole(statement)

    local.text = text
    LocalStore(path).rebuild(archive)


@pytest.mark.parametrize("at", range(len(local._TAKE_FRESH)))
def test_a_process_killed_while_it_rebuilds_leaves_the_old_index(
    archived, store, at, archive_run, make_record
):
    archive, folders = archived
    store.rebuild(archive)
    archive_run(make_record(5))
    child = multiprocessing.get_context("spawn").Process(
        target=_rebuild_and_die, args=(store.path, archive, at)
    )
    child.start()
    child.join(60)
    assert child.exitcode == 9
    for folder in folders:
        assert LocalStore(store.path).results(folder.name) == read_archive(folder)
    assert len(LocalStore(store.path).run_ids("embedded", "nightly")) == 3
    assert len(store.rebuild(archive).runs) == 4
    assert sorted(p.name for p in store.path.parent.iterdir()) == ["results.db"]


def test_what_another_process_writes_while_it_is_rebuilt_stays(archived, store, archive_run, make_record):
    archive, folders = archived
    store.rebuild(archive)
    writer = LocalStore(store.path)
    writer.run_ids("embedded", "nightly")
    late = make_record(7)
    whole = store._replace_content

    def write_first(*arguments):
        writer.write(RunResults(late))
        whole(*arguments)

    store._replace_content = write_first
    store.rebuild(archive)
    wanted = (*(folder.name for folder in folders), late.run_id)
    assert LocalStore(store.path).run_ids("embedded", "nightly") == wanted
    writer.write(RunResults(make_record(8)))
    assert make_record(8).run_id in LocalStore(store.path).run_ids("embedded", "nightly")
    for folder in folders:
        assert store.results(folder.name) == read_archive(folder)


def test_two_do_not_rebuild_at_a_time(archived, store):
    archive, _ = archived
    other = LocalStore(store.path)
    store._replace_content = lambda *_: other.rebuild(archive)
    with pytest.raises(IndexUnavailable, match="another process is rebuilding it"):
        store.rebuild(archive)


def test_rebuilding_from_an_empty_archive(store, tmp_path):
    assert store.rebuild(tmp_path / "none").runs == ()
    assert store.run_ids("embedded", "nightly") == ()


DAMAGE = {
    "not a database": lambda s: s.path.write_bytes(b"not a database at all, but long enough to be one" * 50),
    "a hole": lambda s: s.path.write_bytes(s.path.read_bytes()[:4096] + b"\xff" * 8192),
    "cut off": lambda s: s.path.write_bytes(s.path.read_bytes()[:5000]),
    "a table is missing": lambda s: execute(s, "DROP TABLE measurements"),
    "another version": lambda s: execute(s, "PRAGMA user_version = 99"),
    "a record that is none": lambda s: execute(s, "UPDATE runs SET record = '{}'"),
    "half a float": lambda s: execute(s, "UPDATE measurements SET samples = x'0102'"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_index_says_so_and_can_be_made_anew(archived, store, damage):
    archive, folders = archived
    store.rebuild(archive)
    damage(store)
    opened = LocalStore(store.path)
    with pytest.raises(IndexDamaged, match=r"results\.db") as caught:
        opened.results(folders[-1].name)
    assert "perfci results rebuild" in caught.value.advice
    opened.rebuild(archive)
    assert opened.results(folders[-1].name) == read_archive(folders[-1])


def test_a_failed_write_leaves_the_run_as_it_was(archived, store):
    archive, folders = archived
    store.rebuild(archive)
    execute(store, "CREATE TRIGGER full BEFORE INSERT ON measurements BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(IndexUnavailable, match="full"):
        store.write(read_archive(folders[0]))
    assert store.results(folders[0].name) == read_archive(folders[0])


def test_a_place_that_cannot_be_written(tmp_path, make_record):
    (tmp_path / "file").write_text("")
    with pytest.raises(IndexUnavailable, match="file"):
        LocalStore(tmp_path / "file" / "results.db").write(RunResults(make_record()))
    (tmp_path / "results.db").mkdir()
    with pytest.raises(IndexUnavailable, match="unable to open"):
        LocalStore(tmp_path / "results.db").write(RunResults(make_record()))


def test_writes_are_ahead_logged(store, make_record):
    store.write(RunResults(make_record()))
    with closing(sqlite3.connect(store.path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def _write(path, records):
    store = LocalStore(path)
    for record in records:
        store.write(RunResults(record))


def test_several_processes_write_at_a_time(store, make_record):
    records = [make_record(n) for n in range(40)]
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_write, args=(store.path, records[i::4])) for i in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
        child.close()
    assert store.records("embedded", "nightly") == tuple(records)


def test_some_series_are_read_a_few_at_a_time_and_nothing_else(archived, store, monkeypatch):
    archive, folders = archived
    store.rebuild(archive)
    records = [store.record(folder.name) for folder in folders]
    everything = store.samples(records)
    wanted = sorted({one.key for one in everything})[1::2]
    assert len(wanted) > 4
    blocks = []
    real = LocalStore._samples

    def counted(self, *given, **how):
        blocks.append(real(self, *given, **how))
        return blocks[-1]

    monkeypatch.setattr(local, "_BLOCK", 2)
    monkeypatch.setattr(LocalStore, "_samples", counted)
    found = list(store.samples_of(records, [*wanted, replace(wanted[0], action="never measured")]))
    assert found == [one for one in everything if one.key in wanted]
    assert [one for block in blocks for one in block] == found
    assert max(len({one.key for one in block}) for block in blocks) == 2
    assert list(store.samples_of([], wanted)) == []
