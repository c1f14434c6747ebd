"""The pure parts of an nspawn node; the node itself is in test_lab_nspawn.py."""

from __future__ import annotations

import os

from virtual_labs import plan

from perfci.lab.virtual import nspawn, site


def test_the_command_of_a_container(tmp_path):
    node = plan().nodes[1]
    command = nspawn.container("pci-123456", node, tmp_path, site.node_namespace("pci-123456", node))
    assert command[:4] == ["unshare", "--mount", "sh", "-c"]
    assert command[6:8] == [str(tmp_path), "systemd-nspawn"]
    assert {
        "--directory=/mnt",
        "--machine=pci-123456-node-2",
        "--hostname=node-2",
        "--network-namespace-path=/run/netns/pci-123456-2",
        "--keep-unit",
        "--register=no",
    } <= set(command)


def test_a_disk_is_bootable_whose_init_leads_nowhere_here(tmp_path):
    assert not nspawn.bootable(tmp_path / "disk")
    (tmp_path / "disk" / "usr" / "sbin").mkdir(parents=True)
    (tmp_path / "disk" / "sbin").symlink_to("usr/sbin")
    assert not nspawn.bootable(tmp_path / "disk")
    (tmp_path / "disk" / "sbin" / "init").symlink_to("/no/such/systemd")
    assert nspawn.bootable(tmp_path / "disk")


def test_no_process_of_this_namespace_is_an_init_of_a_container():
    assert not nspawn.is_init(os.getpid())
    assert not nspawn.is_init(1)
    assert not nspawn.is_init(2**22 + 1)


def test_what_the_site_is_furnished_with():
    assert site.site_batch(plan()).splitlines() == [
        "link set lo up",
        "link add br-prov address 52:54:00:00:00:00 type bridge",
        "address add 192.168.240.1/24 broadcast + dev br-prov",
        "link set br-prov up",
        "link add br-data mtu 9000 type bridge",
        "link set br-data up",
    ]


def test_the_cable_of_a_node():
    one = plan()
    text = site.plug_batch(one, one.nodes[0], mac="52:54:00:00:00:01")
    assert text == (
        f"link add port1 type veth peer name host0 address 52:54:00:00:00:01 netns {one.site}-1\n"
        "link set port1 master br-prov up\n"
        f"link add data1 mtu 9000 type veth peer name data0 mtu 9000 netns {one.site}-1\n"
        "link set data1 master br-data up\n"
    )
    assert len(site.port_name(plan(size=200).nodes[-1])) <= 15
