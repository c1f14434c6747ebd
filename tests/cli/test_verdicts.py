from __future__ import annotations

import io
from dataclasses import replace

import pytest
from nights import NETWORKS, PORTS, run_id, seconds_key, statements_key
from rich.console import Console
from site_data import site_data

from perfci.analysis.types import Judgement, Outcome
from perfci.cli.verdicts import show_judgements, show_night, show_results
from perfci.report.model import PageTone, ReportedFailure, RunReport, by_interest, verdict
from perfci.results.model import Measurement


@pytest.fixture(scope="module")
def runs():
    return site_data().runs


def printed(show, *arguments, terminal=True, **named):
    out = io.StringIO()
    show(Console(file=out, force_terminal=terminal, width=130, color_system=None), *arguments, **named)
    return out.getvalue()


def judged(outcome, action="total", **fields):
    return Judgement(seconds_key(action, NETWORKS), run_id(0), outcome, "", **fields)


def test_an_effect_that_is_the_same_in_all_rows_stands_in_each_of_them():
    moved = [judged(Outcome.REGRESSION, name, effect=0.3) for name in ("a", "b")]
    told = printed(show_judgements, moved).replace("\u00a0", " ")
    assert told.count("+30 %") == 2
    assert "effect +30 %" not in told


def test_interest_puts_the_largest_regression_first_whatever_the_order():
    small = judged(Outcome.REGRESSION, "a", effect=0.1)
    large = judged(Outcome.REGRESSION, "b", effect=0.5)
    better = judged(Outcome.IMPROVEMENT, effect=-0.9)
    calm = judged(Outcome.NO_CHANGE, effect=0.99)
    for order in ([calm, small, better, large], [large, better, small, calm]):
        assert by_interest(order) == [large, small, better, calm]


@pytest.mark.parametrize(
    ("outcomes", "text", "tone"),
    [
        ([Outcome.REGRESSION, Outcome.REGRESSION, Outcome.IMPROVEMENT], "2\u00a0series slower", PageTone.BAD),
        ([Outcome.IMPROVEMENT, Outcome.TOO_NOISY], "1\u00a0series faster", PageTone.GOOD),
        (
            [Outcome.TOO_NOISY, *[Outcome.NO_CHANGE] * 3],
            "no change, 1 of 4\xa0series too noisy",
            PageTone.QUIET,
        ),
        (
            [*[Outcome.TOO_NOISY] * 3, Outcome.NO_CHANGE],
            "3 of 4\xa0series too noisy to tell",
            PageTone.LAB,
        ),
        ([Outcome.KNOWN, Outcome.IMPROVEMENT], "1\xa0series slower, all of them known", PageTone.LAB),
        ([Outcome.TOO_NOISY, Outcome.NO_BASELINE], "too noisy to tell", PageTone.LAB),
        ([Outcome.NO_BASELINE], "no baseline", PageTone.QUIET),
        ([], "not judged", PageTone.QUIET),
    ],
)
def test_the_verdict_of_a_run(runs, outcomes, text, tone):
    run = RunReport(runs[0].record, judgements=tuple(judged(one) for one in outcomes))
    assert (verdict(run).text, verdict(run).tone) == (text, tone)


def test_a_failure_or_an_unfit_lab_is_never_called_slower(runs):
    slow = runs[21]
    assert "slower" in verdict(slow).text
    invalid = replace(slow, record=runs[14].record)
    assert (verdict(invalid).text, verdict(invalid).tone) == ("invalid (lab)", PageTone.LAB)
    failed = replace(slow, failure=ReportedFailure("deploy", "lab", "no space"))
    assert (verdict(failed).text, verdict(failed).tone) == ("failed in deploy (lab)", PageTone.LAB)


def test_on_a_terminal_only_the_interesting_is_listed(runs):
    text = printed(show_judgements, runs[21].judgements)
    assert len([line for line in text.splitlines() if line.startswith("regression: ")]) == 2
    assert len([line for line in text.splitlines() if line.startswith("  neutron") or " whole " in line]) == 3
    assert "NovaServers" not in text
    assert "12\u00a0series (regression: 3, no change: 9)" in text
    assert "NovaServers" in printed(show_judgements, runs[21].judgements, full=True)
    assert printed(show_judgements, (), empty="nothing in it") == "nothing in it\n"


def test_in_a_pipe_everything_is_there_separated_by_tabs(runs):
    lines = printed(show_judgements, runs[21].judgements, terminal=False).splitlines()
    assert len(lines) == 13
    assert {line.count("\t") for line in lines} == {8}
    assert lines[1].startswith("regression\tNeutronNetworks.create_and_list_ports\tneutron.create_port\t+3")
    assert "\u00a0" not in "".join(lines)
    assert printed(show_judgements, (), terminal=False, empty="nothing in it") == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_results(terminal):
    values = (0.3, 0.1, 0.2)
    found = [
        Measurement(seconds_key("total", NETWORKS), run_id(0), values, (1.0, 2.0, 3.0), 4, 1),
        Measurement(statements_key("neutron-api", PORTS), run_id(0), (), (), 0, 0),
    ]
    text = printed(show_results, found, terminal=terminal).replace("\u00a0", " ")
    assert "0.200 s" in text
    assert "0.100 s … 0.300 s" in text
    assert "1 of 4" in text
    assert "SQL statements of neutron-api" in text
    assert printed(show_results, [], terminal=True, empty="nothing in it") == "nothing in it\n"


def test_the_whole_iteration_stands_before_its_actions():
    one = Measurement(seconds_key("total", NETWORKS), run_id(0), (0.3,), (1.0,), 1, 0)
    found = [
        replace(one, key=seconds_key(action, NETWORKS)) for action in ("neutron.create_network", "total")
    ]
    text = printed(show_results, found)
    assert text.index("whole iteration") < text.index("neutron.create_network")


def test_the_end_of_a_night(runs):
    text = printed(show_night, runs[21], mail=["state/mail"], trends="site/index.html", least_runs=8, runs=22)
    assert text.startswith("verdict   3\u00a0series slower\n")
    assert "neutron.create_port +3" in text
    assert "since 2026-11-20 04:15" in text
    assert "mail      state/mail\n" in text
    assert "trends    site/index.html\n" in text


def test_the_first_nights_say_how_many_are_missing(runs):
    text = printed(show_night, runs[0], mail=[], trends="x", least_runs=8, runs=1, terminal=False)
    assert text.splitlines()[:3] == ["verdict\tno baseline yet (run 1 of 8)", "mail\tnone", "trends\tx"]


def test_a_bad_night_says_why(runs):
    assert "canary disk on node-1" in printed(
        show_night, runs[14], mail=[], trends="x", least_runs=8, runs=15
    )
    failed = replace(runs[27], failure=replace(runs[27].failure, advice="Look at the [log]."))
    text = printed(show_night, failed, mail=[], trends="x", least_runs=8, runs=28)
    assert "failed in deploy (product)" in text
    assert "status 500 instead of 200" in text
    assert "Look at the [log]." in text


def test_a_long_list_of_changes_is_cut(runs):
    many = tuple(judged(Outcome.REGRESSION, f"a{n}", effect=0.2) for n in range(20))
    text = printed(show_night, replace(runs[21], judgements=many), mail=[], trends="x", least_runs=8, runs=9)
    assert "and 8 more" in text
