"""Whatever others hand over ends in a clear error or a result: no traceback, and no more memory than the file."""

from __future__ import annotations

import resource

import foreign_files
import pytest

INPUTS = 150
"""Of each kind; `benchmarks/fuzz.py` runs as many as you like."""


@pytest.mark.parametrize("target", foreign_files.TARGETS)
def test_damaged_files_end_in_a_clear_error_or_a_result(target, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(INPUTS):
        try:
            foreign_files.run(target, tmp_path, seed)
        except Exception as error:
            error.add_note(f"python benchmarks/fuzz.py --only {target!r} --seed {seed} --inputs 1")
            raise
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024, "more than 300 MiB"
