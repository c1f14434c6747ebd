"""A night that is killed, or gets an error, at any write loses nothing: see kill_harness.

By default a few points of each kind of night are tried. PERFCI_KILL_EVERY=1 tries all 6,400, which takes about half
an hour on two cores (0.45 s of CPU time each).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).parent / "kill_harness.py"
EVERY = os.environ.get("PERFCI_KILL_EVERY", "60")


@pytest.mark.slow
@pytest.mark.timeout(3600 if EVERY == "1" else 900)
def test_whatever_happens_at_a_write_the_next_start_makes_it_good(tmp_path):
    done = subprocess.run(
        [sys.executable, str(HARNESS), str(tmp_path), "--every", EVERY],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["found"] == {}
    assert len(summary["writes"]) == 7
    assert min(summary["writes"].values()) > 100, "the points are no longer seen"
    assert summary["tried"] > 100
