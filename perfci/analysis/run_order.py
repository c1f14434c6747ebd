"""In which order two revisions are deployed, so that a lab that drifts harms both alike."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from perfci.analysis.sequential_test import Side

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

LONGEST = 2
"""Never more deployments of one side in a row, once both sides are needed."""


def next_deployment(done: Sequence[Side], wishes: Collection[Side]) -> Side | None:
    """Say which revision is deployed next; None when no trial wants another run.

    `done` are the deployments so far, `wishes` what each open trial wants next (`confirm.next_side`). As
    long as nobody needs the old revision, because the histories stand for it, the new one is run alone.
    Then most wishes win. Where they are even, and where one side has had two in a row, the order is that
    of blocks, ABBA ABBA: a lab that becomes slower evenly then adds the same to both sides (Cox 1951).
    """
    if not wishes:
        return None
    if Side.OLD not in (*done, *wishes):
        return Side.NEW
    if len(done) >= LONGEST and len(set(done[-LONGEST:])) == 1:
        return _other(done[-1])
    wanted = Counter(wishes)
    if wanted[Side.OLD] != wanted[Side.NEW]:
        return max(wanted, key=lambda side: wanted[side])
    run = Counter(done)
    if run[Side.OLD] == run[Side.NEW]:
        return done[-1] if done else Side.NEW
    return min(Side, key=lambda side: run[side])


def _other(side: Side) -> Side:
    return Side.NEW if side is Side.OLD else Side.OLD
