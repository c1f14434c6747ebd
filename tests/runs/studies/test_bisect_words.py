"""`perfci bisect JOB GOOD BAD`, the way into a library behind a pin, and the command itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bisect_lab import TASK, BisectLab, carries_two, services_on
from git_repositories import Landscape, git
from typer.testing import CliRunner

from perfci.changes.errors import MomentInvalid, RevisionUnknown
from perfci.cli.main import app
from perfci.results.model import Metric
from perfci.runs.state.progress import Silent
from perfci.runs.studies import bisect as bisecting
from perfci.runs.studies.bisect import bisect
from perfci.runs.studies.bisect_course import pins_moved
from perfci.runs.studies.bisect_question import BisectImpossible, of_words
from perfci.runs.studies.bisect_told import story_of
from perfci.runs.studies.pins import ROLE

JOB = f"""name: tiny
cloud: {{services: [keystone, neutron]}}
sources: {{all: master}}
scenarios:
  - {{task: {TASK}, times: 28}}
"""
PINS = "oslo.db==1.0\nother==3.0\n"


@pytest.fixture
def land(tmp_path):
    found = Landscape(tmp_path / "base")
    for name in ("keystone", "neutron"):
        found.project(name, {f"{name}/db/api.py": "VALUE = 0\n"})
    found.project("requirements", {"upper-constraints.txt": "oslo.db===1.0\n"})
    return found


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    (folder / ROLE / "files").mkdir(parents=True)
    (folder / ROLE / "defaults").mkdir()
    (folder / ROLE / "files/constraints.txt").write_text(PINS)
    (folder / ROLE / "defaults/main.yml").write_text("openstack_code_requirements: [uwsgi]\n")
    (folder / "jobs/tasks").mkdir(parents=True)
    (folder / "jobs/tiny.yml").write_text(JOB)
    (folder / f"jobs/tasks/{TASK}.yml.j2").write_text("{}\n")
    (folder / "inventory").symlink_to(Path(__file__).parents[3] / "inventory")
    return folder


@pytest.fixture
def services(land, tmp_path, root, monkeypatch):
    carries_two(monkeypatch, yes=False)
    return services_on(land, tmp_path / "state", PERFCI_ROOT_DIR=str(root))


def merge(land, number=6):
    return [
        land.change(name, {f"{name}/db/part{index}.py": f"VALUE = {index}\n"}, f"Change {index}")
        for index in range(number)
        for name in (("keystone", "neutron")[index % 2],)
    ]


def measured(services, lab, monkeypatch, good, bad, **options):
    monkeypatch.setattr(bisecting, "night", lab)
    question = of_words(services, "tiny", good, bad, **options)
    return bisect(services, question, holder="tester", progress=Silent())


def test_between_two_steps(land, services, monkeypatch):
    good = land.steps[-1]
    commits = merge(land)
    lab = BisectLab(land, services, {commits[3]: 1.3})
    found = measured(services, lab, monkeypatch, good, land.steps[-1])
    assert [one.commit for one in story_of(found).culprits] == [commits[3]]
    assert found.result.reverted
    assert found.asked.command == f"perfci bisect tiny {good} {land.steps[-1]}"


def test_between_revisions_whose_order_only_dates_tell(land, services, monkeypatch):
    good = {name: land.repos[name].head for name in ("keystone", "neutron")}
    commits = merge(land)
    bad = {name: land.repos[name].head for name in ("keystone", "neutron")}
    lab = BisectLab(land, services, {commits[2]: 1.3})
    ends = [",".join(f"{name}={commit}" for name, commit in one.items()) for one in (good, bad)]
    found = measured(services, lab, monkeypatch, *ends)
    assert [one.commit for one in story_of(found).culprits] == [commits[2]]


@pytest.mark.parametrize("paired", [False, True])
def test_a_change_of_pins_is_opened_down_to_the_change_of_the_library(land, services, monkeypatch, paired):
    carries_two(monkeypatch, yes=paired)
    library = land.project("oslo.db", {"oslo_db/api.py": "VALUE = 0\n"})
    library.tag("1.0")
    inside = [
        land.change(
            "oslo.db", {f"oslo_db/part{index}.py": f"VALUE = {index}\n"}, f"Inside {index}", step=False
        )
        for index in range(4)
    ]
    library.tag("1.1")
    good = land.steps[-1]
    merge(land, 3)
    pin = land.change("requirements", {"upper-constraints.txt": "oslo.db===1.1\n"}, "Pin oslo.db")
    merge(land, 2)
    lab = BisectLab(land, services, {inside[2]: 1.3})
    found = measured(services, lab, monkeypatch, good, land.steps[-1])
    story = story_of(found)
    assert [one.commit for one in story.culprits] == [pin]
    assert found.result.reverted, "the pin was put back at the newest revision"
    assert story.inside is not None
    assert [one.commit for one in story.inside.culprits] == [inside[2]]
    assert story.address == "ada@example.org"
    assert "oslo-db 1.0 → 1.1" in story.inside.title
    assert any(
        one.startswith("oslo-db @ git+file://") for job in lab.jobs
        for one in job.cloud.variables.get("openstack_code_requirements", ())
    )  # fmt: skip


def test_pins_move_and_go():
    text = "# all\nOslo.DB==1.0\nother==2.0 ; python_version < '3'\nother==3.0\n"
    assert pins_moved(text, {"oslo-db": "1.1", "other": None, "new": "1"}) == "# all\noslo-db==1.1\nnew==1\n"


@pytest.mark.parametrize(
    ("good", "bad", "error"),
    [
        ("nonsense", "HEAD", MomentInvalid),
        ("neutron=nonsense", "neutron=master", RevisionUnknown),
        ("HEAD", "HEAD", BisectImpossible),
    ],
)
def test_ends_that_are_none_are_refused(land, services, good, bad, error):
    with pytest.raises(error):
        of_words(services, "tiny", good, bad)


def test_what_is_asked_must_be_clear(land, services, root):
    merge(land, 2)
    with pytest.raises(BisectImpossible, match="no task 'ports' in the job"):
        of_words(services, "tiny", land.steps[-2], "HEAD", scenario="ports")
    with pytest.raises(BisectImpossible, match="may be 0"):
        of_words(services, "tiny", land.steps[-2], "HEAD", metric=Metric.LEFTOVERS)
    two = JOB + f"  - {{task: {TASK}, times: 9}}\n"
    (root / "jobs/tiny.yml").write_text(two)
    with pytest.raises(BisectImpossible, match="say which task"):
        of_words(services, "tiny", land.steps[-2], "HEAD")


def test_the_command_prints_table_picture_and_itself(land, services, monkeypatch, root):
    good = land.steps[-1]
    commits = merge(land)
    monkeypatch.setenv("PERFCI_STATE_DIR", str(services.state.root))
    monkeypatch.setenv("PERFCI_GIT_BASE", str(land.base))
    monkeypatch.setenv("PERFCI_ROOT_DIR", str(root))
    monkeypatch.setattr(bisecting, "night", BisectLab(land, services, {commits[3]: 1.3}))
    done = CliRunner().invoke(app, ["bisect", "tiny", good, "HEAD"])
    assert done.exit_code == 0, done.output
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if " " in line)
    assert "Change 3" in lines["verdict"]
    assert lines["again"] == f"perfci bisect tiny {good} HEAD"
    assert Path(lines["picture"]).read_bytes().startswith(b"\x89PNG")
    again = CliRunner().invoke(app, ["bisect", "tiny", good, "HEAD", "--json"])
    assert again.exit_code == 0
    assert json.loads(again.stdout)["culprits"][0]["commit"] == commits[3]
    unclear = CliRunner().invoke(app, ["bisect", "tiny", good, "--json"])
    assert (unclear.exit_code, json.loads(unclear.stdout)["error"]) == (2, "BisectUnclear")
    wrong = CliRunner().invoke(app, ["bisect", "tiny", good, "HEAD", "--metric", "secnods", "--json"])
    assert "seconds" in json.loads(wrong.stdout)["message"]


def test_a_branch_that_was_rewritten_still_has_its_changes(land, services, monkeypatch):
    good = land.steps[-1]
    repo = land.repos["neutron"]
    lost = merge(land, 4)
    git(repo.folder, "update-ref", "refs/heads/master", f"{lost[1]}^1")
    repo.head = git(repo.folder, "rev-parse", "master").strip()
    new = land.change("neutron", {"neutron/db/again.py": "VALUE = 1\n"}, "After the rewrite")
    found = measured(services, BisectLab(land, services, {new: 1.3}), monkeypatch, good, "HEAD")
    assert [one.commit for one in story_of(found).culprits] == [new]
