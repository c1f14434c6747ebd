"""A lab whose calendar is in a database of either kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from perfci.database.engine import Database
from perfci.lab.reservations.checks import Policy
from perfci.lab.reservations.service import Reservations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from perfci.lab.model import Node

from calendars import PLAIN, Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def opened(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Callable[..., Reservations]:
    """What opens the calendar of a lab of three nodes."""
    url = f"sqlite:///{tmp_path}/lab.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql")
    database = Database(url)
    lab = f"lab-{tmp_path.name}"

    def reservations(nodes: tuple[Node, ...] = PLAIN, **policy: object) -> Reservations:
        return Reservations(database, lab, nodes, policy=Policy(**policy), clock=clock)

    return reservations


@pytest.fixture
def lab(opened: Callable[..., Reservations]) -> Reservations:
    return opened()
