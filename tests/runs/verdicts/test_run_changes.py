"""Between which revisions two runs lie, what came in between, and the code of one moment."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime

import pytest
from git_repositories import Landscape
from typer.testing import CliRunner

from perfci import config
from perfci.changes.errors import GitTooSlow, MomentInvalid, RepositoryMissing, RevisionUnknown
from perfci.changes.model import MergeOrder
from perfci.cli.main import app
from perfci.results.model import CodeUnderTest, RunRecord, ServiceRevision, Validity
from perfci.results.record import record_to_dict
from perfci.runs.jobs.model import Job
from perfci.runs.jobs.sources import Base, Source, Sources
from perfci.runs.verdicts.one_moment import at_one_moment
from perfci.runs.verdicts.repositories import repositories
from perfci.runs.verdicts.rerun_jobs import rerun_job
from perfci.runs.verdicts.run_changes import between_runs
from perfci.runs.verdicts.what_changed import changes_of

SERVICES = ("keystone", "placement", "glance", "nova", "neutron")


@pytest.fixture
def land(tmp_path):
    found = Landscape(tmp_path / "base")
    for name in ("nova", "neutron"):
        found.project(name).tag("29.0.0")
    return found


@pytest.fixture
def settings(land, tmp_path):
    return config.load(
        environ={"PERFCI_STATE_DIR": str(tmp_path / "state"), "PERFCI_GIT_BASE": str(land.base)}
    )


def run_of(number, *, step=None, versions=None, changes=(), **services):
    started = datetime(2026, 11, number, 2, 15, tzinfo=UTC)
    code = tuple(
        ServiceRevision(name, revision, "wheel" if "." in revision else "/mirror", revision, changes)
        for name, revision in services.items()
    )
    record = RunRecord(
        f"{started:%Y%m%dT%H%M%SZ}-nightly-{number:04x}", "embedded", "nightly", "embedded", started, started,
        "0123456789ab", CodeUnderTest("a" * 12, code), Validity(valid=True),
    )  # fmt: skip
    return {**record_to_dict(record), "versions": versions or {}, **({"step": step} if step else {})}


def test_steps_of_two_runs_order_what_came_in_between(land, settings):
    first = land.steps[-1]
    heads = {name: repo.head for name, repo in land.repos.items()}
    land.change("neutron", {"neutron/db/ports.py": "1\n"}, "List ports")
    land.change("nova", {"nova/tests/a.py": "1\n"}, "Test it")
    land.change("nova", {"nova/api/servers.py": "1\n"}, "Show servers")
    before = run_of(1, step=first, **heads)
    after = run_of(2, step=land.steps[-1], **{name: repo.head for name, repo in land.repos.items()})
    found = between_runs(repositories(settings), before, after)
    assert found.history.order is MergeOrder.STEPS
    assert {one.change.subject for one in found.suspects} == {"List ports", "Show servers"}
    assert found.summary == "3 changes, 2 suspects; left out: 1 (tests)"
    assert not found.product_is_out


def test_nothing_that_the_cloud_runs_is_said(land, settings):
    first = land.steps[-1]
    land.change("neutron", {"doc/ports.rst": "1\n"}, "Explain ports")
    heads = {name: repo.head for name, repo in land.repos.items()}
    found = between_runs(
        repositories(settings), run_of(1, step=first, **heads), run_of(2, step=land.steps[-1], **heads)
    )
    assert found.suspects == ()
    assert found.product_is_out
    assert (
        found.remarks[-1] == "Nothing that the cloud runs changed, so the code under test can't be the cause."
    )


def test_a_patch_on_top_is_no_reason_to_acquit(land, settings):
    heads = {name: repo.head for name, repo in land.repos.items()}
    step = land.steps[-1]
    found = between_runs(
        repositories(settings),
        run_of(1, step=step, **heads),
        run_of(2, step=step, changes=("x.patch@1",), **heads),
    )
    assert not found.product_is_out
    assert any("x.patch@1" in one for one in found.remarks)


def test_releases_are_their_tags(land, settings):
    land.change("neutron", {"neutron/db/ports.py": "1\n"}, "List ports")
    land.repos["neutron"].tag("29.0.1")
    before = run_of(1, nova="29.0.0", neutron="29.0.0")
    after = run_of(2, nova="29.0.0", neutron="29.0.1")
    found = between_runs(repositories(settings), before, after)
    assert [one.change.subject for one in found.suspects] == ["List ports"]
    assert found.history.order is MergeOrder.DATES


def test_a_release_without_a_tag_is_said(land, settings):
    before, after = run_of(1, nova="29.0.0"), run_of(2, nova="30.0.0")
    with pytest.raises(RevisionUnknown, match=r"30\.0\.0"):
        between_runs(repositories(settings), before, after)


def test_packages_that_moved_are_opened_and_keep_it_from_being_nobodys(land, settings):
    library = land.project("oslo.messaging", {"setup.cfg": "[metadata]\nname = oslo.messaging\n"})
    library.tag("1.0")
    land.change("oslo.messaging", {"oslo_messaging/a.py": "1\n"}, "Send twice")
    library.tag("1.1")
    heads = {name: land.repos[name].head for name in ("nova", "neutron")}
    before = run_of(1, versions={"oslo-messaging": "1.0", "six": "1"}, **heads)
    after = run_of(2, versions={"oslo-messaging": "1.1", "six": "2"}, **heads)
    found = between_runs(repositories(settings), before, after)
    assert [(one.package, len(one.changes)) for one in found.packages] == [("oslo-messaging", 1), ("six", 0)]
    assert not found.product_is_out
    assert "oslo-messaging 1.0 → 1.1; 1 change." in found.remarks


@pytest.fixture
def archived(land, settings, tmp_path):
    """Two archived runs, and the words that stand for them."""
    first = land.steps[-1]
    heads = {name: repo.head for name, repo in land.repos.items()}
    land.change("neutron", {"neutron/db/ports.py": "1\n"}, "<b>List</b> ports\x1b[2J", author="Eve <>")
    runs = [
        run_of(1, step=first, **heads),
        run_of(2, step=land.steps[-1], **{name: repo.head for name, repo in land.repos.items()}),
    ]
    archive = tmp_path / "state" / "archive"
    for one in runs:
        folder = archive / one["run_id"]
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(one))
    return archive, [one["run_id"] for one in runs]


def test_the_command_takes_runs_steps_and_dates(land, settings, archived, monkeypatch):
    monkeypatch.setenv("PERFCI_STATE_DIR", str(settings.state_dir))
    monkeypatch.setenv("PERFCI_GIT_BASE", str(settings.git_base))
    _, (old, new) = archived
    moment = datetime.fromtimestamp(land.now, UTC).isoformat()
    for ends in ([old, new], [old[:16], "last"], [land.steps[-2], land.steps[-1][:12]], [old, moment]):
        result = CliRunner().invoke(app, ["changes", *ends, "--json"])
        assert result.exit_code == 0, result.output
        (change,) = json.loads(result.stdout)["changes"]
        assert change["subject"] == "<b>List</b> ports [2J"
        assert (change["author"], change["address"]) == ("Eve", None)
        assert change["suspect"]
    result = CliRunner().invoke(app, ["changes", old, new, "--scenario", "NeutronNetworks.list_ports"])
    assert "<b>List</b> ports [2J" in result.output
    assert "\x1b" not in result.output
    assert "1 change, 1 suspect." in result.output


def test_the_command_says_what_is_wrong(settings, archived, monkeypatch):
    monkeypatch.setenv("PERFCI_STATE_DIR", str(settings.state_dir))
    monkeypatch.setenv("PERFCI_GIT_BASE", str(settings.git_base))
    _, (old, new) = archived
    for ends, error in (
        ([new, old], "StepsUnrelated"),
        ([old, "20990101T000000Z"], "RunNotFound"),
        ([old, "someday"], "MomentInvalid"),
    ):
        result = CliRunner().invoke(app, ["changes", *ends, "--json"])
        assert result.exit_code == 2
        assert json.loads(result.stdout)["error"] == error
    monkeypatch.delenv("PERFCI_GIT_BASE")
    result = CliRunner().invoke(app, ["changes", old, new, "--json"])
    assert json.loads(result.stdout)["error"] == "RepositoryMissing"


def test_runs_of_another_archive_are_not_needed_for_two_steps(land, settings, tmp_path):
    assert changes_of(settings, tmp_path / "none", land.steps[0], "master").history.changes


def job(**sources):
    return Job(name="tiny", sources=Sources(**sources), scenarios=({"task": "ports", "times": 1},))


@pytest.fixture
def whole(land):
    for name in SERVICES:
        if name not in land.repos:
            land.project(name)
    return land


def test_all_is_the_commit_of_every_service(whole, settings):
    land = whole
    before = {name: repo.head for name, repo in land.repos.items()}
    step, at = land.steps[-1], land.now
    land.tick(86_400)
    land.change("nova", {"a.py": "1\n"}, "Later")
    for word in (step, step[:10], datetime.fromtimestamp(at, UTC).isoformat()):
        found, told = at_one_moment(job(all=word), settings)
        assert told == step
        assert {name: getattr(found.sources, name).ref for name in SERVICES} == before
        assert found.sources.all is None
    found, told = at_one_moment(job(all="master"), settings)
    assert told == land.steps[-1]
    assert found.sources.nova == Source(
        git=str(land.base / "openstack" / "nova"), ref=land.repos["nova"].head
    )


def test_what_is_named_beside_all_stays(whole, settings):
    one = job(all="master", nova=Source(version="33.0.0"), neutron=Source(patches=("mine.patch",)))
    found, _ = at_one_moment(one, settings)
    assert found.sources.nova == Source(version="33.0.0")
    assert found.sources.neutron.patches == ("mine.patch",)
    assert found.sources.neutron.ref == whole.repos["neutron"].head


def test_the_base_of_an_upgrade_has_a_moment_of_its_own(whole, settings):
    step = whole.steps[-1]
    whole.change("nova", {"a.py": "1\n"}, "Later")
    one = Job.model_construct(**{**dict(job(all="master")), "base": Base(all=step)})
    found, told = at_one_moment(one, settings)
    assert told == whole.steps[-1]
    assert found.base.nova.ref != found.sources.nova.ref


def test_without_all_nothing_is_asked(tmp_path):
    one = job(nova=Source(version="33.0.0"))
    assert at_one_moment(one, config.load(environ={"PERFCI_STATE_DIR": str(tmp_path)})) == (one, None)


@pytest.mark.parametrize(
    ("word", "error"),
    [("nothing", MomentInvalid), ("f" * 40, RevisionUnknown), ("nova=master", MomentInvalid)],
)
def test_a_moment_that_is_none(whole, settings, word, error):
    with pytest.raises(error):
        at_one_moment(job(all=word), settings)


def test_a_service_that_is_not_there_then(land, settings):
    with pytest.raises(MomentInvalid, match="keystone is not in openstack/openstack then"):
        at_one_moment(job(all="master"), settings)


def test_without_git_base(tmp_path):
    with pytest.raises(RepositoryMissing, match="not set"):
        at_one_moment(job(all="master"), config.load(environ={"PERFCI_STATE_DIR": str(tmp_path)}))


def test_a_server_is_copied_and_a_hanging_one_is_said(whole, tmp_path):
    environ = {"PERFCI_STATE_DIR": str(tmp_path / "s"), "PERFCI_GIT_BASE": f"file://{whole.base}"}
    found, told = at_one_moment(job(all="master"), config.load(environ=environ))
    assert told == whole.steps[-1]
    assert found.sources.nova.git == f"file://{whole.base}/openstack/nova"

    with socket.create_server(("127.0.0.1", 0)) as server:
        environ |= {
            "PERFCI_GIT_BASE": f"git://127.0.0.1:{server.getsockname()[1]}",
            "PERFCI_GIT_SECONDS": "1",
        }
        with pytest.raises(GitTooSlow):
            at_one_moment(
                job(all="master"), config.load(environ={**environ, "PERFCI_STATE_DIR": str(tmp_path / "t")})
            )


def test_a_rerun_has_the_commits_and_no_moment():
    one = job(all="master")
    code = (ServiceRevision("nova", "34.0.0", "/mirror/nova", "1" * 40),)
    again = rerun_job(one, one, code, range(0))
    assert again.sources.all is None
    assert again.sources.nova == Source(git="/mirror/nova", ref="1" * 40)
