"""MariaDB as the administrator sees it: empty databases, dumps, and how many rows and pages were touched."""

from __future__ import annotations

import contextlib
import gzip
import subprocess
from typing import TYPE_CHECKING

import pymysql

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_READ = ("first", "key", "last", "next", "prev", "rnd", "rnd_next")
COUNTED = {
    **{f"Handler_read_{how}": "rows_read" for how in _READ},
    **{f"Handler_{how}": "rows_changed" for how in ("write", "update", "delete")},
    "Innodb_buffer_pool_read_requests": "pages_read",
}
"""What counts as which metric. MariaDB has no Innodb_rows_* any more."""
_QUERY = f"SHOW GLOBAL STATUS WHERE Variable_name IN {tuple(COUNTED)!r}"
_TAIL = 2000


class ServerError(Exception):
    """A program of MariaDB failed; says what it said."""


class Server:
    """One MariaDB, reached with a file of options (`client.cnf`)."""

    def __init__(self, options: str) -> None:
        self.options = options

    def counts(self) -> dict[str, float]:
        """Return the counters since the server started, by metric. Asking is counted: see `growth`."""
        found = dict.fromkeys(COUNTED.values(), 0.0)
        for name, value in self._ask(_QUERY):
            found[COUNTED[name]] += float(value)
        return found

    def recreate(self, database: str) -> None:
        """Make a database anew, as roles/mariadb makes it; the rights of its user stay."""
        self._ask(f"DROP DATABASE IF EXISTS {database}")
        self._ask(f"CREATE DATABASE {database} CHARACTER SET utf8mb3")

    def restore(self, database: str, dump: Path) -> None:
        """Load an SQL dump, packed or not. Raises ServerError."""
        with (
            gzip.open(dump) if dump.suffix == ".gz" else dump.open("rb") as source,
            subprocess.Popen(
                ["mariadb", f"--defaults-extra-file={self.options}", database],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            ) as client,
        ):
            with contextlib.suppress(BrokenPipeError):  # it says why below
                while client.stdin and (block := source.read(2**20)):
                    client.stdin.write(block)
            said = client.communicate()[1]
        if client.returncode:
            raise ServerError(f"{dump.name} could not be loaded: {said.decode(errors='replace')[-_TAIL:]}")

    def dump(self, database: str, target: Path) -> None:
        """Write a database down; the file appears whole or not at all. Raises ServerError."""
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}.unfinished")
        options = [f"--defaults-extra-file={self.options}", "--single-transaction", "--triggers"]
        done = subprocess.run(
            ["mariadb-dump", *options, f"--result-file={unfinished}", database],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise ServerError(
                f"{database} could not be dumped: {done.stderr.decode(errors='replace')[-_TAIL:]}"
            )
        unfinished.replace(target)

    def _ask(self, query: str) -> list[tuple[str, str]]:
        connection = pymysql.connect(read_default_file=self.options, autocommit=True)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query)
                return list(cursor.fetchall())
        finally:
            connection.close()


def growth(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return by how much each counter has grown, without what asking for it took.

    The server reads the rows of its answer, and finds their end.
    """
    asking = {"rows_read": len(COUNTED) + 1.0}
    return {name: max(0.0, after[name] - before[name] - asking.get(name, 0.0)) for name in before}
