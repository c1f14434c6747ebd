"""What a paired night measured, pair by pair, as its page shows it."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING

from perfci.analysis.pairs import paired_effect
from perfci.report.model import PairedRow, PairedView
from perfci.results.errors import ResultFileError
from perfci.results.model import TOTAL
from perfci.results.pairs import is_paired
from perfci.runs.state.digests import code_under_test

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from perfci.results.pairs import PairedSeries
    from perfci.runs.state.archived_run import ArchivedRun

_OVERLAID = 3
"""So many timings are shown with all their iterations on both sides."""


def pairs_shown(run: ArchivedRun) -> PairedView | None:
    """Return what a run measured in pairs; None where it has no reference, or its files can't be read."""
    if not is_paired(run.folder):
        return None
    try:
        paired = run.paired
        services = (run.document.get("reference") or {}).get("services", ())
        reference = code_under_test(services)
    except (ResultFileError, KeyError, TypeError):
        return None
    return PairedView(reference, tuple(_rows(paired.series)), paired.notes)


def _rows(series: Iterable[PairedSeries]) -> Iterator[PairedRow]:
    """Yield what can be told of each timing: the clearest first, whole iterations before their actions."""
    found = []
    for one in series:
        effect = paired_effect([one.differences])
        if effect is not None:
            found.append((abs(effect.log) / effect.error if effect.error else math.inf, one, effect))
    found.sort(key=lambda row: (row[1].key.action != TOTAL, -row[0], row[1].key))
    for place, (_, one, effect) in enumerate(found):
        old, new = (tuple(map(math.exp, logs)) for logs in (one.old_logs, one.new_logs))
        low, high = effect.interval()
        yield PairedRow(
            key=one.key,
            effect=math.expm1(effect.log),
            low=math.expm1(low),
            high=math.expm1(high),
            mde=effect.smallest_visible(),
            old=median(old),
            new=median(new),
            pairs=effect.pairs,
            dropped=one.dropped,
            old_values=old if place < _OVERLAID else (),
            new_values=new if place < _OVERLAID else (),
        )
