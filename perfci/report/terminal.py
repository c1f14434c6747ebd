"""Tables and summaries for a terminal; tab-separated lines without colours in a pipe."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from perfci.analysis.types import Outcome
from perfci.report.model import TONES, PageTone, by_interest, tally, verdict
from perfci.wording import (
    MISSING,
    NBSP,
    action_name,
    change,
    counted,
    interval,
    probability,
    quantity,
    run_moment,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from perfci.analysis.types import Judgement
    from perfci.report.model import RunReport
    from perfci.results.model import Measurement

_STYLES = {
    PageTone.BAD: "bold red",
    PageTone.GOOD: "bold green",
    PageTone.LAB: "yellow",
    PageTone.QUIET: "default",
}
_INTERESTING = frozenset({Outcome.REGRESSION, Outcome.KNOWN, Outcome.IMPROVEMENT})
_NUMBERS = frozenset({"effect", "95 % interval", "baseline", "now", "q", "MDE", "median", "n", "failures"})
_SHOWN = 12


def show_results(console: Console, measurements: Iterable[Measurement]) -> None:
    """Print what one run measured: median, smallest and largest value, values and failures of each series."""
    rows = []
    for one in sorted(measurements, key=lambda measurement: measurement.key):
        ordered = sorted(one.values)
        middle = median(ordered) if ordered else None
        reach = (
            f"{quantity(ordered[0], one.key.metric)} … {quantity(ordered[-1], one.key.metric)}"
            if ordered
            else MISSING
        )
        rows.append(
            (
                one.key.scenario,
                action_name(one.key),
                quantity(middle, one.key.metric),
                reach,
                str(len(ordered)),
                f"{one.failures} of {one.attempts}",
            )
        )
    _print(console, ("scenario", "action", "median", "range", "n", "failures"), rows, empty="No results.")


def show_judgements(console: Console, judgements: Sequence[Judgement], *, full: bool = False) -> None:
    """Print the verdicts of a night, what is interesting first.

    On a terminal only what changed or is too noisy is listed, and the rest counted, unless `full`.
    """
    ordered = by_interest(judgements)
    shown = ordered
    if console.is_terminal and not full:
        shown = [one for one in ordered if one.outcome in _INTERESTING or one.outcome is Outcome.TOO_NOISY]
    rows = [
        (
            str(one.outcome),
            one.key.scenario,
            action_name(one.key),
            change(one.effect, one.key.metric),
            interval(one.low, one.high, one.key.metric),
            quantity(one.baseline_location, one.key.metric),
            quantity(one.location, one.key.metric),
            probability(one.q_value),
            change(one.mde, one.key.metric).lstrip("+"),
        )
        for one in shown
    ]
    columns = ("verdict", "scenario", "action", "effect", "95 % interval", "baseline", "now", "q", "MDE")
    styles = [_STYLES[TONES[one.outcome]] for one in shown]
    _print(console, columns, rows, empty="", styles=styles)
    counts = ", ".join(f"{outcome}: {n}" for outcome in TONES if (n := tally(ordered, outcome)))
    if console.is_terminal:
        console.print(f"{counted(len(ordered), 'series')}{f' ({counts})' if counts else ''}", highlight=False)


def show_night(
    console: Console, run: RunReport, *, mail: Sequence[str], trends: str, least_runs: int, runs: int
) -> None:
    """Print the end of a night: the verdict, the clearest changes, where the mail and the trends are.

    `mail` says of each mail where it went; `runs` of `least_runs` are there for a baseline.
    """
    word = verdict(run)
    text = word.text
    if word.text == Outcome.NO_BASELINE:
        text = f"{word.text} yet (run {min(runs, least_runs)} of {least_runs})"
    lines = [("verdict", text, _STYLES[word.tone])]
    lines += [("", reason, "default") for reason in run.record.validity.reasons]
    if run.failure:
        lines.append(("", " ".join(run.failure.error.split()), "default"))
        lines += [("", run.failure.advice, "default")] if run.failure.advice else []
    changed = [one for one in by_interest(run.judgements) if one.outcome in _INTERESTING]
    lines += [("", _changed(one), "default") for one in changed[:_SHOWN]]
    if len(changed) > _SHOWN:
        lines.append(("", f"and {len(changed) - _SHOWN} more", "default"))
    lines += [("mail" if not n else "", one, "default") for n, one in enumerate(mail or ("none",))]
    lines.append(("trends", trends, "default"))
    lines.append(("run", f"{run.record.run_id} ({run_moment(run.record.run_id)} UTC)", "default"))
    for name, value, style in lines:
        if console.is_terminal:
            console.print(f"{name:<9} [{style}]{escape(value)}[/]", highlight=False, soft_wrap=True)
        else:
            console.file.write(_plain(f"{name}\t{value}\n"))


def _changed(one: Judgement) -> str:
    effect = f"{change(one.effect, one.key.metric)} ({interval(one.low, one.high, one.key.metric)})"
    since = f" since {run_moment(one.since)}" if one.since else ""
    return f"{action_name(one.key)} {effect} in {one.key.scenario}{since}"


def _print(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    empty: str,
    styles: Sequence[str] = (),
) -> None:
    if not console.is_terminal:
        for row in (columns, *rows) if rows else ():
            console.file.write(_plain("\t".join(row) + "\n"))
        return
    if not rows:
        if empty:
            console.print(empty)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        number = column in _NUMBERS
        table.add_column(column, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row, style in zip(rows, styles or ["default"] * len(rows), strict=True):
        table.add_row(f"[{style}]{escape(row[0])}[/]", *(escape(cell) for cell in row[1:]))
    console.print(table)


def _plain(line: str) -> str:
    return line.replace(NBSP, " ")
