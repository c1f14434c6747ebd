"""The mail about a bisect: in the alert's thread, to the author only where that is wanted, harmless."""

from __future__ import annotations

import email
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from bisect_lab import alert, nights, services_on
from git_repositories import Landscape

from perfci.alerts.bisect_story import BisectRow, BisectStory
from perfci.changes.clones import Clones
from perfci.changes.merged import as_changes, merged_between
from perfci.results.model import Metric
from perfci.runs.jobs.model import Job
from perfci.runs.publish.notify import has_bisect, post_bisect
from perfci.runs.studies.bisect_course import BisectStep
from perfci.runs.studies.bisect_told import author_address

JOB = Job(
    name="tiny",
    cloud={"services": ["neutron"]},
    scenarios=({"task": "neutron-create-and-list-ports", "times": 28},),
    mail={"to": ["list@example.org"]},
)
HOSTILE = "<script>alert(1)</script>\r\nBcc: x@y.zz \x1b[31m\u202e" + "x" * 1_000_000


@pytest.fixture
def land(tmp_path):
    found = Landscape(tmp_path / "base")
    found.project("neutron", {"neutron/db/api.py": "VALUE = 0\n"})
    return found


def changed(land, subject="Slow it", author="Ada Example <ada@example.org>"):
    repo = land.repos["neutron"]
    before = repo.head
    land.change("neutron", {"neutron/db/api.py": "VALUE = 1\n"}, subject, author=author, trailer=False)
    return as_changes("neutron", merged_between(Clones(land.base).get("neutron"), before, repo.head))[0]


def told(land, tmp_path, change, **settings):
    services = services_on(land, tmp_path / "state", **settings)
    good = nights(services, JOB, land, number=2)
    bad = nights(services, JOB, land, number=1, factor=1.3, start=datetime(2026, 11, 30, tzinfo=UTC))
    alert(services, good, bad)
    (one,) = services.alerts.load().alerts
    story = BisectStory(
        title="alert 3f2a1b",
        job="tiny",
        series="list_ports in NeutronNetworks",
        metric=Metric.SECONDS,
        end="culprit",
        headline=f"{change.name} changed list_ports by +30 %",
        verdict=f"{change.name} “{change.subject}” made it 30 % slower.",
        command="perfci bisect 3f2a1b",
        culprits=(change,),
        proven=True,
        address=author_address([BisectStep(change, 1.0)], None),
        steps=(change.name,),
        culprit_at=1,
        rows=(
            BisectRow(0, "good end", "", 2, 0.4, 0.39, 0.41),
            BisectRow(1, change.name, change.subject, 2, 0.52, 0.51, 0.53),
            BisectRow(2, "left out", "", 0, None, None, None, note="it does not deploy"),
        ),
        remarks=("8 runs.",),
        runs=("20261201T021500Z-tiny-bisect-0001",),
    )
    return services, one, story


def letters(services):
    return [(one.recipients, email.message_from_string(one.message)) for one in services.outbox.letters()]


def test_it_is_in_the_thread_of_its_alert_and_goes_out_once(land, tmp_path):
    services, one, story = told(land, tmp_path, changed(land))
    assert not has_bisect(services, one)
    assert post_bisect(services, one, story)
    assert not post_bisect(services, one, story)
    assert has_bisect(services, one)
    ((to, message),) = letters(services)
    assert to == ("list@example.org",), "the author has not agreed"
    assert message["In-Reply-To"] == f"<regression-{one.id}@localhost>"
    assert message["Subject"].startswith("[perfci] tiny: neutron ")
    parts = {part.get_content_type() for part in message.walk()}
    assert {"text/plain", "text/html", "image/png"} <= parts


def test_authors_get_it_where_the_settings_say_so(land, tmp_path):
    services, one, story = told(land, tmp_path, changed(land), PERFCI_MAIL__AUTHORS="true")
    post_bisect(services, one, story)
    assert letters(services)[0][0] == ("list@example.org", "ada@example.org")


@pytest.mark.parametrize(
    "author",
    [
        "Ada Example <ada>",
        "OpenStack Proposal Bot <bot@example.org>",
        "Zuul <zuul@example.org>",
        "Eve <a b@c.dd>",
    ],
)
def test_who_has_no_address_or_is_no_person_gets_none(land, tmp_path, author):
    services, one, story = told(land, tmp_path, changed(land, author=author), PERFCI_MAIL__AUTHORS="true")
    post_bisect(services, one, story)
    assert letters(services)[0][0] == ("list@example.org",)


def test_what_is_not_proven_goes_to_no_author(land, tmp_path):
    services, one, story = told(land, tmp_path, changed(land), PERFCI_MAIL__AUTHORS="true")
    post_bisect(services, one, replace(story, proven=False))
    assert letters(services)[0][0] == ("list@example.org",)


def test_a_hostile_subject_is_one_harmless_line(land, tmp_path):
    services, one, story = told(land, tmp_path, changed(land, subject=HOSTILE))
    post_bisect(services, one, story)
    ((to, message),) = letters(services)
    assert to == ("list@example.org",)
    assert message["Bcc"] is None
    text = {part.get_content_type(): part.get_payload(decode=True) for part in message.walk()}
    assert b"<script>" not in text["text/html"]
    assert b"&lt;script&gt;" in text["text/html"]
    assert b"\x1b" not in text["text/plain"]
    assert len(text["text/plain"]) < 10_000
