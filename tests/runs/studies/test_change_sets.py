"""What `perfci try` puts on a job: revisions, folders, patches, pins and options; and what it refuses."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from git_repositories import Landscape, git
from made_up_nights import Killed, MadeUpNights
from typer.testing import CliRunner

from perfci import config
from perfci.cli.main import app
from perfci.runs.ansible.lab_playbooks import CONSTRAINTS_VARIABLE
from perfci.runs.jobs.model import Job
from perfci.runs.state.progress import Silent
from perfci.runs.studies import change_sets
from perfci.runs.studies import compare as comparing
from perfci.runs.studies.change_sets import ChangeInvalid, installed_part, sides_of
from perfci.runs.studies.compare import compare_jobs
from perfci.runs.studies.try_change import limited, review_text
from perfci.runs.verdicts.lab_services import LabServices

PATCH = """From 1f2e Mon Sep 17 00:00:00 2001
Subject: [PATCH] Slow it

diff --git a/neutron/db/ports.py b/neutron/db/ports.py
--- a/neutron/db/ports.py
+++ b/neutron/db/ports.py
@@ -1 +1 @@
-1
+2
diff --git a/doc/source/ports.rst b/doc/source/ports.rst
--- a/doc/source/ports.rst
+++ b/doc/source/ports.rst
@@ -1 +1 @@
-a
+b
diff --git a/releasenotes/notes/x.yaml b/releasenotes/notes/x.yaml
new file mode 100644
--- /dev/null
+++ b/releasenotes/notes/x.yaml
@@ -0,0 +1 @@
+x
"""


@pytest.fixture
def land(tmp_path):
    found = Landscape(tmp_path / "base")
    found.project("neutron", {"neutron/db/ports.py": "1\n"})
    return found


@pytest.fixture
def settings(land, tmp_path):
    return config.load(
        environ={"PERFCI_STATE_DIR": str(tmp_path / "state"), "PERFCI_GIT_BASE": str(land.base)}
    )


def job(**fields):
    return Job(
        name="tiny", scenarios=({"task": "ports", "times": 4}, {"task": "servers", "times": 4}), **fields
    )


def on_neutron(land, ref="master"):
    return job(sources={"neutron": {"git": str(land.repos["neutron"].folder), "ref": ref}})


def neutron(sides):
    return sides.old.sources.neutron, sides.new.sources.neutron


def test_a_change_is_compared_with_what_it_was_made_on(land, settings):
    parent = land.repos["neutron"].head
    change = land.repos["neutron"].commit(
        "Mine", {"a.py": "1\n"}, land.tick(), ref="refs/changes/12/960012/3"
    )
    old, new = neutron(sides_of(settings, job(), changes=["neutron=refs/changes/12/960012/3"]))
    assert (old.ref, new.ref) == (parent, change)
    assert old.git == new.git == str(land.base / "openstack" / "neutron")


def test_a_branch_of_several_commits_is_compared_with_where_it_left_the_jobs(land, settings):
    repo = land.repos["neutron"]
    base = repo.head
    one = repo.commit("One", {"a.py": "1\n"}, land.tick(), ref="refs/heads/mine")
    two = repo.commit("Two", {"a.py": "2\n"}, land.tick(), parents=[one], ref="refs/heads/mine")
    land.change("neutron", {"b.py": "1\n"}, "Meanwhile")
    sides = sides_of(settings, on_neutron(land), changes=["neutron=mine"])
    assert [one.ref for one in neutron(sides)] == [base, two]
    assert any("not on top of the job's neutron" in one for one in sides.notes)


def test_branches_of_the_job_become_commits(land, settings, tmp_path):
    patch = tmp_path / "mine.patch"
    patch.write_text(PATCH)
    old, new = neutron(sides_of(settings, on_neutron(land), changes=[f"neutron={patch}"]))
    assert old.ref == new.ref == land.repos["neutron"].head


def test_a_folder_is_its_commit(land, settings, tmp_path):
    folder = tmp_path / "work"
    git(tmp_path, "clone", "--quiet", str(land.repos["neutron"].folder), str(folder))
    (folder / "a.py").write_text("1\n")
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=A", "-c", "user.email=a@b", "commit", "--quiet", "-m", "Mine")
    old, new = neutron(sides_of(settings, job(), changes=[f"neutron={folder}"]))
    assert new.git == str(folder)
    assert old.ref == land.repos["neutron"].head
    (folder / "a.py").write_text("2\n")
    with pytest.raises(ChangeInvalid, match="not committed"):
        sides_of(settings, job(), changes=[f"neutron={folder}"])


def test_a_patch_is_kept_under_its_digest_without_what_is_not_installed(settings, tmp_path):
    patch = tmp_path / "mine.patch"
    patch.write_text(PATCH)
    sides = sides_of(settings, job(), changes=[f"neutron={patch}"])
    old, new = neutron(sides)
    assert old is None
    kept = Path(new.patches[0])
    assert kept.is_relative_to(settings.state_dir)
    assert "neutron/db/ports.py" in kept.read_text()
    assert "ports.rst" not in kept.read_text()
    assert any("doc/source/ports.rst, releasenotes/notes/x.yaml" in one for one in sides.notes)
    patch.write_text(PATCH.replace("+2", "+3"))
    assert sides_of(settings, job(), changes=[f"neutron={patch}"]).new.sources.neutron.patches[0] != str(kept)


def test_a_patch_that_is_not_gits_stays_whole():
    plain = "--- a/neutron/a.py\n+++ b/neutron/a.py\n@@ -1 +1 @@\n-1\n+2\n"
    assert installed_part(plain, "neutron") == (plain, ())


def test_pins(settings, monkeypatch):
    monkeypatch.setattr(change_sets, "check", lambda *_: None)
    sides = sides_of(settings, job(), changes=["neutron==34.0.0", "oslo.messaging==99.0.0"])
    assert sides.new.sources.neutron.version == "34.0.0"
    assert sides.old.sources.neutron is None
    assert CONSTRAINTS_VARIABLE not in sides.old.cloud.variables
    assert "==99.0.0" in Path(sides.new.cloud.variables[CONSTRAINTS_VARIABLE]).read_text()


def test_options_of_both_sides(settings):
    sides = sides_of(
        settings,
        job(cloud={"variables": {"nova_options": {"api": {"max_limit": "5"}}}}),
        options=[
            "nova:DEFAULT.concurrency_backend=eventlet",
            "nova:oslo_messaging_rabbit.rpc_conn_pool_size=9",
        ],
        against=["nova:DEFAULT.concurrency_backend=threading"],
    )
    assert sides.new.cloud.variables["nova_options"] == {
        "api": {"max_limit": "5"},
        "DEFAULT": {"concurrency_backend": "eventlet"},
        "oslo_messaging_rabbit": {"rpc_conn_pool_size": "9"},
    }
    assert sides.old.cloud.variables["nova_options"]["DEFAULT"] == {"concurrency_backend": "threading"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("neutron", "the name has no value"),
        ("neutron=", "the name has no value"),
        ("neutrn=master", "did you mean 'neutron'"),
        ("neutron=nothing", "no revision 'nothing'"),
        ("neutron=--upload-pack=x", "no revision"),
        ("neutron=missing.patch", "no such file"),
        ("neutron=/tmp", "not a git repository"),
    ],
)
def test_what_can_not_be_tried(settings, change, reason):
    with pytest.raises(ChangeInvalid, match=reason):
        sides_of(settings, job(), changes=[change])


@pytest.mark.parametrize(
    "option", ["nova", "nova:DEFAULT=1", "nova:DEFAULT.a", "cinder:DEFAULT.a=1", "nova:DEFAULT.a=1\n[x]"]
)
def test_what_is_no_option(settings, option):
    with pytest.raises(ChangeInvalid):
        sides_of(settings, job(), options=[option])


def test_a_patch_of_documents_alone_is_refused(settings, tmp_path):
    patch = tmp_path / "docs.patch"
    patch.write_text(
        "diff --git a/doc/a.rst b/doc/a.rst\n--- a/doc/a.rst\n+++ b/doc/a.rst\n@@ -1 +1 @@\n-a\n+b\n"
    )
    with pytest.raises(ChangeInvalid, match="nothing that is installed"):
        sides_of(settings, job(), changes=[f"neutron={patch}"])


def test_two_equal_sides_are_refused(settings):
    with pytest.raises(ChangeInvalid, match="the same"):
        sides_of(settings, job())


def test_a_job_is_cut_to_what_is_asked_for():
    cut = limited(job(), scenarios=["ports"], budget=timedelta(minutes=40), runs=6)
    assert [one.task for one in cut.scenarios] == ["ports"]
    assert (cut.analysis.confirm.most_minutes, cut.analysis.confirm.most_runs) == (40, 6)
    with pytest.raises(ChangeInvalid, match="did you mean 'ports'"):
        limited(job(), scenarios=["port"], budget=None, runs=None)


@pytest.fixture
def controller(settings):
    return LabServices(settings)


def test_both_sides_run_in_turns_and_a_killed_try_goes_on(land, controller, settings, monkeypatch):
    change = land.repos["neutron"].commit("Mine", {"a.py": "1\n"}, land.tick(), ref="refs/heads/mine")
    tried = limited(job(), scenarios=["ports"], budget=None, runs=6)
    nights = MadeUpNights(controller.state.archive, kill_at=4)
    monkeypatch.setattr(comparing, "night", nights)

    def run():
        sides = sides_of(settings, tried, changes=["neutron=mine"])
        return compare_jobs(
            controller, tried, old=sides.old, new=sides.new, holder="tester", progress=Silent()
        )

    with pytest.raises(Killed):
        run()
    assert len(nights.jobs) == 3
    found = run()
    assert len(found.runs) == len(nights.jobs)
    assert not found.slower
    refs = [one.sources.neutron.ref for one in nights.jobs]
    assert {*refs} == {change, land.repos["neutron"].head}
    assert {one.name for one in nights.jobs} == {"tiny-compare"}
    text = review_text(found, ["old side: neutron 1"])
    assert text.startswith("perfci: ")
    assert "old side: neutron 1" in text


def test_the_command(land, settings, monkeypatch, tmp_path):
    land.repos["neutron"].commit("Mine", {"a.py": "1\n"}, land.tick(), ref="refs/heads/mine")
    monkeypatch.setenv("PERFCI_STATE_DIR", str(settings.state_dir))
    monkeypatch.setenv("PERFCI_GIT_BASE", str(settings.git_base))
    file = tmp_path / "tiny.yml"
    file.write_text("name: tiny\nscenarios: [{task: neutron-create-and-delete-ports, times: 4}]\n")
    monkeypatch.setattr(comparing, "night", MadeUpNights(LabServices(settings).state.archive))
    result = CliRunner().invoke(
        app, ["try", str(file), "--change", "neutron=mine", "--runs", "4", "--in-turns", "--json"]
    )
    document = json.loads(result.stdout)
    assert "error" not in document, document
    assert len(document["runs"]) <= 4
    assert document["notes"]
    verdicts = {one["verdict"] for one in document["scenarios"]}
    assert result.exit_code == (3 if "unknown" in verdicts else 0)
    result = CliRunner().invoke(app, ["try", str(file), "--change", "neutron=nothing", "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"] == "ChangeInvalid"
