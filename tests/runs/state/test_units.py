"""Units of a controller's services, which `perfci clean` ends before their processes."""

from __future__ import annotations

import pytest

from perfci.runs.state import units


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "system"
    folder.mkdir()

    def unit(name, state):
        text = f'[Service]\nEnvironment="LANG=C"\nEnvironment="PERFCI_STATE_DIR={state}"\nExecStart="/bin/true"\n'
        (folder / f"{name}.service").write_text(text)

    unit("perfci-netboot-http", tmp_path / "state/netboot")
    unit("perfci-netboot-dhcp", tmp_path / "state/netboot")
    unit("perfci-site-dns", tmp_path / "state/netboot/site")
    unit("perfci-other-http", tmp_path / "other/netboot")
    unit("netboot-http", tmp_path / "state/netboot")
    rotate = f"ExecStart=/usr/sbin/logrotate --state {tmp_path}/state/netboot/logs/.rotated x.conf\n"
    (folder / "perfci-logrotate-netboot.service").write_text(f"[Service]\n{rotate}")
    (folder / "perfci-logrotate-netboot.timer").write_text("[Timer]\n")
    return folder


NAMES = [
    "perfci-logrotate-netboot.service",
    "perfci-logrotate-netboot.timer",
    "perfci-netboot-dhcp.service",
    "perfci-netboot-http.service",
]


def test_only_those_of_this_folder_are_found(folder, tmp_path):
    assert [file.name for file in units.units_of(tmp_path / "state/netboot", folder)] == NAMES
    assert units.units_of(tmp_path / "state", folder) == []
    assert units.units_of(tmp_path, tmp_path / "none") == []


def test_they_are_ended_before_their_files_go(folder, tmp_path):
    orders = []

    def systemctl(words):
        orders.append(words)
        assert (folder / NAMES[3]).exists() is (words[0] == "disable")

    assert units.remove(tmp_path / "state/netboot", folder, systemctl=systemctl) == NAMES
    assert orders == [["disable", "--now", *NAMES], ["daemon-reload"]]
    assert units.remove(tmp_path / "state/netboot", folder, systemctl=systemctl) == []
    assert len(orders) == 2
    assert (folder / "perfci-other-http.service").exists()


def test_units_that_do_not_end_stay_for_the_next_attempt(folder, tmp_path):
    def systemctl(words):
        raise units.UnitsStay(order=words[0], reason="Access denied")

    with pytest.raises(units.UnitsStay, match="Access denied"):
        units.remove(tmp_path / "state/netboot", folder, systemctl=systemctl)
    assert (folder / NAMES[0]).exists()
