"""Whether the lab was fit to measure during a run. Pure: numbers in, sentences out.

A canary is judged against the same canary on the same node in earlier valid runs of the same
environment: it is off when it is farther from their median than `spreads` robust standard deviations
(1.4826 · MAD, see Rousseeuw & Croux 1993) and than `canary_change` of the median. Faster is as
suspect as slower: numbers of a machine that changed can't be compared. In the same way the change
from before to after the load is judged against the change that is usual, with twice the floor.

Without enough history only the limits on the share of CPU time apply.

A lab may change for good without a new environment digest: a firmware that throttles, a disk that got slower.
Its runs would be invalid for ever, as only valid ones are history. So when `new_level` runs in a row are
invalid for nothing but their canaries, and every canary agrees over these runs as well as usual, they are the
lab's new level: the last of them is valid, names the first of them (`Validity.level_since`), and from then on
runs are compared within that level only. It is no alarm: all series begin again there, as in a new
environment, and these runs count among them (`comparable`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from statistics import median
from typing import TYPE_CHECKING

from perfci.results.model import Validity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from perfci.results.canaries import NodeCanaries
    from perfci.results.counters import NodeShares
    from perfci.results.model import RunRecord

_MAD_TO_SIGMA = 1.4826
_CANARY = "canary "
"""How every reason that is about a canary begins."""
_DRIFT_FLOOR = 2.0
"""A drift is the ratio of two short rounds, a level their mean: it scatters about twice as much."""


@dataclass(frozen=True, slots=True)
class ValidityLimits:
    """From where on the lab counts as unfit. Shares and `canary_change` are 0..1.

    `history` earlier runs are looked at, at most; with fewer than `least_history` canaries are not judged.
    After `new_level` runs in a row at the same unusual level, that level is the lab's.
    """

    foreign_cpu_share: float = 0.05
    steal_share: float = 0.05
    canary_change: float = 0.05
    spreads: float = 5.0
    history: int = 20
    least_history: int = 5
    new_level: int = 5


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """The canaries of a run that has been judged. `only_canaries`: it was invalid for nothing else."""

    environment: str
    valid: bool
    canaries: tuple[NodeCanaries, ...]
    run_id: str = ""
    level_since: str | None = None
    only_canaries: bool = False


@dataclass(frozen=True, slots=True)
class _Usual:
    """What a canary usually takes, or how it changes, and how far off it may be."""

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
    restarts: Sequence[str] = (),
) -> Validity:
    """Judge one run by its canaries, its shares of CPU time over the whole load, and restarts in it.

    `earlier` holds earlier runs, oldest first; those that were not valid, ran in another environment or at
    another level of the lab are not compared with.
    """
    like_this = [run for run in earlier if run.environment == environment]
    since = next((run.level_since for run in reversed(like_this) if run.valid), None)
    usual = _of_level(like_this, since)[-limits.history :]
    busy = (*_shares(shares, limits), *map(_restarted, restarts))
    off = tuple(reason for node in canaries for reason in _node(node, usual, limits))
    if off and not busy and (began := _new_level(canaries, like_this, usual, limits)):
        return Validity(valid=True, level_since=began)
    return Validity(not (busy or off), (*busy, *off), since)


def _restarted(service: str) -> str:
    return f"{service} was restarted during the load: it crashed, or something ended it"


def only_canaries(validity: Validity) -> bool:
    """Say whether a run was invalid for nothing but its canaries."""
    reasons = validity.reasons
    unfit = not validity.valid or validity.pairs_only
    return unfit and bool(reasons) and all(reason.startswith(_CANARY) for reason in reasons)


def comparable(records: Sequence[RunRecord]) -> dict[str, tuple[str, bool]]:
    """Return, per run, what it can be compared within, and whether it counts as valid.

    That is its environment, and the level of the lab where that has changed since. The runs that have shown a
    new level count among it, though they were invalid when they ran.
    """
    found = {}
    began: dict[tuple[str, str], str] = {}
    for one in sorted(records, key=lambda record: record.run_id, reverse=True):
        since = one.validity.level_since
        found[one.run_id] = (_place(one.environment, since), one.validity.valid)
        if since is not None and one.validity.valid:
            began[one.environment, since] = one.run_id
    for (environment, since), first in began.items():
        for one in records:
            founding = since in found and since <= one.run_id < first and one.environment == environment
            if founding and only_canaries(one.validity):
                found[one.run_id] = (_place(environment, since), True)
    return found


def _place(environment: str, since: str | None) -> str:
    return environment if since is None else f"{environment}, lab as since {since}"


def _of_level(runs: Sequence[EarlierRun], since: str | None) -> list[EarlierRun]:
    """Return the runs of one environment that are history at a level of the lab."""
    first = next((run.run_id for run in runs if run.valid and run.level_since == since), "")
    return [
        run
        for run in runs
        if (run.valid and run.level_since == since)
        or (since is not None and run.only_canaries and since <= run.run_id < first)
    ]


def _new_level(
    now: Sequence[NodeCanaries],
    runs: Sequence[EarlierRun],
    usual: Sequence[EarlierRun],
    limits: ValidityLimits,
) -> str | None:
    """Return the first run of a new level of the lab, if the latest runs and this one show one."""
    latest = list(takewhile(lambda run: run.only_canaries, reversed(runs)))[: limits.new_level - 1]
    if len(latest) < max(limits.new_level - 1, 1):
        return None
    rounds = [now, *(run.canaries for run in latest)]
    before = [run.canaries for run in usual]
    for measure, floor in ((_level, limits.canary_change), (_ratio, _DRIFT_FLOOR * limits.canary_change)):
        seen, known = ([_seen(canaries, measure) for canaries in some] for some in (rounds, before))
        if not _agree(seen, known, limits, floor):
            return None
    return latest[-1].run_id


def _seen(
    canaries: Sequence[NodeCanaries], measure: Callable[[NodeCanaries, str], float | None]
) -> dict[tuple[str, str], float]:
    """Return a number for each canary of each node of one run, where there is one."""
    names = [(node, name) for node in canaries for name in {*node.before, *node.after}]
    return {(node.node, name): value for node, name in names if (value := measure(node, name)) is not None}


def _agree(
    rounds: Sequence[Mapping[tuple[str, str], float]],
    before: Sequence[Mapping[tuple[str, str], float]],
    limits: ValidityLimits,
    floor: float,
) -> bool:
    """Say whether each canary differs between some runs by no more than is usual, relative to its level."""
    for which in rounds[0]:
        values = [one[which] for one in rounds if which in one]
        if len(values) < len(rounds):
            return False
        usual = _usual([one[which] for one in before if which in one], limits, floor=floor)
        share = usual.tolerance / usual.middle if usual and usual.middle > 0 else floor
        middle = median(values)
        if any(abs(value - middle) > share * middle for value in values):
            return False
    return True


def _shares(shares: Sequence[NodeShares], limits: ValidityLimits) -> Iterator[str]:
    for node in shares:
        if node.foreign > limits.foreign_cpu_share:
            yield (
                f"processes outside the lab used {node.foreign:.1%} of the CPU time of {node.node} "
                f"during the load; the limit is {limits.foreign_cpu_share:.1%}"
            )
        if node.steal > limits.steal_share:
            yield (
                f"the hypervisor took {node.steal:.1%} of the CPU time of {node.node} during the load; "
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
                f"{_CANARY}{canary} on {now.node} took {_seconds(level)}, usual is {_seconds(usual.middle)} "
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
            f"{_CANARY}{canary} on {now.node} changed by {ratio - 1:+.1%} from before to after the load, "
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
