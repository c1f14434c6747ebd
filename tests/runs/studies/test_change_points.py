"""Histories out of CSV files, and what is wrong with one that can't be read."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from perfci.analysis.types import RunPoint, SeriesHistory
from perfci.cli.tables import changes_table
from perfci.results.model import Metric, SeriesKey
from perfci.runs.studies.change_points import Column, column_of, find_changes
from perfci.runs.studies.history_csv import HistoryFileInvalid, read_csv

LEVELS = np.repeat([1.0, 1.3], [20, 15])


@pytest.fixture
def csv(tmp_path):
    def write(text):
        file = tmp_path / "history.csv"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def stepped(seed=1):
    return LEVELS * np.exp(np.random.default_rng(seed).normal(0, 0.01, LEVELS.size))


def test_a_plain_file_gives_a_history_per_column(csv):
    lines = [
        "run,boot,list",
        *(
            f"r{n:02d},{a:.4f},{b:.4f}"
            for n, (a, b) in enumerate(zip(stepped(), stepped(2)[::-1], strict=True))
        ),
    ]
    found = list(find_changes(read_csv(csv("\n".join(lines)))))
    assert [(one.series, one.since) for one in found] == [("boot", "r20"), ("list", "r15")]
    first = found[0].as_dict()
    assert first["low"] < 0.3 < first["high"]
    assert first["confidence"] > 0.99
    assert first["earliest"] <= "r20" <= first["latest"]
    assert changes_table(found).rows[0][2].startswith("+")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_without_a_header_columns_have_numbers(csv, delimiter):
    lines = [delimiter.join((f"2026-11-{n + 1:02d}", "1.5", "")) for n in range(5)]
    columns = read_csv(csv("\r\n".join(lines)))
    assert [one.name for one in columns] == ["column 2", "column 3"]
    assert columns[0].values == (1.5,) * 5
    assert all(math.isnan(value) for value in columns[1].values)


def test_otavas_attributes_are_told_and_not_measured(csv):
    lines = ["time,commit,branch,boot,list"]
    lines += [
        f"2026-11-01T{n // 60:02d}:{n % 60:02d}:00Z,{1000000 + n},main,{v:.4f},0.2"
        for n, v in enumerate(stepped())
    ]
    columns = read_csv(csv("\n".join(lines)), otava=True)
    assert [one.name for one in columns] == ["boot", "list"]
    (change,) = find_changes(columns)
    assert change.since == "2026-11-01T00:20:00Z 1000020 main"


def test_a_byte_order_mark_and_empty_lines_are_no_data(csv):
    (column,) = read_csv(csv(b"\xef\xbb\xbftime,a\n\n1,2.0\n\n2,3.0\n"), otava=True)
    assert column == Column("a", ("1", "2"), (2.0, 3.0))


@pytest.mark.parametrize(
    ("text", "otava", "problem"),
    [
        ("", False, "it is empty"),
        ("run,a\n", False, ":1: there is a header but no line below it"),
        ("1,2\n2,3,4\n", False, ":2: it has 3 columns, the first line has 2"),
        ("run,a\nr1,2\nr2,fast\n", False, ":3: column 'a': expected a number, got 'fast'"),
        ("run,a\nr1,2\nr2,inf\n", False, ":3: column 'a': expected a number, got 'inf'"),
        ("run,a,a\nr1,2,3\n", False, ":1: column 'a' is there twice"),
        ("run\nr1\n", False, ":1: there is no column of numbers"),
        ("time,commit\n1,abc\n", True, ":1: there is no column of numbers"),
        ("time,a\n2,1.0\n1,1.0\n", True, ":3: column 'time': '1' is earlier than the line before it"),
        ("time,a\n2026-11-02,1\n2026-11-01,1\n", False, ":3: column 'time': '2026-11-01' is earlier"),
        (b"\xff\xfe\x00", False, "it is not text in UTF-8"),
    ],
)
def test_what_is_wrong_is_said_with_line_and_column(csv, text, otava, problem):
    with pytest.raises(HistoryFileInvalid) as caught:
        read_csv(csv(text), otava=otava)
    assert problem in str(caught.value)
    assert caught.value.exit_code == 2


def rows(*columns, header):
    return "\n".join([header, *(",".join(map(str, row)) for row in zip(*columns, strict=True))])


def days(count=LEVELS.size, form="2026-{month:02d}-{day:02d}"):
    return [form.format(month=1 + n // 28, day=1 + n % 28) for n in range(count)]


def test_two_branches_in_one_file_are_refused_until_one_is_chosen(csv):
    quiet = 10.0 + np.random.default_rng(4).normal(0, 0.05, 30)
    values = [value * (0.7 if n % 3 == 2 else 1) for n, value in enumerate(quiet)]
    branches = ["topic" if n % 3 == 2 else "main" for n in range(30)]
    file = csv(rows(days(30), branches, values, header="time,branch,boot"))
    with pytest.raises(HistoryFileInvalid) as caught:
        read_csv(file, otava=True)
    assert "column 'branch' has several histories: 'main' (20 lines), 'topic' (10 lines)" in str(caught.value)
    assert "--only branch=topic" in str(caught.value)
    (main,) = read_csv(file, otava=True, only=["branch=main"])
    assert len(main.values) == 20
    assert list(find_changes([main])) == []
    assert len(read_csv(file, otava=True, only=["branch=main", "branch=topic"])[0].values) == 30


@pytest.mark.parametrize(
    ("only", "problem"),
    [
        ("branch", "expected COLUMN=VALUE with a column of attributes (branch)"),
        ("boot=1", "expected COLUMN=VALUE with a column of attributes (branch)"),
        ("branch=mian", "no line has this value; the values are 'main' (2 lines)"),
    ],
)
def test_an_only_that_fits_nothing_is_refused(csv, only, problem):
    file = csv("time,branch,boot\n1,main,2\n2,main,3\n")
    with pytest.raises(HistoryFileInvalid) as caught:
        read_csv(file, otava=True, only=[only])
    assert problem in str(caught.value)


def test_hosts_that_take_turns_are_refused_and_one_that_changes_once_is_another_environment(csv):
    turns = ["a" if n % 2 else "b" for n in range(LEVELS.size)]
    with pytest.raises(HistoryFileInvalid, match="column 'host' has several histories"):
        read_csv(csv(rows(days(), turns, stepped(), header="time,host,boot")), otava=True)
    once = ["old" if n < 20 else "new" for n in range(LEVELS.size)]
    (change,) = find_changes(
        read_csv(csv(rows(days(), once, stepped(), header="time,host,boot")), otava=True)
    )
    assert change.environment


FORMS = {
    "ISO 8601": "2026-{month:02d}-{day:02d}T04:15:00Z",
    "Otava's": "2026.{month:02d}.{day:02d} 3:00:00 +0100",
    "git's": "2026-{month:02d}-{day:02d} 04:15:00 +0000",
    "mail's": "{day} Jan 20{month:02d} 04:15:00 +0000",
    "run ids": "2026{month:02d}{day:02d}T041500Z-nightly-1f2e",
}


@pytest.mark.parametrize("otava", [False, True])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_newest_first_is_turned_round_and_said(csv, form, otava):
    notes = []
    file = csv(rows(days(form=form)[::-1], stepped()[::-1], header="time,boot"))
    (column,) = read_csv(file, otava=otava, on_note=notes.append)
    (change,) = find_changes([column])
    assert (change.since, change.point.effect > 0) == (days(form=form)[20], True)
    assert notes == ["column 'time' is newest first: perfci reads the lines from last to first"]
    forwards = csv(rows(days(form=form), stepped(), header="time,boot"))
    assert read_csv(forwards, otava=otava, on_note=pytest.fail)[0] == column


def test_numbered_builds_newest_first_are_turned_round(csv):
    notes = []
    builds = [f"build-{n}" for n in range(135, 100, -1)]
    (column,) = read_csv(csv(rows(builds, stepped()[::-1], header="build,boot")), on_note=notes.append)
    assert (column.labels[0], len(notes)) == ("build-101", 1)


@pytest.mark.parametrize(
    ("text", "otava"),
    [("01/11/2026", False), ("11.01.26", False), ("Nov 1", False), ("yesterday", True)],
)
def test_times_whose_order_is_not_certain_are_refused(csv, text, otava):
    with pytest.raises(HistoryFileInvalid, match=":2: column 'time': expected a time such as 2026"):
        read_csv(csv(f"time,a\n{text},1\n{text},2\n"), otava=otava)


@pytest.mark.parametrize("word", ["n/a", "NA", "-", "NaN", "failed", ""])
@pytest.mark.parametrize("otava", [False, True])
def test_a_column_that_begins_with_missing_values_is_measured_and_the_values_are_counted(csv, word, otava):
    notes = []
    values = [word, word, *stepped()[2:]]
    file = csv(rows(days(), values, header="time,boot"))
    columns = read_csv(file, otava=otava, on_note=notes.append)
    (change,) = find_changes(columns)
    assert change.since == days()[20]
    said = [f"column 'boot': 2 of 35 values are missing ({word})"] if word else []
    assert notes == said


def test_a_word_among_numbers_that_is_no_missing_value_is_refused(csv):
    with pytest.raises(HistoryFileInvalid, match=":2: column 'a': expected a number, got 'slow'"):
        read_csv(csv("time,a\n1,slow\n2,3.0\n"), otava=True)


def test_columns_that_are_not_measured_are_named(csv):
    notes = []
    columns = read_csv(
        csv("time,commit,author,a,d\n1,x,me,2,1\n2,y,you,3,-1\n"), otava=True, on_note=notes.append
    )
    assert [column.name for column in columns] == ["a"]
    assert notes == [
        "column 'author' has no numbers: it is not measured",
        "column 'd' is left out: line 3 is below zero, so it has no relative changes",
    ]


def test_a_count_that_leaves_zero_and_comes_back_is_a_change(csv):
    errors = [0] * 14 + [5, 4, 6, 5, 5, 7, 4, 5, 6, 5, 4, 5] + [0] * 14
    found = list(find_changes(read_csv(csv(rows(days(40), errors, header="time,errors")), otava=True)))
    assert [one.since for one in found] == [days(40)[14], days(40)[26]]
    assert [row[2:5] for row in changes_table(found).rows] == [("from 0", "0", "5"), ("-100.0%", "5", "0")]
    assert found[0].as_dict()["effect"] is None
    assert found[0].point.p_value < 0.01


def test_a_few_values_that_are_not_zero_are_no_change(csv):
    errors = [0] * 10 + [3] + [0] * 12 + [2] + [0] * 10
    assert list(find_changes(read_csv(csv(rows(days(34), errors, header="time,errors")), otava=True))) == []


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(HistoryFileInvalid, match="No such file"):
        read_csv(tmp_path / "nothing.csv")


def test_a_change_with_a_new_environment_says_so():
    values = tuple(stepped().tolist())
    labels = tuple(f"r{n:02d}" for n in range(len(values)))
    old, new = (tuple("new" if n >= at else "old" for n in range(len(values))) for at in (20, 5))
    (there,) = find_changes([Column("a", labels, values, segments=old)])
    (elsewhere,) = find_changes([Column("a", labels, values, segments=new)])
    assert there.environment
    assert not elsewhere.environment
    assert changes_table([there]).rows[0][7] == "the environment changed"


def test_changes_of_less_than_a_verdict_reports_are_left_out():
    column = column_of(history(Metric.CPU_SECONDS, 0.0002))
    assert (column.metric, column.least) == (Metric.CPU_SECONDS, 0.001)
    assert list(find_changes([column])) == []
    (small,) = find_changes([column], full=True)
    (large,) = find_changes([column_of(history(Metric.CPU_SECONDS, 0.02))])
    assert changes_table([small, large]).rows[1][3] == "20.0\u00a0ms"
    assert list(find_changes([column_of(history(Metric.SECONDS, 1.0, step=1.02))])) == []


def test_levels_have_the_unit_of_their_metric_and_numbers_of_a_file_have_none():
    (change,) = find_changes([column_of(history(Metric.PEAK_RSS_BYTES, 2.0**28))])
    assert changes_table([change]).rows[0][3] == "256\u00a0MiB"
    assert changes_table([replace(change, metric=None)]).rows[0][3] == "2.683e+08"


def history(metric, level, step=1.5):
    """Thirty nights of a series that is higher by a factor since the fifteenth."""
    key = SeriesKey("embedded", "nightly", "A.b", "0", "nova", metric)
    chance = np.random.default_rng(3)
    points = [
        RunPoint(
            run_id=f"r{n:02d}",
            environment="e",
            code="c",
            values=(level * (step if n >= 15 else 1.0) * float(chance.normal(1, 0.001)),),
            attempts=1,
            failures=0,
            valid=True,
        )
        for n in range(30)
    ]
    return SeriesHistory(key, tuple(points))
