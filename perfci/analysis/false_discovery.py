"""Many series, night after night: how many of the reported changes may be false."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def q_values(p_values: NDArray[np.float64], *, before: int = 0, nights: int = 1) -> NDArray[np.float64]:
    """Return the q-values of one night's tests, in the order given.

    Reporting all with q <= a is LOND (Javanmard & Montanari 2015) with a night as a batch and a memory of
    `nights` nights: of n tests the k smallest p-values are reported if

        p_(k) <= a (k + before) / (n nights)

    with `before` discoveries in the `nights` - 1 nights before. For each true null hypothesis
    E[reported / (k + before)] <= a / (n nights) (Blanchard & Roquain 2008, lemma 3.2, where the p-values
    are independent or positively dependent), so that over any `nights` nights the false discoveries, each as
    a share of the discoveries of its own last `nights` nights, add up to at most a. With `nights` = 1 it is
    the method of Benjamini & Hochberg 1995.
    """
    order = np.argsort(p_values, kind="stable")
    ranks = np.arange(1, p_values.size + 1)
    raw = p_values[order] * (p_values.size * nights) / (ranks + before)
    stepped = np.minimum.accumulate(raw[::-1])[::-1]
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(stepped, 1.0)
    out: NDArray[np.float64] = np.maximum(adjusted, p_values)
    return out


def threshold(rate: float, *, found: int, tests: int, before: int, nights: int) -> float:
    """Return the p-value up to which tonight reports at the false discovery rate `rate`.

    `found` of `tests` are reported tonight; where none is, it is what a single one would have needed.
    """
    return rate * (max(found, 1) + before) / (max(tests, 1) * nights)
