"""For all tests: time decides none of them, and none is left out silently where everything is installed."""

from __future__ import annotations

import os

import hypothesis
import pytest
from postgresql_server import database_url, postgresql

__all__ = ["database_url", "postgresql"]

# How long an example takes depends on what else the machine does: no test is decided by that.
hypothesis.settings.register_profile("perfci", deadline=None)
hypothesis.settings.load_profile("perfci")

COMPLETE = "PERFCI_TESTS_COMPLETE"
"""Set by `make test` and `make test-virtual`, which install everything that the tests need."""
NEEDS_MORE = ("kvm", "devstack")


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
