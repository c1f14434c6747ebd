"""Whether the lab was fit to measure during a run. Pure: numbers in, sentences out.

A canary is judged against the same canary on the same node in earlier valid runs of the same
environment: it is off when it is farther from their median than `spreads` robust standard deviations
(1.4826 · MAD, see Rousseeuw & Croux 1993) and than `canary_change` of the median. Faster is as
suspect as slower: numbers of a machine that changed can't be compared. In the same way the change
from before to after the load is judged against the change that is usual, with twice the floor.

Without enough history only the limits on the share of CPU time apply.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from perfci.results.model import Validity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perfci.results.canaries import NodeCanaries
    from perfci.results.counters import NodeShares

_MAD_TO_SIGMA = 1.4826
_DRIFT_FLOOR = 2.0
"""A drift is the ratio of two short rounds, a level their mean: it scatters about twice as much."""


@dataclass(frozen=True, slots=True)
class ValidityLimits:
    """From where on the lab counts as unfit. Shares and `canary_change` are 0..1.

    `history` earlier runs are looked at, at most; with fewer than `least_history` canaries are not judged.
    """

    foreign_cpu_share: float = 0.05
    steal_share: float = 0.05
    canary_change: float = 0.05
    spreads: float = 5.0
    history: int = 20
    least_history: int = 5


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """The canaries of a run that has been judged."""

    environment: str
    valid: bool
    canaries: tuple[NodeCanaries, ...]


@dataclass(frozen=True, slots=True)
class _Usual:
    middle: float
    tolerance: float
    runs: int

    def is_off(self, value: float) -> bool:
        return abs(value - self.middle) > self.tolerance


def validity(
    *,
    environment: str,
    canaries: Sequence[NodeCanaries],
    shares: Sequence[NodeShares],
    earlier: Sequence[EarlierRun],
    limits: ValidityLimits,
) -> Validity:
    """Judge one run by its canaries and by its shares of CPU time over the whole load.

    `earlier` holds earlier runs, oldest first; those that were not valid or ran in another environment
    are passed over.
    """
    like_this = [run for run in earlier if run.valid and run.environment == environment][-limits.history :]
    reasons = [
        *_shares(shares, limits),
        *(reason for node in canaries for reason in _node(node, like_this, limits)),
    ]
    return Validity(not reasons, tuple(reasons))


def _shares(shares: Sequence[NodeShares], limits: ValidityLimits) -> Iterator[str]:
    for node in shares:
        if node.foreign > limits.foreign_cpu_share:
            yield (
                f"processes that are not the lab's used {node.foreign:.1%} of the CPU time of {node.node} "
                f"during the load, the limit is {limits.foreign_cpu_share:.1%}"
            )
        if node.steal > limits.steal_share:
            yield (
                f"the hypervisor took {node.steal:.1%} of the CPU time of {node.node} during the load, "
                f"the limit is {limits.steal_share:.1%}"
            )


def _node(now: NodeCanaries, earlier: Sequence[EarlierRun], limits: ValidityLimits) -> Iterator[str]:
    past = [node for run in earlier for node in run.canaries if node.node == now.node]
    for canary in sorted({*now.before, *now.after}):
        levels = [level for node in past if (level := _level(node, canary)) is not None]
        usual = _usual(levels, limits, floor=limits.canary_change)
        level = _level(now, canary)
        if usual and level is not None and usual.is_off(level):
            yield (
                f"canary {canary} on {now.node} took {_seconds(level)}, usual is {_seconds(usual.middle)} "
                f"(±{_seconds(usual.tolerance)} over {usual.runs} runs)"
            )
        yield from _drift(now, canary, past, limits)


def _drift(
    now: NodeCanaries, canary: str, past: Sequence[NodeCanaries], limits: ValidityLimits
) -> Iterator[str]:
    ratio = _ratio(now, canary)
    ratios = [before for node in past if (before := _ratio(node, canary)) is not None]
    usual = _usual(ratios, limits, floor=_DRIFT_FLOOR * limits.canary_change)
    if usual and ratio is not None and usual.is_off(ratio):
        yield (
            f"canary {canary} on {now.node} changed by {ratio - 1:+.1%} from before to after the load, "
            f"usual is {usual.middle - 1:+.1%} (±{usual.tolerance:.1%} over {usual.runs} runs)"
        )


def _level(node: NodeCanaries, canary: str) -> float | None:
    """Return the mean of before and after, or the one of them that there is."""
    found = [times[canary] for times in (node.before, node.after) if canary in times]
    return sum(found) / len(found) if found else None


def _ratio(node: NodeCanaries, canary: str) -> float | None:
    before, after = node.before.get(canary), node.after.get(canary)
    return after / before if before and after is not None else None


def _usual(values: Sequence[float], limits: ValidityLimits, *, floor: float) -> _Usual | None:
    if len(values) < max(1, limits.least_history):
        return None
    middle = median(values)
    sigma = _MAD_TO_SIGMA * median(abs(value - middle) for value in values)
    return _Usual(middle, max(limits.spreads * sigma, floor * middle), len(values))


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 0.1 else f"{value * 1000:.3g} ms"  # noqa: PLR2004
