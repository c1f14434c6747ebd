"""What there is on a node after provisioning: what counts as a difference later, and what does not."""

import json
import os
import shutil
from collections import Counter

import pytest

MARK = "20261121T052400Z-nightly-7c3d"
ADDRESS = {"family": "inet", "local": "192.168.240.11", "prefixlen": 24, "dynamic": True}
EXPIRES = {"family": "inet6", "local": "fd00::1", "prefixlen": 64, "dynamic": True}
LINK_LOCAL = {"family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link"}
FILES = {
    "etc/hosts": "127.0.0.1 localhost\n",
    "usr/bin/python3": "binary",
    "var/log/syslog": "said\n",
    "var/lib/perfci/logs/nova.log": "said\n",
    "proc/sys/kernel/random/boot_id": "b-1\n",
    "proc/sys/fs/file-nr": "1024\t0\t9223372\n",
    "proc/sys/net/ipv4/conf/eno1.100/forwarding": "0\n",
    "proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t6291456\n",
    "proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:5 / /dev rw - devtmpfs udev rw\n",
}
PROCESSES = {
    1: (0, "S", "systemd"),
    2: (0, "S", "kthreadd"),
    10: (2, "I", "kworker/0:1"),
    300: (1, "S", "chronyd"),
    400: (1, "S", "sshd"),
    401: (400, "S", "bash"),
    402: (401, "S", "python3"),
    500: (1, "Z", "gone"),
    550: (1, "S", "systemd-udevd"),
}
"""By id: parent, state, name."""


class Node:
    """A node as far as the module looks: files below a folder, and what programs say."""

    def __init__(self, module, root):
        self.module, self.root = module, root
        self.said = {
            "dpkg-query": "bash 5.2.15 installed\nnano 7.2 config-files\n",
            "systemctl": "",
            "link": [{"ifname": "eno1", "mtu": 1500, "flags": ["UP"], "ifindex": 2}],
            "address": [{"ifname": "eno1", "addr_info": [ADDRESS, EXPIRES, LINK_LOCAL]}],
            "route": [{"dst": "default", "gateway": "192.168.240.1", "dev": "eno1"}],
            "rule": [{"priority": 0, "src": "all", "table": "local"}],
            "iptables-save": "# made today\n*filter\n:INPUT ACCEPT [17:4]\nCOMMIT\n",
        }
        self.fingerprint = {"cpu": {"microcode": "0x1"}}
        for name, content in FILES.items():
            self.put(name, content)
        for pid, process in PROCESSES.items():
            self.process(pid, *process)

    def put(self, name, content):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def process(self, pid, parent, state, name):
        self.put(f"proc/{pid}/stat", f"{pid} ({name}) {state} {parent} 0 0")

    def told(self, program, *words):
        if program == "ip":
            found = next(word for word in words if word in ("link", "address", "route", "rule"))
            return json.dumps(self.said[found])
        return self.said.get(program, "")

    def look(self):
        ignored = (*self.module.VOLATILE, "/var/lib/perfci")
        return self.module.snapshot(self.root, ignored, self.fingerprint)


@pytest.fixture
def module(plugin, monkeypatch):
    loaded = plugin("node_baseline")
    monkeypatch.setattr(loaded, "PAUSE_SECONDS", 0)
    return loaded


@pytest.fixture
def node(module, monkeypatch, tmp_path):
    made = Node(module, tmp_path)
    monkeypatch.setattr(module, "told", made.told)
    return made


def again(node):
    """Return a snapshot as it comes back from the file on the node."""
    return json.loads(json.dumps(node.look()))


def test_what_is_as_it_was_has_no_differences(module, node):
    assert module.differences(again(node), node.look()) == []


def test_what_changes_by_itself_is_none(module, node):
    before = again(node)
    node.put("var/log/syslog", "said more\n")
    node.put("var/lib/perfci/logs/nova.log", "a deployment\n")
    node.put("usr/bin/__pycache__/x.pyc", "1")
    node.said["iptables-save"] = node.said["iptables-save"].replace("17:4", "99:9").replace("today", "later")
    node.said["address"][0]["addr_info"].remove(EXPIRES)
    node.process(11, 2, "I", "kworker/1:0")
    node.process(403, 401, "S", "tar")
    node.process(551, 550, "S", "(udev-worker)")
    node.put("proc/sys/fs/file-nr", "1184\t0\t9223372\n")
    node.put("proc/sys/net/bridge/bridge-nf-call-iptables", "1\n")  # a module was loaded
    shutil.rmtree(node.root / "proc/300")  # what ended is no leftover
    assert module.differences(before, node.look()) == []


CHANGES = {
    "runs now: dnsmasq": lambda node: node.process(600, 1, "S", "dnsmasq"),
    "runs now: chronyd, 2 times and not 1": lambda node: node.process(600, 1, "S", "chronyd"),
    "sysctl changed: net.ipv4.tcp_rmem from 4096 131072 6291456 to 4096 131072 777": lambda node: node.put(
        "proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t777\n"
    ),
    "sysctl changed: net.ipv4.conf.eno1/100.forwarding from 0 to 1": lambda node: node.put(
        "proc/sys/net/ipv4/conf/eno1.100/forwarding", "1\n"
    ),
    "has failed: perfci-cloud-nova-api.service": lambda node: node.said.update(
        systemctl="perfci-cloud-nova-api.service loaded failed failed perfci nova-api\n"
    ),
    "package new: nano": lambda node: node.said.update({"dpkg-query": "bash 5.2.15 installed\nnano 7.2 installed\n"}),
    "package gone: bash": lambda node: node.said.update({"dpkg-query": ""}),
    "package changed: bash": lambda node: node.said.update({"dpkg-query": "bash 5.2.16 installed\n"}),
    "file new: /opt": lambda node: node.put("opt/tool/bin/x", ""),
    "file gone: /etc/hosts": lambda node: (node.root / "etc/hosts").unlink(),
    "file changed: /etc/hosts": lambda node: os.utime(node.root / "etc/hosts", (1, 1)),
    "file changed: /usr/bin/python3": lambda node: (node.root / "usr/bin/python3").chmod(0o4755),
    "mounted now: /srv": lambda node: node.put(
        "proc/self/mountinfo", FILES["proc/self/mountinfo"] + "24 22 0:6 / /srv rw - tmpfs tmpfs rw\n"
    ),
    "network: links now: br-int openvswitch mtu 1500 down": lambda node: node.said["link"].append(
        {"ifname": "br-int", "mtu": 1500, "flags": [], "linkinfo": {"info_kind": "openvswitch"}}
    ),
    "network: addresses no more: eno1 192.168.240.11/24": lambda node: node.said.update(address=[]),
    "network: routes now: unicast 10.0.0.0/8 via - on br-int in main": lambda node: node.said["route"].append(
        {"dst": "10.0.0.0/8", "dev": "br-int"}
    ),
    "network: rules now: 99 all 100": lambda node: node.said["rule"].append(
        {"priority": 99, "src": "all", "table": "100"}
    ),
    "network: filters now: -A INPUT -j DROP": lambda node: node.said.update(
        {"iptables-save": "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP\n"}
    ),
    "fingerprint changed: cpu.microcode": lambda node: node.fingerprint["cpu"].update(microcode="0x2"),
    "it was started again": lambda node: node.put("proc/sys/kernel/random/boot_id", "b-2\n"),
}  # fmt: skip


@pytest.mark.parametrize(("told", "change"), CHANGES.items(), ids=CHANGES)
def test_a_difference_is_named(module, node, told, change):
    before = again(node)
    change(node)
    assert module.differences(before, node.look()) == [told]


def test_a_process_that_ends_by_itself_is_no_leftover(module):
    looks = iter(
        ["systemd apt dnsmasq", "systemd apt dnsmasq", "systemd dnsmasq", "systemd apt dnsmasq dnsmasq"]
    )
    found = module.lasting(lambda: Counter(next(looks).split()), lambda _: None)
    assert found == {"systemd": 1, "dnsmasq": 1}


def test_a_node_without_a_baseline_of_this_mark_can_not_be_used_again(module, node, tmp_path):
    file = tmp_path / "tmp" / "baseline.json"
    file.parent.mkdir()

    def never():
        raise AssertionError("it need not be looked at")

    assert module.compared(file, MARK, never) == ["nothing is known of how it was provisioned"]
    file.write_text(json.dumps({"mark": "another", **node.look()}))
    assert module.compared(file, MARK, never) == ["it was provisioned meanwhile: another"]
    file.write_text(json.dumps({"mark": MARK, **again(node)}))
    assert module.compared(file, MARK, node.look) == []
    for damaged in ("", "[", "[]", json.dumps({"mark": MARK})):
        file.write_text(damaged)
        assert module.compared(file, MARK, node.look)[0].startswith(f"{file} is damaged: ")


def test_many_differences_are_counted(module):
    assert module.shortened(["a", "b", "c"], 2) == ["a", "b", "and 1 more"]
    assert module.shortened(["a", "b"], 2) == ["a", "b"]
