"""Pins: reading them, moving exactly one, and whether the set still resolves, asked of the real uv offline."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import archives
import pytest

from perfci.runs.studies import pins
from perfci.runs.studies.pins import (
    CONSTRAINTS,
    PackageIndexUnreachable,
    PinsConflict,
    PinsIncomplete,
    PinUnknown,
    PinVersionInvalid,
    check,
    keep_copy,
    moved,
    read_pins,
    requirements,
)
from perfci.runs.studies.run_diff import CODE, ENVIRONMENT, PACKAGE, Moved, moves

REPOSITORY = Path(__file__).parents[3]
TEXT = "alembic==1.20.1\nOslo.Messaging == 18.3.1  # with a reason\n\n# comment\nsix==1.17.0; python_version > '3'\n"


def test_pins_are_read_by_their_normal_names():
    assert read_pins(TEXT) == {"alembic": "1.20.1", "oslo-messaging": "18.3.1", "six": "1.17.0"}


@pytest.mark.parametrize("name", ["oslo.messaging", "oslo_messaging", "OSLO-messaging"])
def test_exactly_one_pin_moves_and_nothing_else(name):
    move = moved(TEXT, name, "18.3.2")
    assert (move.name, move.before, move.after) == ("oslo-messaging", "18.3.1", "18.3.2")
    assert move.text == TEXT.replace("18.3.1", "18.3.2")
    assert moved(move.text, name, "18.3.1").text == TEXT


def test_what_follows_a_version_stays():
    assert moved(TEXT, "six", "1.18.0").text == TEXT.replace("1.17.0", "1.18.0")


def test_an_unknown_pin_names_the_nearest():
    with pytest.raises(PinUnknown, match="did you mean 'alembic'"):
        moved(TEXT, "alembik", "1.0")


@pytest.mark.parametrize("version", [">=1.0", "", "latest", "1.20.1", "1.0 ; x"])
def test_only_another_exact_version_is_taken(version):
    with pytest.raises(PinVersionInvalid, match=r"alembic"):
        moved(TEXT, "alembic", version)


def test_every_requirement_of_the_project_has_a_pin():
    found = read_pins((REPOSITORY / CONSTRAINTS).read_text())
    wanted = {pins.normal(one.partition("==")[0]) for one in requirements(REPOSITORY, found)}
    assert wanted <= found.keys()
    assert set(pins.SERVICES) <= wanted


def test_a_copy_is_named_after_what_is_in_it(tmp_path):
    first, again, other = (keep_copy(tmp_path / "pins", text) for text in (TEXT, TEXT, "a==1\n"))
    assert first == again != other
    assert first.read_text() == TEXT


# --- resolving, with a package index in a folder -------------------------------------------------------


def wheel(folder, name, version, *requires):
    """Write the smallest wheel there is."""
    info = f"{name}-{version}.dist-info"
    metadata = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{info}/METADATA", "\n".join(metadata) + "\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project that deploys five tiny services, all of them in an index without a network."""
    index = tmp_path / "index"
    index.mkdir()
    for name in ("keystone", "openstack_placement", "glance", "nova"):
        wheel(index, name, "1.0")
    wheel(index, "neutron", "1.0", "parts>=1,<3")
    wheel(index, "neutron", "2.0", "parts>=2")
    for version in ("1.0", "2.0", "3.0"):
        wheel(index, "parts", version)
    wheel(index, "parts", "2.5", "extra")
    wheel(index, "extra", "0.1")
    role = tmp_path / "roles/openstack_code"
    (role / "defaults").mkdir(parents=True)
    (role / "files").mkdir()
    (role / "defaults/main.yml").write_text("openstack_code_requirements: [parts]\n")
    (tmp_path / CONSTRAINTS).write_text("".join(f"{name}==1.0\n" for name in (*pins.SERVICES, "parts")))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(index))
    return tmp_path


def checked(root, name, version):
    check(root, moved((root / CONSTRAINTS).read_text(), name, version), root / "cache")


def test_a_pin_that_fits_is_accepted(root):
    checked(root, "parts", "2.0")


def test_a_pin_that_others_refuse_is_not(root):
    with pytest.raises(PinsConflict, match="neutron") as caught:
        checked(root, "parts", "3.0")
    assert "parts" in str(caught.value)


def test_a_version_that_is_not_there_is_a_conflict(root):
    with pytest.raises(PinsConflict):
        checked(root, "glance", "9.9")


def test_what_has_no_pin_is_told(root):
    with pytest.raises(PinsIncomplete, match=r"extra==0\.1"):
        checked(root, "parts", "2.5")


def test_an_index_that_does_not_answer_is_no_conflict(root, monkeypatch):
    monkeypatch.delenv("UV_NO_INDEX")
    monkeypatch.delenv("UV_FIND_LINKS")
    monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(PackageIndexUnreachable):
        checked(root, "parts", "2.0")


# --- what moved between two runs -----------------------------------------------------------------------


def test_what_moved_is_told_by_kind(tmp_path):
    first = archives.night(tmp_path, 1)
    second = shutil.copytree(first, tmp_path / "other")
    before = json.loads((first / "run.json").read_text())
    after = json.loads((second / "run.json").read_text())
    before["versions"] = {"alembic": "1.0", "gone": "1", "nova": "1"}
    after["versions"] = {"alembic": "1.1", "new_one": "2", "nova": "2"}
    service = after["code"]["services"][0]
    service["version"] = service["revision"] = "99.0"
    after["environment"] = {"digest": "other", "facts": {"cloud": {"computes": 20}}}
    before["environment"] = {"digest": "one", "facts": {"cloud": {"computes": 10}}}
    found = moves(before, after)
    others = [one for one in found if one.what != CODE]
    assert others == [
        Moved(PACKAGE, "alembic", "1.0", "1.1"),
        Moved(PACKAGE, "gone", "1", ""),
        Moved(PACKAGE, "new-one", "", "2"),
        Moved(ENVIRONMENT, "facts.cloud.computes", "10", "20"),
    ]
    code = [one for one in found if one.what == CODE]
    assert [(one.name, one.after.startswith("99.0")) for one in code] == [(service["service"], True)]
    assert moves(after, after) == ()
