"""A bisect's outcome in words: the verdict, the table of what was measured, and whom it names."""

from __future__ import annotations

import math
import re
from statistics import fmean
from typing import TYPE_CHECKING

from perfci.alerts.bisect_story import BisectRow, BisectStory
from perfci.analysis.bisect.machine import End
from perfci.analysis.bisect.model import BisectPoint, Kind
from perfci.changes.model import REQUIREMENTS
from perfci.results.model import TOTAL, Metric, SeriesKey
from perfci.runs.studies.bisect_rule import levels
from perfci.wording import MINUS, NBSP, action_name, change, counted, interval, quantity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perfci.analysis.bisect.machine import BisectResult
    from perfci.runs.studies.bisect import BisectOutcome
    from perfci.runs.studies.bisect_course import BisectStep
    from perfci.runs.studies.bisect_noise import MeasuredSeries

_Z95 = 1.96
_TIMINGS = frozenset({Metric.SECONDS, Metric.RATIO})
_WORTH_SAYING = 0.02
_MACHINE = re.compile(r"\bbot\b|\bzuul\b|proposal", re.IGNORECASE)
"""Names under which no person can be written to."""


def story_of(found: BisectOutcome) -> BisectStory:
    """Return what a bisect found, for people."""
    asked, result = found.asked, found.result
    steps = asked.course.steps
    named = tuple(steps[number - 1] for number in result.steps) if result else ()
    inside = story_of(found.inside) if found.inside is not None else None
    proven = result is not None and result.end is End.CULPRIT
    return BisectStory(
        title=asked.title,
        job=asked.job_name,
        series=_series(found),
        metric=asked.series.metric,
        end=str(result.end) if result else "not finished",
        headline=_headline(found, named),
        verdict=_verdict(found, named),
        command=asked.command,
        culprits=tuple(dict.fromkeys(one.change for one in named)),
        proven=proven,
        address=author_address(named, inside) if proven else None,
        probability=result.probability if result else 0.0,
        effect=_real(result.effect, asked.series.metric) if result else None,
        low=_bounds(result, asked.series.metric)[0] if result else None,
        high=_bounds(result, asked.series.metric)[1] if result else None,
        steps=tuple(one.name for one in steps),
        culprit_at=result.steps[0] if result and proven else None,
        rows=tuple(_rows(found)),
        remarks=tuple(_remarks(found)),
        runs=tuple(one.run.run_id for one in found.replayed.used),
        inside=inside,
    )


def author_address(named: Sequence[BisectStep], inside: BisectStory | None) -> str | None:
    """Return the author's address, where one change of a person is proven."""
    if inside is not None:
        return inside.address
    if len(named) != 1:
        return None
    author = named[0].change.author
    if author is None or named[0].change.project == REQUIREMENTS or _MACHINE.search(author.name):
        return None
    return author.address


def _series(found: BisectOutcome) -> str:
    series = found.asked.series
    key = SeriesKey("", "", series.scenario or "", "", series.action, _named_metric(series))
    what = series.scenario or ", ".join(one.task for one in found.asked.course.job.scenarios)
    return f"{action_name(key)} in {what}"


def _named_metric(series: MeasuredSeries) -> Metric:
    """Return what a series is called by: a ratio to the good end by the timing that it is of."""
    return Metric.SECONDS if series.metric is Metric.RATIO else series.metric


def _short(found: BisectOutcome) -> str:
    series = found.asked.series
    if series.action == TOTAL:
        return series.scenario or "the task"
    return action_name(SeriesKey("", "", "", "", series.action, _named_metric(series)))


def _worse(result: BisectResult, metric: Metric) -> str:
    """Say how much worse: `12 % slower (+9 … +15 %)`."""
    effect = _real(result.effect, metric)
    better = effect is not None and (effect > 0) == metric.higher_is_better
    if metric in _TIMINGS:
        word = "faster" if better else "slower"
    else:
        word = "higher" if effect is not None and effect > 0 else "lower"
    low, high = _bounds(result, metric)
    size = change(effect, metric).lstrip(f"+{MINUS}")
    return f"{size} {word} (95 %: {interval(low, high, metric)})"


def _real(share: float | None, metric: Metric) -> float | None:
    """Return a change as people see it: of a metric of which higher is better, a fall is what is worse."""
    if share is None or not metric.higher_is_better:
        return share
    return 1 / (1 + share) - 1


def _bounds(result: BisectResult, metric: Metric) -> tuple[float | None, float | None]:
    low, high = _real(result.low, metric), _real(result.high, metric)
    return (high, low) if metric.higher_is_better else (low, high)


def _headline(found: BisectOutcome, named: Sequence[BisectStep]) -> str:
    """Say it in a few words, in which nothing is a stranger's but names of projects and commits."""
    result, what = found.result, _short(found)
    if result is None:
        return f"bisect of {what} is not finished"
    if result.end is not End.CULPRIT:
        return {
            End.NONE: f"none of the changes made {what} slower",
            End.SEVERAL: f"several changes made {what} slower",
        }.get(result.end, f"which change made {what} slower is not known")
    if len(named) > 1:
        return f"one of {counted(len(named), 'change')} changed {what}"
    inner = found.inside.result if found.inside else None
    if found.inside is not None and inner is not None and inner.end is End.CULPRIT:
        return _headline(found.inside, [found.inside.asked.course.steps[n - 1] for n in inner.steps])
    size = change(_real(result.effect, found.asked.series.metric), found.asked.series.metric)
    return f"{named[0].change.name} changed {what} by {size}"


def _verdict(found: BisectOutcome, named: Sequence[BisectStep]) -> str:
    result, what = found.result, _series(found)
    if result is None:
        return f"The bisect is not finished: {found.ended}. The same command continues it."
    sure = f"{100 * result.probability:.4g}{NBSP}%"
    names = " and ".join(one.name for one in named)
    suspects = counted(len(found.asked.course.steps), "suspect")
    if result.end is End.CULPRIT:
        return _culprit(found, result, named)
    return {
        End.NONE: f"None of the {suspects} made {what} slower: in fresh deployments, the "
        f"good and the bad end do not differ by the claimed amount (probability {sure}).",
        End.SEVERAL: f"More than one change made {what} slower (probability {sure}); "
        + (
            f"likely among them: {names}."
            if names
            else "perfci does not know which ones yet: bisect parts of the range."
        ),
        End.UNPROVEN: f"{names} is the likeliest cause (probability {sure}), but {result.reason}.",
        End.TOO_NOISY: _too_noisy(found, result, names, sure),
    }.get(result.end, f"perfci could not find it: {result.reason}{_reason(found, result)}.")


def _too_noisy(found: BisectOutcome, result: BisectResult, names: str, sure: str) -> str:
    allowed = counted(found.asked.question.most_runs, "run")
    more = f": about {counted(result.needed, 'more run')} would be enough" if result.needed else ""
    likeliest = f" The likeliest is {names} (probability {sure})." if names else ""
    return f"The runs scatter too much for an answer with the {allowed} allowed{more}.{likeliest}"


def _reason(found: BisectOutcome, result: BisectResult) -> str:
    """Add what the end that does not deploy said."""
    if not result.reason.endswith("does not deploy"):
        return ""
    index = 0 if "good" in result.reason else len(found.asked.course.steps)
    said = found.replayed.reasons.get(BisectPoint(Kind.REVISION, index), "")
    return f" ({said})" if said else ""


def _culprit(found: BisectOutcome, result: BisectResult, named: Sequence[BisectStep]) -> str:
    what, metric = _series(found), found.asked.series.metric
    size = _worse(result, metric)
    if len(named) > 1:
        names = ", ".join(one.name for one in named)
        return f"One of {names} made {what} {size}: perfci can't measure a revision between them."
    text = f"{_told(named[0])} made {what} {size}. In fresh deployments, it is slower than its parent"
    if metric not in _TIMINGS:
        text = f"{_told(named[0])} made {what} {size}. In fresh deployments, it is worse than its parent"
    if result.reverted:
        text += ", and reverting it brings the newest revision back to the old level."
    elif not found.asked.question.revert:
        text += "."
    else:
        why = found.replayed.reasons.get(BisectPoint(Kind.REVERTED, result.steps[0])) or result.reason
        text += f". The proof at the newest revision is not possible: {why}."
    if found.inside is not None:
        text += f" Inside it: {story_of(found.inside).verdict}"
    return text


def _told(step: BisectStep) -> str:
    author = f" by {step.change.author.name}" if step.change.author else ""
    return f"{step.name} “{step.change.subject}”{author}"


def _rows(found: BisectOutcome) -> Iterator[BisectRow]:
    """Return what was measured of each revision, in order, then at the newest one; and what is left out."""
    course, used = found.asked.course, levels(found.replayed.used)
    points = {*used, *found.replayed.reasons}
    last = len(course.steps)

    def order(point: BisectPoint) -> tuple[int, int]:
        place = point.index - (point.kind is Kind.PARENT)
        at_head = point.kind in (Kind.HEAD, Kind.REVERTED)
        return (last + 1 + (point.kind is Kind.REVERTED) if at_head else place, list(Kind).index(point.kind))

    for point in sorted(points, key=order):
        logs = used.get(point, ())
        level, low, high = _interval(found, point, logs)
        step = course.steps[point.index - 1] if point.index else None
        yield BisectRow(
            place=order(point)[0],
            what=_name(point, last, step),
            subject=step.change.subject if step and point.kind in (Kind.REVISION, Kind.CHANGE) else "",
            runs=len(logs),
            level=level,
            low=low,
            high=high,
            at_head=point.kind in (Kind.HEAD, Kind.REVERTED),
            note=found.replayed.reasons.get(point, ""),
        )


def _name(point: BisectPoint, last: int, step: BisectStep | None) -> str:
    name = step.name if step else ""
    if point.kind is Kind.REVISION:
        return "good end" if point.index == 0 else f"bad end, {name}" if point.index == last else name
    return {
        Kind.PARENT: f"parent of {name}, afresh",
        Kind.CHANGE: f"{name}, afresh",
        Kind.HEAD: "newest revision",
        Kind.REVERTED: f"newest without {name}",
    }[point.kind]


def _interval(
    found: BisectOutcome, point: BisectPoint, logs: Sequence[float]
) -> tuple[float | None, float | None, float | None]:
    if not logs:
        return None, None, None
    question = found.asked.question
    variance = fmean(question.variance(one) for one in found.replayed.state.at(point.kind, point.index))
    turn = -1 if found.asked.series.metric.higher_is_better else 1
    middle = fmean(logs)
    error = _Z95 * math.sqrt(variance / len(logs))
    low, high = sorted((math.exp(turn * (middle - error)), math.exp(turn * (middle + error))))
    return math.exp(turn * middle), low, high


def _remarks(found: BisectOutcome) -> Iterator[str]:
    asked = found.asked
    yield from asked.notes
    seen = [asked.question.variance(one) for one in found.replayed.state.seen]
    scatter = math.sqrt(fmean(seen) if seen else asked.question.usual_variance)
    yield f"{counted(len(found.replayed.used), 'run')}; a single run scatters by about {scatter:.1%}."
    if asked.series.metric is Metric.RATIO:
        slower = quantity(1.1, Metric.RATIO)
        yield f"Values are ratios to the good end: at {slower} it takes 10 % longer than there."
    for number, why in sorted(asked.course.refused.items()):
        yield f"{asked.course.steps[number - 1].name} can't be the culprit: {why}."
    for point, why in found.replayed.reasons.items():
        if point.kind in (Kind.REVISION, Kind.PARENT, Kind.CHANGE):
            step = asked.course.steps[point.index - 1] if point.index else None
            yield f"Left out: {_name(point, len(asked.course.steps), step)}: {why}."
    result = found.result
    if result is not None and result.end is End.CULPRIT and result.second >= _WORTH_SAYING:
        yield f"A second change beside it has a probability of {result.second:.0%}."
