import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfci.results.counters import Sample, measurements, read_counters, read_samples, restarts, usage
from perfci.results.errors import CountersError
from perfci.results.model import TOTAL, Measurement, Metric, SeriesKey


def line(t, *, cpu=0.0, rss=100, sql=0, foreign=0.0, steal=0.0, service="nova-api", since=None):
    return {
        "t": t,
        "services": {service: {"cpu_seconds": cpu, "rss_bytes": rss, "processes": 3, "since": since}},
        "sql": {"nova": sql},
        "machine": {"busy_seconds": 2 * t, "steal_seconds": steal, "cpus": 2},
        "foreign_seconds": foreign,
    }


def samples(*lines):
    return tuple(Sample.model_validate(one) for one in lines)


def test_use_is_from_the_last_sample_before_to_the_first_after():
    node = samples(
        line(99.0, cpu=1.0, sql=5, rss=900),
        line(100.0, cpu=2.0, sql=10),
        line(101.0, cpu=4.0, sql=30, rss=500),
        line(102.0, cpu=7.0, sql=60, foreign=0.4, steal=0.2),
        line(103.0, cpu=50.0, sql=600, rss=900, foreign=9.0),
    )
    used = usage({"n1": node}, 100.5, 101.5)
    assert used.cpu_seconds == {"nova-api": 5.0}
    assert used.sql_statements == {"nova": 50}
    assert used.peak_rss_bytes == {"nova-api": 500}
    (shares,) = used.shares
    assert (shares.node, shares.foreign, shares.steal) == ("n1", pytest.approx(0.1), pytest.approx(0.05))


def test_nodes_add_up_and_shares_stay_per_node():
    one = samples(line(100, cpu=1), line(102, cpu=2, foreign=2))
    two = samples(line(100, cpu=5, rss=7), line(102, cpu=9, rss=7))
    used = usage({"n2": two, "n1": one}, 100.5, 101.5)
    assert used.cpu_seconds == {"nova-api": 5.0}
    assert used.peak_rss_bytes == {"nova-api": 107}
    assert [(s.node, s.foreign) for s in used.shares] == [("n1", 0.5), ("n2", 0.0)]


def test_a_service_on_one_node_only_is_known():
    one = samples(line(100, cpu=1), line(102, cpu=2))
    two = samples(line(100, cpu=1, service="nova-compute"), line(102, cpu=4, service="nova-compute"))
    assert usage({"n1": one, "n2": two}, 100.5, 101.5).cpu_seconds == {"nova-api": 1.0, "nova-compute": 3.0}


def test_a_counter_that_falls_is_unknown_for_that_task_only():
    restarted = samples(
        line(100, cpu=90, sql=900),
        line(101, cpu=1, sql=950),
        line(102, cpu=200, sql=990),
        line(110, cpu=201, sql=991),
    )
    used = usage({"n1": restarted}, 100.5, 101.5)
    assert used.cpu_seconds == {}
    assert used.sql_statements == {"nova": 90}
    assert usage({"n1": samples(*[line(t, cpu=t) for t in (102, 103)])}, 102.1, 102.9).cpu_seconds == {
        "nova-api": 1
    }


def test_a_restart_on_one_node_makes_the_sum_unknown():
    whole = samples(line(100, cpu=1), line(102, cpu=2))
    broken = samples(line(100, cpu=9), line(102, cpu=2))
    for nodes in ({"a": whole, "b": broken}, {"a": broken, "b": whole}):
        assert usage(nodes, 100.5, 101.5).cpu_seconds == {}


def without(entry, part):
    return {**entry, part: {}}


def test_a_service_that_goes_is_unknown_and_one_that_comes_starts_from_zero():
    for first, second, third, expected in (
        (line(100, cpu=5), without(line(101), "services"), line(102, cpu=9), {}),
        (line(100, cpu=5), line(101, cpu=6), without(line(102), "services"), {}),
        (
            without(line(100), "services"),
            line(101, cpu=6, rss=70),
            line(102, cpu=9, rss=60),
            {"nova-api": 9.0},
        ),
    ):
        used = usage({"n1": samples(first, second, third)}, 100.5, 101.5)
        assert used.cpu_seconds == expected
        assert used.peak_rss_bytes == ({"nova-api": 70} if expected else {})


def test_a_database_that_could_not_be_asked():
    asked, user_missing = line(102, sql=90), line(100)
    user_missing["sql"] = {"glance": 5}
    silent = without(line(101), "sql")
    assert usage({"n1": samples(line(100, sql=10), silent, asked)}, 100.5, 101.5).sql_statements == {
        "nova": 80
    }
    assert usage(
        {"n1": samples(user_missing, {**asked, "sql": {"nova": 90, "glance": 6}})}, 100.5, 101.5
    ).sql_statements == {"nova": 90, "glance": 1}
    for node in ((without(line(100), "sql"), asked), (line(100, sql=10), asked, without(line(103), "sql"))):
        assert usage({"n1": samples(*node)}, 100.5, node[-1]["t"] - 0.5).sql_statements == {}


@pytest.mark.parametrize(
    "times",
    [(), (101, 102), (100, 101), (90, 101, 102), (100, 101, 120)],
    ids=["none", "before", "after", "early", "late"],
)
def test_a_task_at_the_edge_of_the_samples_is_unknown(times):
    node = samples(*(line(t, cpu=t) for t in times))
    used = usage(
        {"n1": node, "n2": samples(line(100), line(103))}, 100.5, 102.5 if times == (100, 101) else 101.5
    )
    assert used.cpu_seconds == used.sql_statements == used.peak_rss_bytes == {}
    assert [s.node for s in used.shares] == ["n2"]


def test_a_gap_inside_the_task_hides_only_the_peak_of_memory():
    used = usage({"n1": samples(line(100, cpu=1), line(101, cpu=2), line(110, cpu=3))}, 100.5, 109)
    assert used.cpu_seconds == {"nova-api": 2.0}
    assert used.peak_rss_bytes == {}


def test_sums_that_fall_a_little_are_a_share_of_zero():
    used = usage({"n1": samples(line(100, foreign=5.0), line(102, foreign=4.9))}, 100.5, 101.5)
    assert used.shares[0].foreign == 0.0


def test_measurements_are_per_iteration_and_leave_the_measuring_out():
    one, other = line(100), line(102, cpu=30, rss=400, sql=60)
    for at, entry in enumerate((one, other)):
        entry["services"]["counters"] = {"cpu_seconds": at, "rss_bytes": 1}
        entry["sql"]["perfci"] = at
    key = SeriesKey("lab", "job", "S.s", "12345678", TOTAL, Metric.SECONDS)
    like = Measurement(key, "run", (1.0,), (100.0,), attempts=8, failures=1)
    used = usage({"n1": samples(one, other)}, 100.5, 101.5)
    found = measurements(used, like=like, iterations=10, at=100.5)
    assert {(m.key.action, m.key.metric): m.values for m in found} == {
        ("nova-api", Metric.CPU_SECONDS): (3.0,),
        ("nova", Metric.SQL_STATEMENTS): (6.0,),
        ("nova-api", Metric.PEAK_RSS_BYTES): (400.0,),
    }
    assert {(m.timestamps, m.attempts, m.failures, m.key.scenario) for m in found} == {
        ((100.5,), 8, 1, "S.s")
    }


def write(path, *lines, end="\n"):
    path.write_text("\n".join(json.dumps(one) for one in lines) + end)
    return path


def test_files_are_read_by_node(tmp_path):
    write(tmp_path / "n1.jsonl", line(1), line(2))
    write(tmp_path / "n2.jsonl", line(1))
    assert {node: len(found) for node, found in read_counters(tmp_path).items()} == {"n1": 2, "n2": 1}
    assert read_counters(tmp_path / "none") == {}


@given(st.data())
def test_a_last_line_without_an_end_is_passed_over(tmp_path_factory, data):
    path = write(tmp_path_factory.getbasetemp() / "cut.jsonl", line(1), line(2), line(3))
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    kept = content[: data.draw(st.integers(first, len(content)))]
    path.write_bytes(kept)
    assert len(read_samples(path)) == kept.count(b"\n")


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "n1.jsonl"
    path.write_text(f"{json.dumps(line(1))}\n{{\n{json.dumps(line(2))}\n")
    with pytest.raises(CountersError, match=r"n1\.jsonl: line 2: .*; expected whole JSON"):
        read_samples(path)
    bad = line(2)
    bad["machine"]["cpus"] = 0
    with pytest.raises(CountersError, match=r"line 2 machine\.cpus: got 0; expected greater"):
        read_samples(write(path, line(1), bad))


def test_where_the_clock_was_set_back_during_a_task_its_use_is_unknown_and_that_of_others_is_not(tmp_path):
    times = [100, 101, 102, 103, 101.5, 102.5, 103.5, 104.5, 105.5]
    path = write(tmp_path / "n1.jsonl", *(line(t, cpu=number) for number, t in enumerate(times)))
    node = {"n1": read_samples(path)}
    assert usage(node, 100.2, 100.8).cpu_seconds == {"nova-api": 1}
    assert usage(node, 104.6, 105.4).cpu_seconds == {"nova-api": 1}
    for spanning in ((100.5, 105), (102, 103), (102.7, 102.9)):
        used = usage(node, *spanning)
        assert (used.cpu_seconds, used.peak_rss_bytes, used.shares) == ({}, {}, ())


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 10**6), st.floats(0, 1e6)), min_size=2, max_size=8)
)
def test_use_is_never_negative(rows):
    node = samples(*(line(100 + i, cpu=cpu, sql=sql, foreign=f) for i, (cpu, sql, f) in enumerate(rows)))
    used = usage({"n1": node}, 100, 99 + len(rows))
    assert all(v >= 0 for found in (used.cpu_seconds, used.sql_statements) for v in found.values())
    assert all(0 <= s.foreign <= 1 for s in used.shares)


@pytest.mark.parametrize(
    ("since", "found"),
    [
        ((50.0, 50.0, 50.0, 50.0), ()),
        ((50.0, 50.01, 49.99, 50.0), ()),  # clocks tremble
        ((50.0, 50.0, 102.5, 102.5), ("nova-api on n1",)),
        ((50.0, 101.0, 101.0, 101.0), ("nova-api on n1",)),  # at the very moment of the sample before
        ((50.0, 60.0, 60.0, 60.0), ()),  # its oldest helper ended, and it goes on
        ((100.0, 100.0, 100.0, 100.0), ()),  # it had just been started
        ((50.0, 50.0, 50.0, 103.5), ()),  # after the load
        ((None, None, None, None), ()),
    ],
)
def test_a_service_whose_processes_are_all_new_was_restarted(since, found):
    node = samples(*(line(101.0 + number, since=at) for number, at in enumerate(since)))
    assert restarts({"n1": node}, 101.0, 103.0) == found


def test_a_service_that_was_away_for_a_while_was_restarted():
    away = line(102.0)
    away["services"] = {}
    node = samples(line(101.0, since=50.0), away, line(103.0, since=102.5))
    assert restarts({"n1": node}, 101.0, 103.0) == ("nova-api on n1",)


@pytest.mark.parametrize("service", ["rally", "qemu", "counters"])
def test_what_comes_and_goes_with_the_load_is_no_restart(service):
    node = samples(line(101, since=50, service=service), line(102, since=101.5, service=service))
    assert restarts({"n1": node}, 101.0, 103.0) == ()
