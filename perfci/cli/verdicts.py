"""What runs measured and what was made of it, for a terminal; tab-separated lines in a pipe."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from perfci.analysis.types import Outcome
from perfci.cli.output import print_sections, print_table
from perfci.report.model import TONES, PageTone, by_interest, tally, verdict
from perfci.results.model import TOTAL, Metric
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
_NUMBERS = frozenset(
    {"effect", "95 % interval", "baseline", "this run", "q", "MDE", "median", "n", "failures"}
)
_COLUMNS = ("action", "effect", "95 % interval", "baseline", "this run", "q", "MDE")
_NEEDED = 5
"""Of these columns as many stay in the narrowest terminal."""
_SHOWN = 12


def show_results(console: Console, measurements: Iterable[Measurement], *, empty: str = "") -> None:
    """Print what one run measured: median, smallest and largest value, values and failures of each series."""
    ordered = sorted(measurements, key=_whole_first)
    rows = [(one.key.scenario, *_measured(one)) for one in ordered]
    columns = ("action", "median", "range", "n", "failures")
    if not console.is_terminal or not rows:
        print_table(("scenario", *columns), rows, empty=empty, numbers=_NUMBERS, console=console)
        return
    print_sections(
        columns, [(row[0], row[1:]) for row in rows], needed=_NEEDED, numbers=_NUMBERS, console=console
    )


def _whole_first(one: Measurement) -> tuple[Any, ...]:
    """Sort key: of each scenario the whole iteration first, then its actions, then all else."""
    key = one.key
    return (key.scenario, key.arguments, key.metric is not Metric.SECONDS, key.action != TOTAL, key)


def _measured(one: Measurement) -> tuple[str, ...]:
    values = sorted(one.values)
    shown = quantity(median(values) if values else None, one.key.metric)
    low, high = (
        quantity(value, one.key.metric) for value in ((values[0], values[-1]) if values else (None, None))
    )
    reach = MISSING if not values else low if low == high else f"{low} … {high}"
    return (action_name(one.key), shown, reach, str(len(values)), f"{one.failures} of {one.attempts}")


def show_judgements(
    console: Console, judgements: Sequence[Judgement], *, full: bool = False, empty: str = ""
) -> None:
    """Print the verdicts of a night, what is interesting first.

    On a terminal only what changed is listed, and the rest counted, unless `full`. Without any verdict,
    `empty` says what was looked for.
    """
    ordered = by_interest(judgements)
    if not console.is_terminal or not ordered:
        columns = ("verdict", "scenario", *_COLUMNS)
        rows = [(str(one.outcome), one.key.scenario, *_judged(one)) for one in ordered]
        print_table(columns, rows, empty=empty, console=console)
        return
    shown = ordered if full else [one for one in ordered if one.outcome in _INTERESTING]
    headings = {_heading(one, ordered): _STYLES[TONES[one.outcome]] for one in shown}
    place = {heading: number for number, heading in enumerate(headings)}
    shown.sort(key=lambda one: place[_heading(one, ordered)])
    print_sections(
        _COLUMNS,
        [(_heading(one, ordered), _judged(one)) for one in shown],
        needed=_NEEDED,
        numbers=_NUMBERS,
        stay=("effect",),
        styles=headings,
        console=console,
    )
    counts = ", ".join(f"{outcome}: {n}" for outcome in TONES if (n := tally(ordered, outcome)))
    text = f"{counted(len(ordered), 'series')}{f' ({counts})' if counts else ''}"
    if len(shown) < len(ordered):
        text += f"; {'--full lists all' if shown else 'none changed, --full lists all'}"
    console.print(text, markup=False, highlight=False)


def _heading(one: Judgement, among: Sequence[Judgement]) -> str:
    """Return verdict and scenario; with its arguments where the scenario ran with several."""
    several = len({other.key.arguments for other in among if other.key.scenario == one.key.scenario}) > 1
    return f"{one.outcome}: {one.key.scenario}{f' ({one.key.arguments})' if several else ''}"


def _judged(one: Judgement) -> tuple[str, ...]:
    metric = one.key.metric
    return (
        action_name(one.key),
        change(one.effect, metric),
        interval(one.low, one.high, metric),
        quantity(one.baseline_location, metric),
        quantity(one.location, metric),
        probability(one.q_value),
        change(one.mde, metric).lstrip("+"),
    )


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
    told = [("verdict", text, _STYLES[word.tone])]
    told += [("", reason, "default") for reason in run.record.validity.reasons]
    if run.failure:
        told.append(("", " ".join(run.failure.error.split()), "default"))
        told += [("", run.failure.advice, "default")] if run.failure.advice else []
    changed = [one for one in by_interest(run.judgements) if one.outcome in _INTERESTING]
    told += [("", _changed(one), "default") for one in changed[:_SHOWN]]
    if len(changed) > _SHOWN:
        told.append(("", f"and {len(changed) - _SHOWN} more", "default"))
    told += [("mail" if not n else "", one, "default") for n, one in enumerate(mail or ("none",))]
    told.append(("trends", trends, "default"))
    told.append(("run", f"{run.record.run_id} ({run_moment(run.record.run_id)} UTC)", "default"))
    for name, value, style in told:
        if console.is_terminal:
            console.print(f"{name:<9} [{style}]{escape(value)}[/]", highlight=False, soft_wrap=True)
        else:
            console.file.write(_plain(f"{name}\t{value}\n"))


def _changed(one: Judgement) -> str:
    effect = f"{change(one.effect, one.key.metric)} ({interval(one.low, one.high, one.key.metric)})"
    since = f" since {run_moment(one.since)}" if one.since else ""
    return f"{action_name(one.key)} {effect} in {one.key.scenario}{since}"


def _plain(line: str) -> str:
    return line.replace(NBSP, " ")
