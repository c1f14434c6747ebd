"""Which changes can have reached the cloud, which is the most plausible, and what a moved pin brings."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from git_repositories import Landscape

from perfci.changes.between import CodeMoment, changes_between
from perfci.changes.clones import Clones
from perfci.changes.model import Change, ChangeHistory, MergeOrder, PinMove
from perfci.changes.pin_moves import distribution_of, moved_pins, read_pins
from perfci.changes.suspects import Installed, Left, SlowTarget, kind_of, sift, why_left_out

ALL = Installed(
    frozenset({"nova", "neutron", "keystone"}), frozenset({"oslo.messaging", "SQLAlchemy", "os_vif"})
)


def change(project, *files, pins=(), known=True):
    return Change(
        project, "c" * 40, "p" * 40, "subject", None, None, datetime(2026, 1, 1, tzinfo=UTC),
        tuple(files) if known else None, "link", pins=tuple(pins),
    )  # fmt: skip


def history(*changes):
    return ChangeHistory(tuple((one,) for one in changes), MergeOrder.STEPS)


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("neutron/tests/unit/test_db.py", Left.TESTS),
        ("neutron/tests/base.py", Left.TESTS),
        ("test-requirements.txt", Left.TESTS),
        ("doc/source/index.rst", Left.DOCUMENTS),
        ("api-ref/source/v2/ports.inc", Left.DOCUMENTS),
        ("README.rst", Left.DOCUMENTS),
        ("releasenotes/notes/a-1.yaml", Left.RELEASE_NOTES),
        ("nova/locale/de/LC_MESSAGES/nova.po", Left.TRANSLATIONS),
        (".zuul.yaml", Left.CI),
        ("zuul.d/base.yaml", Left.CI),
        ("tox.ini", Left.CI),
        ("devstack/plugin.sh", Left.CI),
        ("neutron/db/db_base_plugin_v2.py", None),
        ("nova/conf/compute.py", None),
        ("etc/nova/api-paste.ini", None),
        ("requirements.txt", None),
        ("pyproject.toml", None),
        ("neutron/agent/linux/testing.py", None),
        ("nova/api/openstack/compute/documentation.py", None),
        ("openstack_roles/roles.py", None),
        ("nova/policies/contest.py", None),
    ],
)
def test_what_a_file_is(file, kind):
    assert kind_of(file) is kind


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (change("nova", "nova/a.py", "nova/tests/a.py"), None),
        (change("nova", "nova/tests/a.py"), Left.TESTS),
        (change("nova", "nova/tests/a.py", "doc/a.rst"), Left.MIXED),
        (change("nova"), Left.NOTHING),
        (change("nova", known=False), None),
        (change("horizon", "horizon/a.py"), Left.NOT_INSTALLED),
        (change("horizon", known=False), Left.NOT_INSTALLED),
        (change("requirements", "global-requirements.txt"), Left.CI),
        (change("requirements"), Left.NOTHING),
        (change("requirements", known=False), None),
        (change("requirements", "upper-constraints.txt", pins=[PinMove("oslo-messaging", "1", "2")]), None),
        (change("requirements", "upper-constraints.txt", pins=[PinMove("os-vif", "1", "2")]), None),
        (
            change("requirements", "upper-constraints.txt", pins=[PinMove("django", "1", "2")]),
            Left.NOT_INSTALLED,
        ),
        (change("requirements", "upper-constraints.txt"), Left.NOT_INSTALLED),
    ],
)
def test_who_is_a_suspect(one, why):
    assert why_left_out(one, ALL) is why


def test_a_library_from_git_does_not_follow_its_pin():
    pin = PinMove("oslo-messaging", "1", "2", "oslo.messaging")
    one = change("requirements", "upper-constraints.txt", pins=[pin])
    assert why_left_out(one, Installed(frozenset({"oslo.messaging"}), ALL.packages)) is Left.NOT_INSTALLED


def test_the_scenario_says_who_is_most_plausible():
    target = SlowTarget("neutron", ("NeutronNetworks.create_and_list_ports", "neutron.list_ports"))
    changes = [
        change("nova", "nova/api/servers.py"),
        change("neutron", "neutron/plugins/ml2/drivers/ovn/mech_driver/a.py"),
        change("neutron", "neutron/db/l3_db.py"),
        change("neutron", "neutron/objects/ports.py"),
        change("keystone", "keystone/token/provider.py"),
        change("nova", "nova/virt/libvirt/driver.py"),
    ]
    sifted = sift(history(*changes), ALL, target)
    assert [one.place for one in sifted.suspects] == [3, 2, 4, 0, 1, 5]
    assert sum(one.plausibility for one in sifted.suspects) == pytest.approx(1)
    assert all(one.plausibility > 0 for one in sifted.suspects)


def test_the_service_in_every_path_is_no_hint():
    target = SlowTarget("neutron", ("NeutronNetworks.list_agents",))
    one, two = sift(
        history(change("neutron", "neutron/a.py"), change("neutron", "neutron/b.py")), ALL, target
    ).suspects
    assert one.plausibility == two.plausibility == 0.5


def test_no_suspects():
    sifted = sift(history(change("horizon", "a.py")), ALL)
    assert sifted.suspects == ()
    assert [why for _, why in sifted.left_out] == [Left.NOT_INSTALLED]


def test_moved_pins():
    before = "# pins\nos_vif===5.1.0\nnumpy===1;python_version=='3.10'\nnumpy===2;python_version>='3.11'\nGone===1\n"
    after = "os-vif===5.2.0\nnumpy===1;python_version=='3.10'\nnumpy===3;python_version>='3.11'\nnew==1 # why\n\0bad\n"
    assert {one.package: (one.before, one.after) for one in moved_pins(before, after)} == {
        "os-vif": ("5.1.0", "5.2.0"),
        "numpy": ("1 (python_version=='3.10'), 2 (python_version>='3.11')",
                  "1 (python_version=='3.10'), 3 (python_version>='3.11')"),
        "gone": ("1", None),
        "new": (None, "1"),
    }  # fmt: skip
    assert read_pins("") == {}


@pytest.fixture
def pinned(tmp_path):
    land = Landscape(tmp_path / "base")
    land.project("requirements", {"upper-constraints.txt": "keystoneauth1===5.0\nsix===1.0\n"})
    library = land.project("keystoneauth", {"setup.cfg": "[metadata]\nname = keystoneauth1\nsummary = x\n"})
    library.tag("5.0")
    return land


def bump(land, text, subject="update constraint"):
    start = land.steps[-1]
    land.change("requirements", {"upper-constraints.txt": text}, subject)
    return changes_between(Clones(land.base), CodeMoment(start), CodeMoment(land.steps[-1])).changes[0]


def test_a_moved_pin_is_opened_to_the_changes_of_its_library(pinned):
    for number in range(2):
        pinned.change("keystoneauth", {"keystoneauth1/session.py": f"{number}\n"}, f"Change {number}")
    pinned.repos["keystoneauth"].tag("5.1")
    (pin,) = bump(pinned, "keystoneauth1===5.1\nsix===1.0\n").pins
    assert (pin.package, pin.before, pin.after, pin.project) == (
        "keystoneauth1",
        "5.0",
        "5.1",
        "keystoneauth",
    )
    assert [one.subject for one in pin.changes] == ["Change 0", "Change 1"]
    assert pin.changes[0].author is not None


def test_a_pin_of_somebody_else_has_no_changes(pinned):
    (pin,) = bump(pinned, "keystoneauth1===5.0\nsix===1.1\n").pins
    assert (pin.package, pin.project, pin.changes, pin.note) == ("six", None, (), "")


def test_a_version_without_a_tag_is_said(pinned):
    (pin,) = bump(pinned, "keystoneauth1===5.1\nsix===1.0\n").pins
    assert pin.note == "keystoneauth has no tag 5.1: its changes are not known"


def test_the_name_of_a_distribution(pinned):
    library = pinned.repos["keystoneauth"]
    clone = Clones(pinned.base).get("keystoneauth")
    assert distribution_of(clone, library.head) == "keystoneauth1"
    head = library.commit(
        "New style", {"pyproject.toml": '[build-system]\nname = 1\n[project]\nname = "ksa"\n'}, 9**9
    )
    assert distribution_of(clone, head) == "ksa"
