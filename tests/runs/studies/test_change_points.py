"""Histories out of CSV files, and what is wrong with one that can't be read."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from perfci.analysis.types import RunPoint, SeriesHistory
from perfci.cli.tables import changes_table
from perfci.results.model import Metric, SeriesKey
from perfci.runs.studies.change_points import Column, HistoryFileInvalid, column_of, find_changes, read_csv

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
        ("run,a\n", False, ":1: there is a header and nothing below it"),
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
