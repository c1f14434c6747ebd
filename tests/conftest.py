"""Nothing is left out silently: on a machine that was set up for the tests, a skipped one has failed."""

from __future__ import annotations

import os

import pytest

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
