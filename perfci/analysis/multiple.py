"""Many series a night: how many of the reported changes may be false."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def q_values(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Benjamini-Hochberg adjusted p-values, in the order given.

    Reporting all with q <= a keeps the expected share of false ones at or below a, when the p-values
    are independent or positively dependent (Benjamini & Hochberg 1995; Benjamini & Yekutieli 2001).
    """
    order = np.argsort(p_values, kind="stable")
    ranks = np.arange(1, p_values.size + 1)
    stepped = np.minimum.accumulate((p_values[order] * p_values.size / ranks)[::-1])[::-1]
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
