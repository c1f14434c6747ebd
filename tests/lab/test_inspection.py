"""What is made of what a machine tells of itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from perfci.lab import inspecting, inspection
from perfci.lab.errors import HostVariablesElsewhere, InspectionUnreadable
from perfci.lab.inspection import Card, Disk

RECORDED = """\
perfci-inspection 1
maker\tDell Inc.
model\tPowerEdge R640
serial\tABC1234
firmware\tuefi
firmware_maker\tDell Inc.
firmware_version\t2.21.2
firmware_date\t02/19/2024
secure_boot\toff
cpu\tIntel(R) Xeon(R) Gold 6230 CPU @ 2.10GHz
sockets\t2
cores\t40
threads\t80
memory_bytes\t206158430208
numa\t0\t0-19,40-59\t101099507712
numa\t1\t20-39,60-79\t101099507712
card\teno1\t52:54:00:aa:bb:01\tyes\t25000\ti40e\t0000:3b:00.0\t0
card\teno2\t52:54:00:aa:bb:02\tunknown\t\ti40e\t0000:3b:00.1\t0
card\tbr-int\t5e:54:00:aa:bb:03\tyes\t-1\t\t\t
disk\tsda\t480103981056\tS1\t5000c500a1b2c3d4\tSSDSC2KB480G8\t0\tby-path/pci-0000:18:00.0-scsi-0:2:0:0 by-id/wwn-0x5000c500a1b2c3d4
disk\tsdb\t480103981056\tS2\t5000c500a1b2c3d5\tSSDSC2KB480G8\t0\t
provision_mac\t52:54:00:aa:bb:01
end
"""


@pytest.fixture
def found():
    return inspection.read(RECORDED)


def test_facts_are_texts_by_which_a_node_is_chosen(found):
    assert inspection.facts(found) == {
        "maker": "Dell Inc.",
        "model": "PowerEdge R640",
        "cpu": "Intel(R) Xeon(R) Gold 6230 CPU @ 2.10GHz",
        "sockets": "2",
        "cores": "40",
        "threads": "80",
        "memory_gib": "192",
        "numa_nodes": "2",
        "nics": "2",
        "nic_speed": "25",
        "disks": "2",
        "disk_gb": "960",
        "firmware": "uefi",
        "firmware_version": "2.21.2",
    }


def test_what_is_not_known_is_no_fact(found):
    bare = replace(found, maker="", cards=(), disks=())
    assert not {"maker", "nics", "nic_speed", "disks", "disk_gb"} & set(inspection.facts(bare))


@pytest.mark.parametrize("name", ["maker", "cpu", "firmware", "memory_bytes", "provision_mac"])
def test_a_line_that_is_missing_is_told(name):
    text = "".join(line for line in RECORDED.splitlines(keepends=True) if not line.startswith(f"{name}\t"))
    with pytest.raises(InspectionUnreadable, match=name):
        inspection.read(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "does not begin"),
        ("Welcome to node-1!\n" + RECORDED, "Welcome to node-1!"),
        (RECORDED.removesuffix("end\n"), "cut short"),
        (RECORDED[:400], "cut short"),
        (RECORDED.replace("cores\t40", "cores\tmany"), "many"),
        (RECORDED.replace("disk\tsdb\t480103981056\t", "disk\tsdb\t"), "unpack"),
        ("\0" * 1000, "does not begin"),
    ],
)
def test_what_is_no_inspection_is_refused(text, reason):
    with pytest.raises(InspectionUnreadable, match=reason):
        inspection.read(text)


def disk(name, **fields):
    known = {"bytes": 1, "rotational": None, "serial": "", "wwn": "", "model": "", "links": ()}
    return Disk(**{**known, "name": name, **fields})


def test_a_rule_means_one_disk_and_the_best_name_of_it():
    disks = [
        disk("sda", wwn="5000c500a1b2c3d4", serial="S1"),
        disk("sdb", wwn="same", serial="S2"),
        disk("sdc", wwn="same", serial="a,b", model="M"),
        disk("sdd", model="N"),
        disk("sde", model="N"),
        disk("nvme0n1", wwn="nvme.1234-5678-9abc-00000001"),
    ]
    assert inspection.disk_rules(disks) == {
        "sda": "wwn=0x5000c500a1b2c3d4",
        "sdb": "serial=S2",
        "sdc": "model=M",
        "sdd": "/dev/sdd",
        "sde": "/dev/sde",
        "nvme0n1": "wwn=nvme.1234-5678-9abc-00000001",
    }


def test_yaml_to_paste(found):
    lines = list(inspection.yaml_lines(found, {}))
    assert yaml.safe_load("\n".join(lines)) == {
        "provision_mac": "52:54:00:aa:bb:01",
        "provision_firmware": "uefi",
        "node_facts": inspection.facts(found),
    }
    text = "\n".join(lines)
    assert "# card eno1 52:54:00:aa:bb:01: link 25 Gbit/s, i40e at 0000:3b:00.0, NUMA node 0" in text
    assert "# card eno2 52:54:00:aa:bb:02: link unknown, its interface is down" in text
    assert "br-int" not in text
    assert "; provision_disk: wwn=0x5000c500a1b2c3d5" in text
    assert "by-id/wwn-0x5000c500a1b2c3d4" in text


def test_what_the_inventory_says_is_left_to_it(found):
    said = {"provision_mac": "52-54-00-AA-BB-01", "provision_firmware": "uefi", "provision_disk": "serial=S1"}
    assert inspection.variables(found, said) == {}
    assert inspection.differences(found, said) == []


def test_one_disk_needs_no_choice(found):
    assert inspection.variables(replace(found, disks=found.disks[:1]), {})["provision_disk"] == "smallest"


@pytest.mark.parametrize(
    ("said", "secure_boot", "expected"),
    [
        ({"provision_firmware": "bios"}, "off", "provision_firmware is bios, and it booted by uefi"),
        ({"provision_mac": "52:54:00:aa:bb:09"}, "off", "no card has it"),
        ({"provision_mac": "52:54:00:aa:bb:02"}, "off", "was reached by 52:54:00:aa:bb:01"),
        ({}, "on", "Secure Boot is on"),
    ],
)
def test_where_inventory_and_machine_differ(found, said, secure_boot, expected):
    (difference,) = inspection.differences(replace(found, secure_boot=secure_boot), said)
    assert expected in difference
    assert difference in "\n".join(inspection.yaml_lines(replace(found, secure_boot=secure_boot), said))


@pytest.mark.parametrize("text", ["a: b", "yes", "007", 'quoted "twice" \\', "# no", "ü \u2028"])
def test_whatever_a_machine_calls_itself_stays_text(found, text):
    odd = replace(found, model=text)
    assert yaml.safe_load("\n".join(inspection.yaml_lines(odd, {})))["node_facts"]["model"] == text


def test_a_machine_gives_the_controller_no_template_to_run(found):
    text = "{{ lookup('pipe', 'touch x') }}{% set a = 1 %}"
    odd = replace(found, maker=text, model=text, cpu=text, firmware_version=text)
    assert not set("{}") & set("".join(inspection.facts(odd).values()))
    for line in ("firmware\tuefi", "provision_mac\t52:54:00:aa:bb:01"):
        with pytest.raises(InspectionUnreadable):
            inspection.read(RECORDED.replace(line, f"{line.partition(chr(9))[0]}\t{text}"))


def test_a_card_without_a_link_has_no_speed(found):
    slow = Card("eno1", "52:54:00:aa:bb:01", "no", None, "i40e", "0000:3b:00.0", None)
    assert "nic_speed" not in inspection.facts(replace(found, cards=(slow,)))


# --- the inventory's file -----------------------------------------------------------------------------------------


def test_it_is_written_beside_the_node_s_other_variables(found, tmp_path):
    (tmp_path / "host_vars/node-1").mkdir(parents=True)
    (tmp_path / "host_vars/node-1/own.yml").write_text("provision_disk: smallest\n")
    for _ in range(2):
        file = inspecting.write(tmp_path, "node-1", list(inspection.yaml_lines(found, {})))
        assert yaml.safe_load(file.read_text())["node_facts"]["cores"] == "40"
    assert sorted(one.name for one in file.parent.iterdir()) == ["inspected.yml", "own.yml"]


@pytest.mark.parametrize("name", ["node-1", "node-1.yml", "node-1.yaml", "node-1.json"])
def test_a_file_of_the_node_is_not_hidden_by_a_folder(found, tmp_path, name):
    (tmp_path / "host_vars").mkdir()
    (tmp_path / "host_vars" / name).write_text("---\n")
    with pytest.raises(HostVariablesElsewhere, match=name):
        inspecting.write(tmp_path, "node-1", [])
    assert [one.name for one in (tmp_path / "host_vars").iterdir()] == [name]


# --- nodes that do not answer -------------------------------------------------------------------------------------


def test_each_node_is_asked_and_one_that_fails_says_why():
    answers = inspecting.ask(
        {
            "node-1": ["sh", "-s"],
            "node-2": ["sh", "-c", "echo 'Connection refused' >&2; exit 255"],
            "node-3": ["no-such-program"],
            "node-4": ["sh", "-c", "echo Welcome"],
            "node-5": ["false"],
        },
        f"cat <<'X'\n{RECORDED}X\n",
    )
    assert answers["node-1"] == inspection.read(RECORDED)
    assert answers["node-2"] == "Connection refused"
    assert "No such file" in answers["node-3"]
    assert "Welcome" in answers["node-4"]
    assert "exit code 1" in answers["node-5"]
