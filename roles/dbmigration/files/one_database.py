"""Fill one database and migrate it revision by revision, once for each size.

usage: one_database.py REQUEST (JSON, see migrations.py). Each size runs in a fork of this process, which has
loaded the service's code; one that fails or takes too long does not touch the others. After each size its
part of phases.json is written to the folder that the request names.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from facts import FACTS
from rows import Facts, Generator
from server import Server, growth
from services import SERVICES
from walk import Walk, heads

if TYPE_CHECKING:
    from services import Service

TOTAL = "total"
_DIGITS = 12


class NotMigrated(Exception):
    """The data migrations could not do all of their work."""


class Migration:
    """One database of one size."""

    def __init__(self, request: dict[str, Any], service: Service, size: int) -> None:
        self.request, self.service, self.size = request, service, size
        self.database: str = request["database"]
        self.server = Server(request["client"])
        self.walk = Walk(service.alembic)
        self.engine = sa.create_engine(
            "mysql+pymysql://",
            connect_args={
                "read_default_file": request["client"],
                "database": self.database,
                "charset": "utf8mb4",
            },
            poolclass=sa.NullPool,
        )

    def part(self) -> dict[str, Any]:
        """Do all of it, and return the part of phases.json."""
        self.server.recreate(self.database)
        arguments = self._donated() if self.request["dump"] else self._seeded()
        # What was written settles, and the sampler of the counters takes a sample that is not of the load.
        time.sleep(self.request["settle_seconds"])
        began = time.time()
        phases = list(self._phases())
        return {
            "slug": f"{self.database}-{self.size}",
            "scenario": f"DbMigration.{self.database}.{self.size}",
            "arguments": {"database": self.database, "size": self.size, **arguments},
            "status": "finished",
            "started_at": began,
            "finished_at": time.time(),
            "phases": [*phases, {"action": TOTAL, "at": began, "values": _sum(phases)}],
        }

    def _seeded(self) -> dict[str, Any]:
        """Make the schema to start with, and fill it; return what makes this comparable."""
        start = tuple(self.request["start"]) or self.walk.first()
        self._start_with(start)
        rows = self._fill(self.request["tables"])
        return {
            "start": sorted(start),
            "seed": self.request["seed"],
            "deleted": self.request["deleted"],
            "rows": rows,
        }

    def _donated(self) -> dict[str, Any]:
        """Load the dump; return its digest."""
        dump = Path(self.request["dump"])
        self.server.restore(self.database, dump)
        with dump.open("rb") as source:
            return {"dump": hashlib.file_digest(source, "sha256").hexdigest()[:_DIGITS]}

    def _start_with(self, start: tuple[str, ...]) -> None:
        """Bring the empty database to some revisions. The schema is kept as a dump: this takes its time."""
        name = hashlib.sha256("\n".join(sorted(start)).encode()).hexdigest()[:_DIGITS]
        kept = Path(self.request["schemas"]) / f"{self.database}-{name}.sql"
        if kept.exists():
            self.server.restore(self.database, kept)
            return
        for step in self.walk.steps((), start):
            self.walk.carry_out(step)
        self.server.dump(self.database, kept)

    def _fill(self, tables: dict[str, float]) -> dict[str, int]:
        metadata = sa.MetaData()
        metadata.reflect(bind=self.engine)
        facts = FACTS.get(self.database, Facts())
        generator = Generator(metadata, facts, seed=self.request["seed"], deleted=self.request["deleted"])
        with self.engine.connect() as connection:
            return generator.fill(connection, generator.plan(tables, self.size))

    def _phases(self) -> Any:
        with self.engine.connect() as connection:
            present = heads(connection)
        for step in self.walk.steps(present):
            before = self.server.counts()
            at, seconds = self.walk.carry_out(step)
            yield self._phase(step.name, at, seconds, before)
        if self.service.online is not None:
            before, at, clock = self.server.counts(), time.time(), time.perf_counter()
            status = self.service.online()
            if status:
                raise NotMigrated(
                    f"the online data migrations ended with {status}; their output is in the log"
                )
            yield self._phase("online_data_migrations", at, time.perf_counter() - clock, before)

    def _phase(self, name: str, at: float, seconds: float, before: dict[str, float]) -> dict[str, Any]:
        used = growth(before, self.server.counts())
        print(f"{self.database} {self.size}: {name} {seconds:.3f} s", flush=True)
        return {"action": f"{self.service.name}.{name}", "at": at, "values": {"seconds": seconds, **used}}


def _sum(phases: list[dict[str, Any]]) -> dict[str, float]:
    names = phases[0]["values"] if phases else {"seconds": 0.0}
    return {name: sum(phase["values"][name] for phase in phases) for name in names}


def crashed(request: dict[str, Any], size: int, error: str) -> dict[str, Any]:
    """Return the part of a database that was not migrated."""
    return {"slug": f"{request['database']}-{size}", "status": "crashed", "error": error}


def attempt(request: dict[str, Any], service: Service, size: int) -> None:
    """Migrate one size, whatever comes of it, and write its part."""
    os.setpgid(0, 0)
    try:
        part = Migration(request, service, size).part()
    except Exception as error:  # noqa: BLE001  whatever it is, the other sizes go on
        traceback.print_exc()
        part = crashed(request, size, f"{type(error).__name__}: {error}")
    write(Path(request["parts"]) / f"{request['database']}-{size}.json", part)


def write(path: Path, value: object) -> None:
    """Write JSON so that a reader, or a kill, never sees half of it."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value, indent=1), encoding="utf-8")
    partial.replace(path)


def main() -> int:
    """Return 0; what went wrong stands in the parts."""
    request = json.loads(sys.argv[1])
    service = SERVICES[request["database"]](request["config_files"])
    context = multiprocessing.get_context("fork")
    for size in request["sizes"]:
        worker = context.Process(target=attempt, args=(request, service, size))
        worker.start()
        worker.join(request["timeout_seconds"])
        if worker.is_alive() and worker.pid:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.join()
            problem = f"did not end within {request['timeout_seconds']} s and was ended"
            write(
                Path(request["parts"]) / f"{request['database']}-{size}.json", crashed(request, size, problem)
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
