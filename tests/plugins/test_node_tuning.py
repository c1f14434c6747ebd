"""Tuning of a node, on a folder that looks as its kernel does."""

from __future__ import annotations

import struct

import pytest

CPUS = "sys/devices/system/cpu"
NOTHING = {
    "smt": "",
    "governor": "",
    "turbo": "",
    "wake_up_microseconds": "",
    "wake_up_unit": "[Service]\n",
    "transparent_huge_pages": "",
    "swap": "",
    "numa_balancing": "",
    "irq_cpus": "",
    "card_irqs": "",
    "time_servers": [],
    "time_tries": 2,
    "background_units": [],
}


class Machine:
    """A root folder, and programs that note how they are called."""

    def __init__(self, root, module):
        self.root, self.module = root, module
        self.calls = []
        self.answers = {}
        self.file(f"{CPUS}/online", "0-3\n")

    def file(self, name, text=""):
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def card(self, name, irqs, cpus="", *, virtio=False):
        device = self.root / f"sys/devices/pci/{name}"
        for irq in irqs:
            self.file(f"sys/devices/pci/{name}/msi_irqs/{irq}", "msix\n")
            self.file(f"proc/irq/{irq}/smp_affinity_list", "0-3\n")
        device.mkdir(parents=True, exist_ok=True)
        inner = device / "virtio0" if virtio else device
        inner.mkdir(exist_ok=True)
        if cpus:
            (inner / "local_cpulist").write_text(cpus)
        link = self.root / f"sys/class/net/{name}/device"
        link.parent.mkdir(parents=True)
        link.symlink_to(inner)

    def run(self, words):
        self.calls.append(words)
        return self.answers.get(words[0], self.answers.get(" ".join(words[:2]), self.module.Done(0, "", "")))

    def node(self, *, check=False, **wanted):
        return self.module.Node({**NOTHING, **wanted}, check=check, root=self.root, run=self.run)

    def irq(self, number):
        return (self.root / f"proc/irq/{number}/smp_affinity_list").read_text()


@pytest.fixture
def module(plugin):
    return plugin("node_tuning")


@pytest.fixture
def machine(tmp_path, module):
    return Machine(tmp_path, module)


def test_a_machine_with_everything_gets_everything(machine):
    machine.file(f"{CPUS}/smt/control", "on\n")
    machine.file(f"{CPUS}/cpufreq/policy0/scaling_governor", "powersave\n")
    machine.file(f"{CPUS}/intel_pstate/no_turbo", "0\n")
    machine.file("sys/kernel/mm/transparent_hugepage/enabled", "always\n")
    machine.file("proc/sys/kernel/numa_balancing", "1\n")
    machine.file("proc/swaps", "Filename Type\n")
    machine.file("proc/irq/7/smp_affinity_list", "0-3\n")
    machine.card("eno1", [30, 31])
    machine.file("dev/cpu_dma_latency").write_bytes(struct.pack("i", 1))
    machine.file("usr/sbin/chronyd")
    machine.answers["systemctl is-active"] = machine.module.Done(3, "inactive\nunknown", "")
    node = machine.node(
        smt="off",
        governor="performance",
        turbo="off",
        wake_up_microseconds="1",
        transparent_huge_pages="never",
        swap="off",
        numa_balancing="0",
        irq_cpus="0",
        card_irqs="spread",
        time_servers=["192.0.2.1"],
        background_units=["cron.service", "none.timer"],
    )
    record = node.tune("none")
    assert {name for name, found in record.items() if found["state"] != "in effect"} == set()
    assert (machine.root / f"{CPUS}/intel_pstate/no_turbo").read_text() == "1"
    assert record["turbo"] == {"state": "in effect", "value": "off"}
    assert (machine.irq(7), machine.irq(30), machine.irq(31)) == ("0", "0", "1")
    assert record["card_irqs"]["value"] == "eno1: 2 over 0-3"
    assert ["systemctl", "restart", "node-tuning-wake-up.service"] in machine.calls
    assert ["systemctl", "enable", "chrony.service"] in machine.calls
    assert "server 192.0.2.1 iburst" in (machine.root / "etc/chrony/sources.d/perfci.sources").read_text()
    assert len(node.after) == len(node.before) > 8

    machine.calls.clear()
    again = machine.node(
        wake_up_microseconds="1", time_servers=["192.0.2.1"], irq_cpus="0", card_irqs="spread"
    )
    again.tune("none")
    assert again.after == []
    assert ["systemctl", "start", "chrony.service"] in machine.calls


def test_a_container_has_little_and_says_why(machine):
    record = machine.node(
        smt="off", governor="performance", turbo="on", wake_up_microseconds="1", irq_cpus="0",
        card_irqs="spread", time_servers=["192.0.2.1"], swap="off",
    ).tune("systemd-nspawn")  # fmt: skip
    assert record["swap"] == {"state": "in effect", "value": "off"}
    missing = {name: found["why"] for name, found in record.items() if found["state"] == "not available"}
    assert {"smt", "governor", "turbo", "wake_up", "irq_affinity", "card_irqs", "time"} <= set(missing)
    assert missing["time"] == "a container has the clock of its host"
    assert missing["card_irqs"] == "no network card has interrupts of its own"


def test_nothing_wanted_is_left_alone(machine):
    machine.file(f"{CPUS}/smt/control", "on\n")
    machine.file("proc/irq/7/smp_affinity_list", "2\n")
    node = machine.node()
    record = node.tune("none")
    assert record["smt"] == {"state": "left alone", "value": "on"}
    assert record["irq_affinity"] == {"state": "left alone", "value": "2"}
    assert record["card_irqs"] == {"state": "left alone"}
    assert (machine.calls, node.after) == ([], [])


def test_cards_get_cpus_near_to_them_each_as_many(machine):
    machine.file(f"{CPUS}/online", "0-2,4-7\n")
    machine.card("eno1", [40, 41, 42], "4-7\n")
    machine.card("eno2", [50, 51], "4-7\n")
    machine.card("eno3", [60], "3\n", virtio=True)
    record = machine.node(card_irqs="spread", irq_cpus="0").tune("none")
    assert [machine.irq(number) for number in (40, 41, 42, 50, 51)] == ["4", "5", "6", "7", "4"]
    assert machine.irq(60) == "0", "its own CPU is off: all others are as near"
    assert record["card_irqs"]["value"] == "eno1: 3 over 4-7; eno2: 2 over 4-7; eno3: 1 over 0-2,4-7"


def test_without_spreading_cards_are_devices_as_others(machine):
    machine.card("eno1", [40, 41])
    machine.node(irq_cpus="2").tune("none")
    assert (machine.irq(40), machine.irq(41)) == ("2", "2")


def test_interrupts_that_a_driver_fixed_are_passed_over(machine, monkeypatch):
    machine.card("eno1", [40, 41])
    fixed = machine.root / "proc/irq/40/smp_affinity_list"
    fixed.unlink()
    fixed.symlink_to("/dev/null")
    record = machine.node(card_irqs="spread").tune("none")
    assert record["card_irqs"]["state"] == "in effect"
    assert machine.irq(41) == "1"
    other = machine.root / "proc/irq/41/smp_affinity_list"
    other.unlink()
    other.symlink_to("/dev/null")
    assert machine.node(card_irqs="spread").tune("none")["card_irqs"]["state"] == "not available"


def test_a_clock_that_follows_nobody_is_told(machine):
    machine.file("usr/sbin/chronyd")
    machine.answers["chronyc"] = machine.module.Done(1, "", "")
    record = machine.node(time_servers=["192.0.2.1", "192.0.2.2"]).tune("none")
    assert record["time"]["why"] == "none of these gives the time: 192.0.2.1, 192.0.2.2"


def test_a_unit_that_runs_on_is_told(machine):
    machine.answers["systemctl is-active"] = machine.module.Done(0, "active", "")
    record = machine.node(background_units=["cron.service"]).tune("none")
    assert record["background"] == {"state": "not available", "why": "some units do not stop"}


def test_swap_that_stays_is_told(machine):
    machine.file("proc/swaps", "Filename Type\n/dev/sda2 partition\n")
    machine.answers["swapoff"] = machine.module.Done(1, "", "swapoff: Not permitted")
    assert machine.node(swap="off").tune("none")["swap"]["why"] == "swapoff: Not permitted"


def test_in_check_mode_nothing_is_done(machine):
    machine.file(f"{CPUS}/smt/control", "on\n")
    machine.file("usr/sbin/chronyd")
    machine.file("dev/cpu_dma_latency").write_bytes(struct.pack("i", 5))
    machine.file("proc/swaps", "Filename Type\n/dev/sda2 partition\n")
    machine.card("eno1", [40])
    node = machine.node(
        check=True, smt="off", time_servers=["192.0.2.1"], swap="off", wake_up_microseconds="1",
        background_units=["cron.service"], card_irqs="spread", irq_cpus="0",
    )  # fmt: skip
    record = node.tune("none")
    assert record["smt"]["value"] == "off"
    assert machine.calls == []
    assert (machine.root / f"{CPUS}/smt/control").read_text() == "on\n"
    assert not (machine.root / "etc").exists()
    assert machine.irq(40) == "0-3\n"
    assert "swap: on" in node.before


def test_lists_of_cpus_as_the_kernel_writes_them(module):
    assert module.cpus_of("0-2,8\n") == [0, 1, 2, 8]
    assert module.listed([8, 0, 1, 2]) == "0-2,8"
    assert module.cpus_of("") == []
