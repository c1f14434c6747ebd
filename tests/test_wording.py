from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from perfci import wording
from perfci.analysis.decision import Decision
from perfci.analysis.types import Basis, Confirmation
from perfci.markup import breakable
from perfci.redaction import redacted
from perfci.results.model import Metric, SeriesKey, ServiceRevision


def plain(text):
    return text.replace("\u00a0", " ").replace("\u2212", "-")


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (0.38812, Metric.SECONDS, "0.388 s"),
        (12.36, Metric.SECONDS, "12.4 s"),
        (1840.4, Metric.SECONDS, "1840 s"),
        (0.0699, Metric.CPU_SECONDS, "69.9 ms"),
        (0.0, Metric.SECONDS, "0 s"),
        (0.123, Metric.FAILURE_RATE, "12.3 %"),
        (41.25, Metric.SQL_STATEMENTS, "41.2"),
        (8000, Metric.ROWS_CHANGED, "8000"),
        (3, Metric.WARNINGS, "3.00"),
        (9378.2, Metric.MEGABITS_PER_SECOND, "9,378 Mbit/s"),
        (512, Metric.PEAK_RSS_BYTES, "512 B"),
        (44_145_049, Metric.PEAK_RSS_BYTES, "42.1 MiB"),
        (3 * 2**40, Metric.PEAK_RSS_BYTES, "3072 GiB"),
        (None, Metric.SECONDS, "\u2013"),
        (math.nan, Metric.SECONDS, "\u2013"),
    ],
)
def test_quantities(value, metric, text):
    assert plain(wording.quantity(value, metric)) == text


@pytest.mark.parametrize(
    ("share", "metric", "text"),
    [
        (0.312, Metric.SECONDS, "+31 %"),
        (0.0312, Metric.SECONDS, "+3.1 %"),
        (-0.042, Metric.SECONDS, "-4.2 %"),
        (-0.0001, Metric.SECONDS, "0.0 %"),
        (0.12, Metric.FAILURE_RATE, "+12 points"),
        (None, Metric.SECONDS, "\u2013"),
    ],
)
def test_changes(share, metric, text):
    assert plain(wording.change(share, metric)) == text


def test_intervals_and_probabilities():
    assert plain(wording.interval(0.27, 0.35, Metric.SECONDS)) == "+27 … +35 %"
    assert plain(wording.interval(-math.inf, 0.35, Metric.SECONDS)) == "-∞ … +35 %"
    assert wording.interval(None, 0.3, Metric.SECONDS) == wording.MISSING
    assert plain(wording.probability(1e-9)) == "< 0.0001"
    assert wording.probability(0.0312) == "0.031"
    assert wording.probability(1.0) == "1"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.23, "0.2 s"), (48.4, "48 s"), (432, "7 min 12 s"), (3900, "1 h 05 min")]
)
def test_how_long_something_took(seconds, text):
    assert plain(wording.elapsed(seconds)) == text


def test_runs_are_named_by_their_time():
    assert wording.run_time("20261121T041500Z-nightly-1f2e") == datetime(2026, 11, 21, 4, 15, tzinfo=UTC)
    assert wording.run_moment("20261121T041500Z-nightly-1f2e") == "2026-11-21 04:15"
    assert wording.run_day("by-hand") == wording.run_moment("by-hand") == "by-hand"


def test_series_are_named_by_what_was_measured():
    def name(action, metric):
        return wording.action_name(SeriesKey("lab", "job", "S.s", "0", action, metric))

    assert name("total", Metric.SECONDS) == "whole iteration"
    assert name("neutron.create_port", Metric.SECONDS) == "neutron.create_port"
    assert name("total", Metric.FAILURE_RATE) == "failure rate"
    assert name("east-west, 1 pair", Metric.MEGABITS_PER_SECOND) == "throughput east-west, 1 pair"
    assert name("neutron-api", Metric.PEAK_RSS_BYTES) == "peak memory of neutron-api"


def test_revisions():
    assert wording.revision_name(ServiceRevision("nova", "32.0.0", "wheel", "32.0.0")) == "32.0.0 (wheel)"
    commit = "1f2e3d4c5b6a" + 28 * "0"
    git = ServiceRevision("nova", "32.0.1.dev4", "https://git/nova", commit, ("slow.patch@1f2e3d4c",))
    assert wording.revision_name(git) == "32.0.1.dev4 (1f2e3d4c5b6a) with slow.patch@1f2e3d4c"


@pytest.mark.parametrize(
    ("decision", "text"),
    [
        (Decision.DIFFERENT, "re-runs confirm it: +9.1 % (+6.8 … +11 %), 3 and 4 runs"),
        (Decision.SAME, "re-runs refute it: +9.1 % (+6.8 … +11 %), 3 and 4 runs"),
        (Decision.UNKNOWN, "re-runs could not settle it: +9.1 % (+6.8 … +11 %), 3 and 4 runs"),
    ],
)
def test_what_re_runs_made_of_it(decision, text):
    shown = Confirmation(
        decision, Basis.RERUNS, "", "run", "run", runs=("a",) * 7, new_runs=3, old_runs=4,
        effect=0.091, low=0.068, high=0.114,
    )  # fmt: skip
    assert plain(wording.rerun_verdict(shown, Metric.SECONDS)) == text


def test_why_nothing_was_run_again():
    none = Confirmation(Decision.UNKNOWN, Basis.NOTHING, "the night had no time left", "run", "run")
    assert wording.rerun_verdict(none, Metric.SECONDS) == "not re-run: the night had no time left"


def test_long_names_may_break_and_stay_escaped():
    assert str(breakable("A.b_c")) == "A.<wbr>b_<wbr>c"
    assert "<script" not in breakable("<script>_x")


@pytest.mark.parametrize(
    "text",
    [
        "mysql+pymysql://nova:hunter22@127.0.0.1/nova",
        "redis://:hunter22@host/",
        "password = hunter22",
        '"admin_password": "hunter22"',
        "transport_secret=hunter22,",
        "X-Auth-Token: hunter22",
        "Authorization: Basic hunter22",
        "run --os-password hunter22 --debug",
        "token gAAAAABhunter22hunter22hunter22",
        "api_key='hunter22'",
    ],
)
def test_secrets_are_taken_out(text):
    assert "hunter22" not in redacted(text)
    assert "********" in redacted(text)


@pytest.mark.parametrize(
    "text", ["the token has expired", "password: None", "http://127.0.0.1:17696/v2.0/ports", "tokens=12"]
)
def test_what_is_no_secret_stays(text):
    assert redacted(text) == text


@pytest.mark.parametrize(
    ("metric", "verb"),
    [
        (Metric.SECONDS, "is"),
        (Metric.FAILURE_RATE, "is"),
        (Metric.MEGABITS_PER_SECOND, "is"),
        (Metric.PEAK_RSS_BYTES, "is"),
        (Metric.SQL_STATEMENTS, "are"),
        (Metric.CPU_SECONDS, "are"),
        (Metric.ROWS_READ, "are"),
        (Metric.ROWS_CHANGED, "are"),
        (Metric.PAGES_READ, "are"),
        (Metric.WARNINGS, "are"),
        (Metric.LEFTOVERS, "are"),
    ],
)
def test_the_verb_fits_what_is_measured(metric, verb):
    assert wording.is_or_are(SeriesKey("l", "j", "S.s", "0", "nova", metric)) == verb
