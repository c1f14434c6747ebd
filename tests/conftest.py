"""For all tests: time decides none of them, and what is left out is counted or, where everything is installed, fails."""

from __future__ import annotations

import copy
import os
import re
import sqlite3
import sys
import threading
from collections import Counter, defaultdict
from pathlib import Path

import hypothesis
import pytest
from postgresql_server import database_url, postgresql
from programs import COMPLETE, require, undeclared

__all__ = ["database_url", "postgresql"]

# How long an example takes depends on what else the machine does: no test is decided by that.
hypothesis.settings.register_profile("perfci", deadline=None)
hypothesis.settings.load_profile("perfci")

PROJECT = Path(__file__).parents[1]
STANDARD_LIBRARY = str(Path(os.__file__).parent)
LONG_SECONDS = 30
"""Files that take longer are named at the end."""
NEEDS_MORE = ("kvm", "devstack")
"""Marks of tests that need what no set-up can install."""


def _started_by_us():
    """Tell whether the project's code starts a program; what libraries look for, they do without, too."""
    frame = sys._getframe(2)
    while frame and frame.f_code.co_filename.startswith((STANDARD_LIBRARY, "<")):
        frame = frame.f_back
    file = Path(frame.f_code.co_filename) if frame else Path()
    return file.is_relative_to(PROJECT) and "site-packages" not in file.parts


def _check_program(event, arguments):
    """Let no test start a program that no list has: the next fresh machine would lack it."""
    if event != "subprocess.Popen" or "PYTEST_CURRENT_TEST" not in os.environ or not _started_by_us():
        return
    executable, _, _, environment = arguments
    name = undeclared(os.fsdecode(executable), (environment or os.environ).get("PATH"))
    if name is not None:
        pytest.fail(f"{name} is started, and tests/programs.py does not say which package brings it")


sys.addaudithook(_check_program)


def pytest_make_parametrize_id(val, argname):
    """Name binary values after their argument: they may hold a time, and xdist wants the same names in each process."""
    if isinstance(val, bytes) and not (val.isascii() and val.decode("ascii").isprintable()):
        return argname
    return None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Where several processes share the files, begin with those that may take longest: each declares its `timeout`."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    limits = defaultdict(float)
    for item in items:
        mark = item.get_closest_marker("timeout")
        limits[item.path] = max(limits[item.path], mark.args[0] if mark else 0)
    items.sort(key=lambda item: -limits[item.path])


def pytest_collection_finish():
    """Do once what takes long and always gives the same, except in the tests of that."""
    if inventory := sys.modules.get("perfci.lab.inventory"):
        _list_once(inventory)
    if engine := sys.modules.get("perfci.database.engine"):
        _migrate_once(engine.Database)


def _migrate_once(database):
    """Let Alembic make the tables of a new SQLite file once; later ones get a copy of those."""
    migrate, made = database._migrate, sqlite3.connect(":memory:", check_same_thread=False)
    lock = threading.Lock()

    def migrate_once(self, connection):
        if connection.dialect.name != "sqlite" or "tests/database" in os.environ.get(
            "PYTEST_CURRENT_TEST", ""
        ):
            return migrate(self, connection)
        file = connection.connection.dbapi_connection
        with lock:
            if file.execute("SELECT 1 FROM sqlite_master").fetchone():
                return migrate(self, connection)
            if made.execute("SELECT 1 FROM sqlite_master").fetchone():
                return made.backup(file)
            migrate(self, connection)
            return file.backup(made)

    database._migrate = migrate_once


def _list_once(inventory):
    """Let Ansible say once what is in an inventory: that takes it a second."""
    listed, known = inventory._listed, {}

    def list_once(folder):
        """As `_listed`, except in the tests of that."""
        if "inventory" in os.environ.get("PYTEST_CURRENT_TEST", ""):
            return listed(folder)
        settings = tuple(
            sorted((name, text) for name, text in os.environ.items() if name.startswith("ANSIBLE"))
        )
        files = [path for path in (folder, *sorted(Path(folder).rglob("*"))) if path.is_file()]
        if any(path.stat().st_mode & 0o111 for path in files):
            return listed(folder)  # a program may say something else each time
        content = (settings, tuple((str(path.relative_to(folder)), path.read_bytes()) for path in files))
        if content not in known:
            known[content] = listed(folder)
        return copy.deepcopy(known[content])

    inventory._listed = list_once


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if item.get_closest_marker("needs_root") and os.geteuid() != 0:
        pytest.skip("needs root")
    require(*(program for mark in item.iter_markers("needs") for program in mark.args))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    left_out = report.skipped and not hasattr(report, "wasxfail")
    may = os.geteuid() != 0 or any(item.get_closest_marker(name) for name in NEEDS_MORE)
    if os.environ.get(COMPLETE) and left_out and not may:
        *_, reason = report.longrepr
        report.outcome = "failed"
        report.longrepr = f"left out, though `perfci setup --tests` has run here: {reason}"
    return report


def pytest_terminal_summary(terminalreporter):
    """Say which files took longest, and in one line how many tests were left out and why."""
    seconds = Counter()
    for report in (one for reports in terminalreporter.stats.values() for one in reports):
        if hasattr(report, "duration"):
            seconds[report.nodeid.partition("::")[0]] += report.duration
    for file, took in seconds.most_common(10):
        if took > LONG_SECONDS:
            terminalreporter.write_line(f"{took:.0f} s {file}")
    reports = terminalreporter.stats.get("skipped", [])
    reasons = Counter(re.sub(r"^Skipped: ", "", str(report.longrepr[-1])) for report in reports)
    if reasons:
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        number = "1 test was" if reasons.total() == 1 else f"{reasons.total()} tests were"
        terminalreporter.write_line(f"{number} left out: {why}", yellow=True)
