"""Databases for tests: SQLite, and a real PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from programs import path_of, require

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def running_postgresql(*, durable: bool = False) -> Iterator[str]:
    """Start PostgreSQL on a socket of its own; give SQLAlchemy's URL. It does not run as root.

    What it has written lasts only where it is `durable`: tests are faster without.
    """
    require("initdb", "pg_ctl", "setpriv")
    folder = Path(tempfile.mkdtemp(prefix="perfci-pg-"))
    user: list[str] = []
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        user = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    data = folder / "data"

    def run(*command: str | Path) -> None:
        subprocess.run([*user, *command], cwd=folder, check=True, capture_output=True)

    try:
        run(path_of("initdb"), "-D", data, "-U", "perfci", "-A", "trust", "--no-sync")
        settings = f"-c listen_addresses= -c unix_socket_directories={folder} -c max_connections=50"
        settings += "" if durable else " -c fsync=off"
        control = [path_of("pg_ctl"), "-D", data, "-l", folder / "log", "-w"]
        run(*control, "-o", settings, "start")
        try:
            yield f"postgresql+psycopg://perfci@/postgres?host={folder}"
        finally:
            run(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Give SQLAlchemy's URL of a real server."""
    with running_postgresql() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give the URL of a database without any table, one of either kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/lab.db"
        return
    server: str = request.getfixturevalue("postgresql")
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with admin.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE one_test"))
    yield server.replace("/postgres?", "/one_test?")
    with admin.connect() as connection:
        connection.execute(sa.text("DROP DATABASE one_test WITH (FORCE)"))
