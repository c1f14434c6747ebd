"""An alembic environment, walked revision by revision."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import sqlalchemy as sa
    from alembic.config import Config


@dataclass(frozen=True)
class Step:
    """One revision: its name for people (`16f1fbcab42b_resolve_shadow_table_diffs`), alembic's own step."""

    name: str
    step: Any
    module: Any


class Walk:
    """The revisions of one service, which `config` describes."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.script = ScriptDirectory.from_config(config)

    def first(self) -> tuple[str, ...]:
        """Return the revisions that a chain begins with."""
        return tuple(sorted(self.script.get_bases()))

    def steps(self, heads: Sequence[str], target: str | Sequence[str] = "heads") -> Iterator[Step]:
        """Return the steps from some revisions to others, in the order in which alembic goes.

        This is what alembic's own command `upgrade` goes through, in one go.
        """
        wanted = target if isinstance(target, str) else tuple(target)
        upgrade: Any = self.script._upgrade_revs  # noqa: SLF001 - it takes more than its types say
        for step in upgrade(wanted, tuple(heads)):
            revision = step.revision
            slug = revision.path.rpartition("/")[2].removesuffix(".py")
            name = slug if slug.startswith(revision.revision) else f"{revision.revision}_{slug}"
            yield Step(name, step, revision.module)

    def carry_out(self, step: Step) -> tuple[float, float]:
        """Carry out one step; return when it began (seconds since the epoch) and how many seconds it took.

        The service's environment opens the connection before the clock starts; all else is in it.
        """
        began: list[tuple[float, float]] = []

        def only(_: Any, context: MigrationContext) -> list[Any]:
            began.append((time.time(), time.perf_counter()))
            if hasattr(step.module, "check_sanity"):  # neutron looks before it upgrades
                step.module.check_sanity(context.connection)
            return [step.step]

        revision = step.step.revision.revision
        with EnvironmentContext(self.config, self.script, fn=only, destination_rev=revision):
            self.script.run_env()
        (at, clock), *_ = began
        return at, time.perf_counter() - clock


def heads(connection: sa.Connection) -> tuple[str, ...]:
    """Return the revisions that a database is at."""
    return tuple(sorted(MigrationContext.configure(connection).get_current_heads()))
