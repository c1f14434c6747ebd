"""Names of labs, jobs and runs, and of the files that are made from them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfci import names
from perfci.results.errors import ArchiveError
from perfci.results.model import CodeUnderTest, RunRecord, Validity
from perfci.results.record import record_from_dict, record_to_dict
from perfci.runs.state.run_folder import new_run_id, utc_now

LABS, JOBS = st.from_regex(names.LAB, fullmatch=True), st.from_regex(names.JOB, fullmatch=True)


@given(one=st.tuples(LABS, JOBS), other=st.tuples(LABS, JOBS))
def test_no_two_jobs_share_a_file(one, other):
    assert (names.joined(*one) == names.joined(*other)) == (one == other)


def test_a_dash_may_be_part_of_either_name():
    assert names.joined("embedded", "demo-nightly") != names.joined("embedded-demo", "nightly")


@pytest.mark.parametrize("name", ["run_id", "lab", "job"])
@pytest.mark.parametrize(
    "value", ["/../../x", "..", ".", "a/b", "a\\b", "a b", "", "a\n", "-a", "ä", "a" * 101]
)
def test_a_name_that_would_leave_its_folder_comes_in_nowhere(name, value):
    now = utc_now()
    record = RunRecord(
        run_id=new_run_id("nightly", now),
        lab="embedded",
        job="nightly",
        cloud="embedded",
        started_at=now,
        finished_at=now,
        environment="0123456789ab",
        code=CodeUnderTest("aaaaaaaaaaaa", ()),
        validity=Validity(valid=True),
    )
    written = record_to_dict(record)
    assert record_from_dict(written) == record
    with pytest.raises(ArchiveError, match=name):
        record_from_dict({**written, name: value})
    if name == "run_id":
        assert not names.is_run_id(value)
