"""What two sides have shown, in words: the answer in one sentence, counters that moved, text for a review."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from perfci.wording import NBSP, action_name, change, counted, interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perfci.results.model import Metric
    from perfci.results.pairs import PairedCounter
    from perfci.runs.studies.side_by_side import SideBySide, SideFinding

WORDS = ("slower", "faster", "same", "unknown")
LEAST_SHARE = 0.01
"""A counter matters if it moved by this share of what all services of its scenario count together."""


def answer(found: SideBySide) -> str:
    """Say in one sentence what was found: `nothing is slower (4 timings: 1 faster, 3 same within 5 %)`."""
    words = Counter(one.word for one in found.findings)
    slowest = max(
        (one for one in found.findings if one.word == "slower" and one.reading),
        key=lambda one: one.reading.log if one.reading else 0.0,
        default=None,
    )
    if slowest:
        lead = f"{_timing(slowest)} is slower by {_size(slowest).lstrip('+')}"
    elif words["unknown"] or not words:
        lead = "nothing is proven to be slower"
    else:
        lead = "nothing is slower"
    counts = ", ".join(f"{words[word]} {_verdict_word(word, found)}" for word in WORDS if words[word])
    if not counts:
        return f"{lead}: nothing was paired"
    return f"{lead} ({counted(words.total(), 'timing')}: {counts})"


def moved_counters(found: SideBySide) -> tuple[PairedCounter, ...]:
    """Return the counters that moved by as much as a timing must move, and that are not next to nothing.

    Services that idle count little, and that little varies by a third from run to run.
    """
    together: defaultdict[tuple[str, str, Metric], float] = defaultdict(float)
    for one in found.counters:
        together[one.key.scenario, one.key.arguments, one.key.metric] += abs(one.old)
    return tuple(
        one
        for one in found.counters
        if abs(one.new - one.old) > found.settings.within * abs(one.old)
        and abs(one.new - one.old)
        > LEAST_SHARE * together[one.key.scenario, one.key.arguments, one.key.metric]
    )


def pairs_review_text(found: SideBySide, notes: Sequence[str]) -> str:
    """Return what was found as plain text for a comment in a review: no tables, which Gerrit would reflow."""
    draws = f"{counted(len(found.runs), 'deployment')} of two clouds side by side"
    lines = [f"perfci: {answer(found)}", f"Measured on {draws}.", ""]
    lines += [f"* {_timing(one)}: {_verdict(one, found)}" for one in found.findings]
    lines += [
        f"* {one.key.scenario}, {action_name(one.key)}: {change(_share(one), one.key.metric)}"
        for one in moved_counters(found)
    ]
    lines += ["", *notes, *found.notes]
    if found.ended:
        lines.append(f"It ended early: {found.ended}.")
    return "\n".join(lines).replace(NBSP, " ")


def _share(one: PairedCounter) -> float | None:
    return one.new / one.old - 1 if one.old else None


def _timing(one: SideFinding) -> str:
    return f"{one.key.scenario}, {action_name(one.key)}"


def _size(one: SideFinding) -> str:
    return change(math.expm1(one.reading.log), one.key.metric) if one.reading else ""


def _verdict_word(word: str, found: SideBySide) -> str:
    return f"same within {100 * found.settings.within:g}{NBSP}%" if word == "same" else word


def _verdict(one: SideFinding, found: SideBySide) -> str:
    word = _verdict_word(one.word, found)
    if one.reading is None:
        return word
    around = interval(math.expm1(one.reading.low), math.expm1(one.reading.high), one.key.metric)
    return f"{word}, {_size(one)} ({around}), {counted(one.pairs, 'pair')}"
