"""Fixtures for the tests of the analysis."""

from __future__ import annotations

import numpy as np
import pytest
from series import Histories


@pytest.fixture
def histories() -> Histories:
    return Histories(np.random.default_rng(20260101))
