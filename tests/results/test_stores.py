"""The contract of all stores: each must pass the same tests."""

import dataclasses
import itertools
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perfci.results.archive import read_archive
from perfci.results.errors import UnknownRun
from perfci.results.model import (
    TOTAL,
    CodeUnderTest,
    Measurement,
    Metric,
    RunResults,
    SeriesKey,
    ServiceRevision,
    Validity,
)
from perfci.results.stores.base import Store
from perfci.results.stores.influx import InfluxStore
from perfci.results.stores.influx_http import InfluxSettings
from perfci.results.stores.local import LocalStore
from perfci.results.stores.memory import MemoryStore

_databases = itertools.count()

NASTY = [
    "a b,c=d",
    'say "hi"',
    "it's",
    "back\\slash\\",
    "two\nlines\r\tand a tab",
    "é 漢字 🐢 \u2028",
    "100%25",
    "%",
    "#comment",
    "$var; DROP DATABASE x --",
    " ",
    "\x00\x7f",
]
NAMES = st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
VALUES = st.floats(0, 1e6)


@pytest.fixture
def influx_store(influxd):
    store = InfluxStore(InfluxSettings(influxd.url, database=f"contract {next(_databases)}"))
    store.server.create_database()
    return store


@pytest.fixture(params=["memory", "local", pytest.param("influx", marks=pytest.mark.slow)])
def new_store(request, tmp_path_factory):
    """A function that gives an empty store of the kind."""

    def make():
        if request.param == "memory":
            return MemoryStore()
        if request.param == "local":
            return LocalStore(tmp_path_factory.mktemp("local") / "results.db")
        server = request.getfixturevalue("influxd")
        store = InfluxStore(InfluxSettings(server.url, database=f"contract {next(_databases)}"))
        store.server.create_database()
        return store

    return make


def key(record, action=TOTAL, metric=Metric.SECONDS, scenario="S.s", arguments="12345678"):
    return SeriesKey(record.lab, record.job, scenario, arguments, action, metric)


def measured(record, series, *values, start=1.0, failures=0):
    first = record.started_at.timestamp() + start
    times = tuple(first + i for i in range(len(values)))
    return Measurement(
        series, record.run_id, values, times, attempts=len(values) + failures, failures=failures
    )


def results(record, *values, **options):
    return RunResults(record, (measured(record, key(record), *values, **options),))


def test_an_empty_store(new_store, make_record):
    store = new_store()
    assert isinstance(store, Store)
    assert store.run_ids("embedded", "nightly") == store.series("embedded", "nightly") == ()
    assert store.history(key(make_record())).points == ()
    for ask in (store.record, store.results, store.histories):
        with pytest.raises(UnknownRun, match="does not have the run r1"):
            ask("r1")


def test_an_archived_run_comes_back_as_it_was(new_store, make_record, archive_run):
    store = new_store()
    run = read_archive(archive_run(make_record()))
    store.write(run)
    assert store.results(run.record.run_id) == run
    assert store.record(run.record.run_id) == run.record
    assert store.series("embedded", "nightly") == tuple(m.key for m in run.measurements)


def test_writing_twice_changes_nothing(new_store, make_record, archive_run):
    store = new_store()
    run = read_archive(archive_run(make_record()))
    for _ in range(2):
        store.write(run)
    assert store.results(run.record.run_id) == run
    assert store.run_ids("embedded", "nightly") == (run.record.run_id,)


def test_runs_are_in_the_order_of_their_ids_whatever_the_order_of_writing(new_store, make_record):
    store = new_store()
    records = [make_record(n) for n in range(1, 6)]
    for record in (records[i] for i in (3, 0, 4, 2, 1)):
        store.write(results(record, 1.0))
    ids = tuple(record.run_id for record in records)
    assert store.run_ids("embedded", "nightly") == ids
    assert store.records("embedded", "nightly", limit=2) == tuple(records[3:])
    assert store.records("embedded", "nightly", until=ids[2]) == tuple(records[:3])
    assert store.records("embedded", "nightly", limit=2, until=ids[3]) == tuple(records[2:4])
    assert store.records("embedded", "nightly", limit=0) == ()
    assert store.records("embedded", "nightly", until="0") == ()


def test_labs_and_jobs_are_apart(new_store, make_record):
    store = new_store()
    for number, (lab, job) in enumerate([("a", "j"), ("b", "j"), ("a", "k")]):
        store.write(results(make_record(number, lab=lab, job=job), 1.0))
    assert [len(store.run_ids(*names)) for names in (("a", "j"), ("b", "j"), ("a", "k"), ("b", "k"))] == [
        1,
        1,
        1,
        0,
    ]
    assert store.series("b", "j")[0].lab == "b"


def test_the_history_of_a_series(new_store, make_record):
    store = new_store()
    records = [make_record(n) for n in range(1, 6)]
    for number, record in enumerate(records):
        other = measured(record, key(record, action="other"), 9.0)
        mine = [] if number == 2 else [measured(record, key(record), float(number), number + 0.5)]
        store.write(RunResults(record, (other, *mine)))
    history = store.history(key(records[0]))
    assert [record for record, _ in history.points] == [records[i] for i in (0, 1, 3, 4)]
    assert [m.values for _, m in history.points] == [(0.0, 0.5), (1.0, 1.5), (3.0, 3.5), (4.0, 4.5)]
    assert {m.key for _, m in history.points} == {history.key} == {key(records[0])}
    limited = store.history(key(records[0]), until=records[3].run_id, limit=3)
    assert [record for record, _ in limited.points] == [records[1], records[3]]


def test_all_histories_of_a_run(new_store, make_record):
    store = new_store()
    records = [make_record(n) for n in range(1, 5)]
    for number, record in enumerate(records):
        gone = [measured(record, key(record, action="gone"), 1.0)] if number < 2 else []
        rate = measured(record, key(record, metric=Metric.FAILURE_RATE), 0.25, failures=3)
        store.write(RunResults(record, (measured(record, key(record), 1.0 + number), rate, *gone)))
    histories = store.histories(records[2].run_id, limit=2)
    assert [h.key for h in histories] == sorted(m.key for m in store.results(records[2].run_id).measurements)
    assert all([r for r, _ in h.points] == records[1:3] for h in histories)
    assert {h.key.action for h in store.histories(records[1].run_id)} == {TOTAL, "gone"}
    by_key = {h.key: h for h in histories}
    assert [m.values for _, m in by_key[key(records[0])].points] == [(2.0,), (3.0,)]
    assert all(h == store.history(h.key, until=records[2].run_id, limit=2) for h in histories)


def test_runs_without_measurements_and_series_without_values(new_store, make_record):
    store = new_store()
    failed, nothing = make_record(1, status="failed"), make_record(2)
    store.write(RunResults(failed))
    store.write(results(nothing, failures=4))
    assert store.results(failed.run_id) == RunResults(failed)
    assert store.histories(failed.run_id) == ()
    (measurement,) = store.results(nothing.run_id).measurements
    assert (measurement.values, measurement.attempts, measurement.failures) == ((), 4, 4)


def test_equal_starts_do_not_overwrite_each_other(new_store, make_record):
    store = new_store()
    record = make_record()
    start = record.started_at.timestamp() + 1
    times = (start, start, start, start + 1e-6, start + 1e-6, start + 1)
    values = tuple(float(i) for i in range(len(times)))
    run = RunResults(record, (Measurement(key(record), record.run_id, values, times, 6, 0),))
    store.write(run)
    assert store.results(record.run_id) == run
    other = dataclasses.replace(record, run_id=record.run_id + "-again")
    same = dataclasses.replace(run.measurements[0], run_id=other.run_id)
    store.write(RunResults(other, (same,)))
    assert store.results(record.run_id) == run
    assert store.results(other.run_id).measurements == (same,)


def test_many_iterations_need_several_batches(new_store, make_record):
    store = new_store()
    record = make_record()
    values = tuple(i / 7 for i in range(12_000))
    run = RunResults(
        record,
        (
            Measurement(
                key(record),
                record.run_id,
                values,
                tuple(record.started_at.timestamp() + i / 97 for i in range(12_000)),
                12_000,
                0,
            ),
        ),
    )
    store.write(run)
    assert store.results(record.run_id) == run


@pytest.mark.parametrize("name", NASTY)
def test_any_name_comes_back(new_store, make_record, name):
    store = new_store()
    record = make_record(
        lab=name,
        job=name,
        cloud=name,
        environment=name,
        run_id=f"1 {name}",
        code=CodeUnderTest(name, (ServiceRevision(name, name, name, name, (name,)),)),
        validity=Validity(valid=False, reasons=(name,)),
    )
    series = key(record, action=name, scenario=name, arguments=name)
    run = RunResults(record, (measured(record, series, 0.1, 0.2),))
    store.write(run)
    assert store.results(record.run_id) == run
    assert store.series(name, name) == (series,)
    assert store.history(series, until=record.run_id).points == ((record, run.measurements[0]),)


@pytest.mark.parametrize(
    "number", [5e-324, 1e-9, 0.1 + 0.2, 1 / 3, 1.0, 123456789.123456, 1e21, 1.7976931348623157e308]
)
def test_numbers_come_back_to_the_last_bit(new_store, make_record, number):
    store = new_store()
    record = make_record()
    rss = measured(record, key(record, "nova", Metric.PEAK_RSS_BYTES), number)
    run = RunResults(record, (rss, measured(record, key(record), number, 0.0, number)))
    store.write(run)
    assert sorted(store.results(record.run_id).measurements, key=lambda m: m.key) == sorted(
        run.measurements, key=lambda m: m.key
    )


@st.composite
def runs(draw, record):
    name = NAMES | st.just("")
    keys = draw(st.lists(st.tuples(name, name, name, st.sampled_from(Metric)), max_size=4, unique=True))
    start = record.started_at.timestamp()
    found = []
    for scenario, arguments, action, metric in keys:
        most = 6 if metric is Metric.SECONDS else 1
        values = draw(st.lists(VALUES, max_size=most))
        offsets = sorted(draw(st.lists(st.floats(0, 400), min_size=len(values), max_size=len(values))))
        failures = draw(st.integers(0, 3))
        found.append(
            Measurement(
                SeriesKey(record.lab, record.job, scenario, arguments, action, metric),
                record.run_id,
                tuple(values),
                tuple(start + offset for offset in offsets),
                len(values) + failures,
                failures,
            )
        )
    return RunResults(record, tuple(found))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_store_gives_back_what_the_memory_store_does(new_store, make_record, data):
    store, memory = new_store(), MemoryStore()
    lab, job = data.draw(NAMES), data.draw(NAMES)
    written = []
    for number in range(data.draw(st.integers(1, 3))):
        record = make_record(number, lab=lab, job=job, environment=data.draw(NAMES))
        record = dataclasses.replace(record, finished_at=record.started_at + timedelta(minutes=7))
        written.append(data.draw(runs(record)))
    for run in data.draw(st.permutations([*written, written[0]])):
        store.write(run)
        memory.write(run)
    assert store.records(lab, job) == memory.records(lab, job)
    assert store.series(lab, job) == memory.series(lab, job)
    for run in written:
        run_id = run.record.run_id
        assert store.results(run_id) == memory.results(run_id)
        assert store.histories(run_id, limit=2) == memory.histories(run_id, limit=2)


def test_what_does_not_belong_together_is_refused(new_store, make_record):
    store = new_store()
    record = make_record()
    good = measured(record, key(record), 1.0)
    for bad in (
        (good, good),
        (dataclasses.replace(good, run_id="other"),),
        (dataclasses.replace(good, key=dataclasses.replace(good.key, job="other")),),
        (dataclasses.replace(good, timestamps=()),),
    ):
        with pytest.raises(ValueError, match=record.run_id):
            store.write(RunResults(record, bad))
    assert store.run_ids("embedded", "nightly") == ()
