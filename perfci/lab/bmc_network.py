"""The network in which a lab's BMCs answer."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from perfci.lab.inventory import VIRTUAL
from perfci.lab.virtual.lab import inside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perfci.config import Settings


@contextmanager
def bmc_network(settings: Settings) -> Iterator[None]:
    """Be in it until the end of the block: in that of a virtual lab, otherwise where this process is.

    A database server on this machine may be out of reach meanwhile. Raises VirtualLabDown, RootNeeded.
    """
    if settings.lab == VIRTUAL:
        with inside(settings.state_dir):
            yield
    else:
        yield
