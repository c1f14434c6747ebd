"""Which changes there are between two moments, and in which order, on repositories made here."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from git_repositories import AUTHOR, START, Landscape, change_id, git

from perfci.changes.between import CodeMoment, changes_between, moment_of
from perfci.changes.clones import Clones
from perfci.changes.errors import MomentInvalid, RepositoryMissing, RevisionUnknown, StepsUnrelated
from perfci.changes.model import MergeOrder
from perfci.changes.suspects import Installed, sift


@pytest.fixture
def land(tmp_path):
    found = Landscape(tmp_path / "base")
    for name in ("nova", "neutron", "horizon"):
        found.project(name)
    return found


@pytest.fixture
def clones(land):
    return Clones(land.base)


def since(land, clones, step, **how):
    return changes_between(clones, CodeMoment(step), CodeMoment(land.steps[-1]), **how)


def test_steps_order_the_changes_of_all_projects(land, clones):
    start = land.steps[-1]
    land.change("nova", {"nova/a.py": "1\n"}, "Cache flavors")
    land.change("neutron", {"neutron/b.py": "1\n", "doc/x.rst": "x\n"}, "List ports", merge=False)
    land.change("nova", {"nova/a.py": "2\n"}, "Cache more")
    history = since(land, clones, start)
    assert [(one.project, one.subject) for one in history.changes] == [
        ("nova", "Cache flavors"),
        ("neutron", "List ports"),
        ("nova", "Cache more"),
    ]
    assert history.order is MergeOrder.STEPS
    assert history.ordered
    assert history.notes == ()
    assert [one.step for one in history.changes] == land.steps[-3:]
    assert history.new["nova"] == land.repos["nova"].head


def test_a_change_has_its_author_review_and_files(land, clones):
    start, before = land.steps[-1], land.repos["neutron"].head
    land.change("neutron", {"neutron/b.py": "1\n", "doc/x.rst": "x\n"}, "List ports")
    (change,) = since(land, clones, start).changes
    assert change.author is not None
    assert (change.author.name, change.author.address) == ("Ada Example", "ada@example.org")
    assert change.change_id == change_id("List ports")
    assert change.link == f"https://review.opendev.org/q/{change.change_id}"
    assert change.files == ("doc/x.rst", "neutron/b.py")
    assert change.commit == land.repos["neutron"].head
    assert change.parent == before


def test_without_a_review_the_link_is_that_of_the_commit(land, clones):
    start = land.steps[-1]
    head = land.change("neutron", {"a.py": "1\n"}, "By hand", trailer=False)
    (change,) = since(land, clones, start).changes
    assert change.change_id is None
    assert change.link == f"https://opendev.org/openstack/neutron/commit/{head}"


def test_one_step_that_moves_several_projects_does_not_order_them(land, clones):
    start = land.steps[-1]
    moves = {
        name: land.change(name, {"a.py": "1\n"}, f"Change {name}", step=False) for name in ("nova", "neutron")
    }
    land.step(moves)
    history = since(land, clones, start)
    assert [{one.project for one in group} for group in history.groups] == [{"nova", "neutron"}]
    assert not history.ordered


def test_one_step_may_bring_several_changes_of_one_project(land, clones):
    start = land.steps[-1]
    land.change("nova", {"a.py": "1\n"}, "First", step=False)
    land.change("nova", {"a.py": "2\n"}, "Second")
    history = since(land, clones, start)
    assert [one.subject for one in history.changes] == ["First", "Second"]
    assert history.ordered


def test_what_has_no_clone_is_told_from_the_step(land, clones):
    start = land.steps[-1]
    land.change("horizon", {"a.py": "1\n"}, "Paint it")
    history = since(land, clones, start, only={"nova"})
    (change,) = history.changes
    assert (change.subject, change.author, change.files) == ("Paint it", None, None)
    assert change.change_id == change_id("Paint it")


def test_a_submodule_without_its_commit_is_told_and_said(land, clones):
    start = land.steps[-1]
    land.step({"nova": "1" * 40})
    land.change("neutron", {"a.py": "1\n"}, "List ports")
    history = since(land, clones, start)
    assert [(one.project, one.files is None) for one in history.changes] == [
        ("nova", True),
        ("neutron", False),
    ]
    assert history.notes == ("the clone of nova is too old: some commits are not in it",)


def test_projects_that_come_and_go(land, clones):
    start = land.steps[-1]
    land.project("zun")
    land.step({"horizon": None})
    land.change("nova", {"a.py": "1\n"}, "Cache")
    history = since(land, clones, start)
    assert [one.project for one in history.changes] == ["zun", "nova"]
    assert history.notes == (
        "horizon was taken out",
        "zun is new: perfci does not look at its earlier history",
    )


def test_a_rewritten_branch_is_said(land, clones):
    nova = land.repos["nova"]
    kept = nova.head
    land.change("nova", {"a.py": "1\n"}, "Lost", merge=False)
    start = land.steps[-1]
    nova.head = kept
    land.change("nova", {"a.py": "2\n"}, "Put in its place", merge=False)
    (change,) = since(land, clones, start).changes
    assert change.subject == "Put in its place"
    assert change.note == "the branch was rewritten: it lost 1 commit"


def test_a_merge_of_several_changes_and_a_merge_of_nothing(land, clones):
    nova, start = land.repos["nova"], land.steps[-1]
    base = nova.head
    one = nova.commit("One", {"a.py": "1\n"}, land.tick(), ref="refs/changes/1/head")
    two = nova.commit("Two", {"b.py": "1\n"}, land.tick(), parents=[one], ref="refs/changes/2/head")
    nova.commit("Merge branch x", {"a.py": "1\n", "b.py": "1\n"}, land.tick(), parents=[base, two])
    land.step({"nova": nova.head})
    nova.commit("Merge it once more", {}, land.tick(), parents=[nova.head, two])
    land.step({"nova": nova.head})
    many, nothing = since(land, clones, start).changes
    assert (many.subject, many.note, many.files) == ("Two", "a merge of 2 changes", ("a.py", "b.py"))
    assert (nothing.subject, nothing.files) == ("Merge it once more", ())


def test_hostile_subjects_and_authors(land, clones):
    start = land.steps[-1]
    evil = "<script>alert(1)</script>\x1b[31m\u202etxt.exe " + "x" * 1_000_000
    land.change("nova", {"a.py": "1\n"}, evil, author="Nobody <>", merge=False)
    land.change("nova", {"a.py": "2\n"}, "Next", author="Eve <eve@x\u0007.org>", merge=False)
    first, second = since(land, clones, start).changes
    assert first.subject.startswith("<script>alert(1)</script>")
    assert len(first.subject) <= 160
    assert first.subject.isprintable()
    assert "\u202e" not in first.subject
    assert first.author is not None
    assert first.author.address is None
    assert second.author is not None
    assert second.author.address is None
    assert second.subject == "Next"


def test_odd_file_names_do_not_split_records(land, clones):
    start = land.steps[-1]
    land.change("nova", {'"nova/\\303\\244 \\nb.py"': "1\n"}, "Odd")
    (change,) = since(land, clones, start).changes
    assert change.subject == "Odd"
    assert len(change.files) == 1


def test_dates_order_merges_where_there_is_no_step(land, clones):
    old = {name: repo.head for name, repo in land.repos.items()}
    land.change("nova", {"a.py": "1\n"}, "First", step=False)
    land.change("neutron", {"a.py": "1\n"}, "Second", step=False)
    land.change("nova", {"a.py": "2\n"}, "Third", step=False)
    new = {name: repo.head for name, repo in land.repos.items()}
    history = changes_between(clones, CodeMoment(revisions=old), CodeMoment(revisions=new))
    assert [one.subject for one in history.changes] == ["First", "Second", "Third"]
    assert history.order is MergeOrder.DATES
    assert history.ordered


def test_a_fast_forward_is_as_old_as_the_merges_around_it_allow(land, clones):
    old = {name: repo.head for name, repo in land.repos.items()}
    land.change("nova", {"a.py": "1\n"}, "Nova first", step=False)
    late = land.now
    land.now = START + 1  # written long before it was merged
    land.change("neutron", {"a.py": "1\n"}, "Fast-forward", merge=False, step=False)
    land.now = late + 60
    land.change("neutron", {"a.py": "2\n"}, "Neutron merge", step=False)
    land.change("nova", {"a.py": "2\n"}, "Nova last", step=False)
    new = {name: repo.head for name, repo in land.repos.items()}
    history = changes_between(clones, CodeMoment(revisions=old), CodeMoment(revisions=new))
    assert [{one.subject for one in group} for group in history.groups] == [
        {"Nova first", "Fast-forward", "Neutron merge"},
        {"Nova last"},
    ]


def test_fast_forwards_of_one_project_alone_are_ordered(land, clones):
    old = {"nova": land.repos["nova"].head}
    for number in range(3):
        land.now = START + 100 - number
        land.change("nova", {"a.py": f"{number}\n"}, f"Change {number}", merge=False, step=False)
    history = changes_between(
        clones, CodeMoment(revisions=old), CodeMoment(revisions={"nova": land.repos["nova"].head})
    )
    assert [one.subject for one in history.changes] == ["Change 0", "Change 1", "Change 2"]
    assert history.ordered


def test_moments_are_steps_dates_and_revisions(land, clones):
    step = land.steps[-1]
    at = datetime.fromtimestamp(land.now, UTC)
    land.tick(86_400)
    land.change("nova", {"a.py": "1\n"}, "Later")
    assert moment_of(step[:12], clones).step == step
    assert moment_of(at.isoformat(), clones).step == step
    assert moment_of(at.strftime("%Y-%m-%dT%H:%M:%S"), clones).step == step
    assert moment_of("master", clones).step == land.steps[-1]
    assert moment_of("nova=master, neutron=master", clones).revisions == {
        name: land.repos[name].head for name in ("nova", "neutron")
    }


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("next friday", MomentInvalid),
        ("2001-01-01", MomentInvalid),
        ("nova=", MomentInvalid),
        ("f" * 40, RevisionUnknown),
        ("nova=nothing", RevisionUnknown),
        ("nova=--upload-pack=evil", RevisionUnknown),
        ("--all", MomentInvalid),
        ("cinder=master", RepositoryMissing),
        ("../nova=master", RepositoryMissing),
    ],
)
def test_what_is_no_moment_is_said(clones, text, error):
    with pytest.raises(error):
        moment_of(text, clones)


def test_steps_the_wrong_way_round_and_unrelated_ones(land, clones):
    first, last = land.steps[0], land.steps[-1]
    with pytest.raises(StepsUnrelated, match="it is the newer one"):
        changes_between(clones, CodeMoment(last), CodeMoment(first))
    other = land.top.commit("Elsewhere", {"a": "b"}, land.tick(), parents=[], ref="refs/heads/other")
    with pytest.raises(StepsUnrelated, match="neither is an ancestor"):
        changes_between(clones, CodeMoment(first), CodeMoment(other))


def test_no_super_repository(tmp_path):
    with pytest.raises(RepositoryMissing, match="openstack"):
        moment_of("2026-01-01", Clones(tmp_path))


def test_the_same_moment_twice_has_no_changes(land, clones):
    history = changes_between(clones, CodeMoment(land.steps[-1]), CodeMoment(land.steps[-1]))
    assert history.changes == ()


def test_suspects_of_a_busy_night_take_no_second(land, clones):
    start = land.steps[-1]
    for number in range(12):
        land.change("nova", {"nova/a.py": f"{number}\n"}, f"Change {number}")
        land.change("neutron", {"neutron/tests/a.py": f"{number}\n"}, f"Test {number}")
    began = time.perf_counter()
    sifted = sift(since(land, clones, start), Installed(frozenset({"nova", "neutron"})))
    assert time.perf_counter() - began < 1
    assert len(sifted.suspects) == 12
    assert len(sifted.left_out) == 12


def test_the_clones_are_left_as_they_are(land, clones):
    before = {path: path.stat().st_mtime_ns for path in land.base.rglob("*")}
    start = land.steps[0]
    since(land, clones, start)
    assert {path: path.stat().st_mtime_ns for path in land.base.rglob("*")} == before
    assert AUTHOR in git(land.repos["nova"].folder, "log", "-1", "--format=%an <%ae>")
