"""What the nights of kill_harness need not work out again at each of thousands of points.

Nothing that a night writes or reads is kept: only what depends on a path or a text alone.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from perfci.database import engine
from perfci.results.stores import local

if TYPE_CHECKING:
    import sqlalchemy as sa


def install() -> None:
    """Let this process, and what it forks, keep them."""
    _share_engines()
    # The same rules, in C.
    yaml.safe_load = lambda text: yaml.load(text, yaml.CSafeLoader)
    yaml.safe_dump = lambda data, stream=None, **options: yaml.dump(
        data, stream, Dumper=yaml.CSafeDumper, **options
    )


def _share_engines() -> None:
    """Compile each statement once: an engine has no connection of its own, and each connection is a new one."""
    made, local._engine = cache(engine._sqlite), cache(local._engine)

    def sqlite(url: sa.URL) -> sa.Engine:
        if url.database:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        return made(url)

    engine._sqlite = sqlite
