"""What is kept of an alert's suspects, and how the pages show it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from site_data import alert

from perfci.alerts.mail_suspects import SuspectList
from perfci.changes.model import Change, Person
from perfci.changes.suspects import Suspect
from perfci.report.model import AlertSuspects, RunReport, SiteData
from perfci.report.site import write
from perfci.results.model import CodeUnderTest, RunRecord, ServiceRevision, Validity
from perfci.runs.publish.suspect_store import FOLDER, keep_suspects, kept_suspects

HOSTILE = "<script>alert(1)</script>"


def found():
    change = Change(
        "neutron", "c" * 40, "p" * 40, HOSTILE, Person('"><img src=x>', None), None,
        datetime(2026, 11, 1, tzinfo=UTC), ("a.py",), "https://review.example.org/1",
    )  # fmt: skip
    return SuspectList((Suspect(change, 0.75, 0),), ("3 changes, 1 suspect.",))


def test_what_is_kept_comes_back(tmp_path):
    keep_suspects(tmp_path, "3f2a", found())
    kept = kept_suspects(tmp_path, "3f2a")
    assert kept.rows[0].subject == HOSTILE
    assert kept.rows[0].share == 0.75
    assert kept.remarks == ("3 changes, 1 suspect.",)
    assert not kept.acquitted


@pytest.mark.parametrize("text", ["", "{", "[]", '{"suspects": [{"evil": 1}]}', "null"])
def test_garbage_is_as_good_as_nothing(tmp_path, text):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "3f2a.json").write_text(text)
    assert kept_suspects(tmp_path, "3f2a") is None
    assert kept_suspects(tmp_path, "../3f2a") is None
    assert kept_suspects(tmp_path, "other") is None


def test_no_name_leads_out_of_the_folder(tmp_path):
    keep_suspects(tmp_path / "state", "../../evil", found())
    assert not list(tmp_path.rglob("*.json"))


def report(number, *suspects):
    at = datetime(2026, 11, number, tzinfo=UTC)
    code = CodeUnderTest("a" * 12, (ServiceRevision("neutron", "1", "wheel", "1"),))
    record = RunRecord(
        f"{at:%Y%m%dT%H%M%SZ}-nightly-{number:04x}", "embedded", "nightly", "embedded", at, at, "0" * 12, code,
        Validity(valid=True),
    )  # fmt: skip
    return RunReport(record, suspects=suspects)


def test_the_pages_list_the_suspects_escaped_and_count_the_acquittals(tmp_path):
    keep_suspects(tmp_path, "3f2a", found())
    found_of = {"3f2a": kept_suspects(tmp_path, "3f2a"), "9b1c": AlertSuspects("9b1c", (), acquitted=True)}
    runs = tuple(report(number, one) for number, one in enumerate(found_of.values(), start=1))
    alerts = tuple(alert(id=name, suspects=one) for name, one in found_of.items())
    write(tmp_path / "site", SiteData(runs, (), alerts=alerts))
    assert HOSTILE not in "".join(path.read_text() for path in (tmp_path / "site" / "alerts").iterdir())
    pages = {path.name: path.read_text() for path in (tmp_path / "site" / "runs").glob("*.html")}
    first, second = (pages[f"{one.record.run_id}.html"] for one in runs)
    assert 'href="https://review.example.org/1"' in first
    assert "&lt;script&gt;" in first
    assert HOSTILE not in first
    assert "<img src=x" not in first
    assert "the code under test can't be the cause" in second.replace("&#39;", "'")
    index = " ".join((tmp_path / "site" / "index.html").read_text().split())
    assert "For 1 of the 2 alerts whose changes are known, nothing that the cloud runs has changed" in index
