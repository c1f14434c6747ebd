"""Ansible module: set what makes timings on a node repeatable, and write down what is in effect."""

from __future__ import annotations

import json
import struct
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kernel_files import IN_EFFECT, LEFT_ALONE, NOT_AVAILABLE, outcome
from ansible.module_utils.whole_files import write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DOCUMENTATION = r"""
module: node_tuning
short_description: Set what makes timings on a node repeatable, and write down what is in effect
description:
  - All settings of a node in one task. As a task each, they cost the controller of 200 nodes several minutes.
  - An empty value leaves a setting as it is. Virtual machines and containers lack many settings. That is no failure of this
    module, but an outcome.
options:
  smt: {description: Several threads of a core., type: str, choices: ['', 'on', 'off'], default: ''}
  governor: {description: The governor of all CPUs., type: str, default: ''}
  turbo: {description: Frequencies above the nominal one., type: str, choices: ['', 'on', 'off'], default: ''}
  wake_up_microseconds: {description: The longest time that a CPU may take to wake up., type: str, default: ''}
  transparent_huge_pages: {description: Huge pages without being asked., type: str, default: ''}
  swap: {description: Swap., type: str, choices: ['', 'off'], default: ''}
  numa_balancing: {description: Moving memory between NUMA nodes., type: str, default: ''}
  irq_cpus: {description: CPUs that interrupts of devices go to., type: str, default: ''}
  card_irqs:
    description:
      - C(spread) gives each interrupt of a network card a CPU of its own, those near the card first. Empty, they are treated
        as those of all other devices.
    type: str
    choices: ['', spread]
    default: ''
  time_servers: {description: Servers that the clock follows., type: list, elements: str, default: []}
  time_tries: {description: "How often the clock is asked whether it follows them, once a second", type: int, default: 20}
  background_units: {description: Units that are stopped and masked., type: list, elements: str, default: []}
  wake_up_unit: {description: The unit that keeps CPUs awake., type: str, default: ''}
  record: {description: File with what came of each setting., type: path, required: true}
attributes:
  check_mode:
    support: full
    details: Whether the kernel and systemd take a setting shows only when it is made; here it counts as taken.
  diff_mode: {support: full}
author: [perfci]
"""
EXAMPLES = r"""
- node_tuning:
    governor: performance
    transparent_huge_pages: never
    record: /etc/perfci/tuning.json
"""
RETURN = r"""
virtualization: {description: "What systemd-detect-virt says; C(none) on a real machine", returned: always, type: str}
record:
  description: By setting, C(state) (C(in effect), C(left alone) or C(not available)) with the C(value) found, or with C(why).
  returned: always
  type: dict
"""
CONTAINERS = frozenset(
    {"systemd-nspawn", "docker", "podman", "lxc", "lxc-libvirt", "container-other", "openvz", "wsl"}
)
FIRMWARE = "the kernel does not control the frequency; the firmware or a hypervisor does"
NOT_BUILT = "the kernel was built without it"
WAKE_UP_UNIT = "node-tuning-wake-up.service"
RUN_SECONDS = 120
Outcome = dict[str, str]


@dataclass(frozen=True)
class Done:
    """How a program ended."""

    status: int
    output: str
    complaint: str


def run(words: list[str]) -> Done:
    """Run a program of the node; one that is not there ends with 127."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", check=False, timeout=RUN_SECONDS
        )
    except FileNotFoundError as error:
        return Done(127, "", str(error))
    except subprocess.TimeoutExpired:
        return Done(124, "", f"{words[0]} did not end within {RUN_SECONDS} s")
    return Done(done.returncode, done.stdout.strip(), done.stderr.strip())


@dataclass
class Node:
    """The machine that is tuned; `before` and `after` collect a line for each thing that changes."""

    wanted: dict[str, Any]
    check: bool = False
    root: Path = Path("/")
    run: Callable[[list[str]], Done] = run
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    def path(self, name: str) -> Path:
        """Return a file of the machine."""
        return self.root / name.lstrip("/")

    def changed(self, what: str, before: str, after: str) -> None:
        """Note a difference."""
        self.before.append(f"{what}: {before}")
        self.after.append(f"{what}: {after}")

    def write(self, name: str, text: str) -> bool:
        """Write a file; say whether it was different."""
        different = write(self.path(name), text, 0o644, check=self.check)
        if different:
            self.changed(name, "missing or different", "as wanted")
        return different

    # --- settings that are files ------------------------------------------------------------------------

    def kernel(self, files: list[str], value: str, missing: str, **more: Any) -> Outcome:
        """Bring files of the kernel to a value; nothing that can't be had is an error."""
        patterns = [str(self.path(file)) for file in files]
        given = {"same_as": [], "some": False, **more}
        try:
            setting, difference = outcome(
                {"files": patterns, "value": value, "missing": missing, **given}, check=self.check
            )
        except OSError as error:  # there, but not to be read: as good as missing
            return {"state": NOT_AVAILABLE, "why": f"{error.filename}: {error.strerror}"}
        lines = zip(difference["before"].splitlines(), difference["after"].splitlines(), strict=True)
        for before, after in lines:
            if before != after:
                self.before.append(before)
                self.after.append(after)
        return setting

    def smt(self) -> Outcome:
        """Settle the threads of a core."""
        value = self.wanted["smt"]
        # Without such threads, off is what they are.
        same = ["notsupported", "notimplemented", "forceoff"] if value == "off" else []
        return self.kernel(["/sys/devices/system/cpu/smt/control"], value, NOT_BUILT, same_as=same)

    def turbo(self) -> Outcome:
        """Settle turbo: Intel's driver has a file that says no, the others have one that says yes."""
        value, no_turbo = self.wanted["turbo"], "/sys/devices/system/cpu/intel_pstate/no_turbo"
        negated = self.path(no_turbo).exists()
        file = no_turbo if negated else "/sys/devices/system/cpu/cpufreq/boost"
        number = "" if not value else "1" if (value == "off") == negated else "0"
        found = self.kernel([file], number, FIRMWARE)
        return {**found, "value": value} if found["state"] == IN_EFFECT else found

    # --- interrupts -------------------------------------------------------------------------------------

    def irq_affinity(self) -> Outcome:
        """Settle where interrupts of devices go. Drivers fix those of queues that belong to one CPU each."""
        cards = self.wanted["card_irqs"] and {irq for card in self.cards().values() for irq in card.irqs}
        others = [
            f"/proc/irq/{entry.name}/smp_affinity_list"
            for entry in sorted(self.path("/proc/irq").glob("[0-9]*"))
            if not cards or int(entry.name) not in cards
        ]
        if not others:
            return {"state": NOT_AVAILABLE, "why": f"no /proc/irq/*/smp_affinity_list: {NOT_BUILT}"}
        return self.kernel_all(others, self.wanted["irq_cpus"])

    def kernel_all(self, files: list[str], value: str) -> Outcome:
        """Bring all of these files to a value; some may refuse it, as long as one takes it."""
        found = [self.kernel([file], value, NOT_BUILT) for file in files]
        taken = [one for one in found if one["state"] != NOT_AVAILABLE]
        if not taken:
            return found[0]
        return {"state": taken[0]["state"], "value": ", ".join(sorted({one["value"] for one in taken}))}

    def card_irqs(self) -> Outcome:
        """Spread the interrupts of network cards over the CPUs near to them."""
        cards = self.cards()
        if not self.wanted["card_irqs"]:
            return {"state": LEFT_ALONE}
        if not any(card.irqs for card in cards.values()):
            return {"state": NOT_AVAILABLE, "why": "no network card has interrupts of its own"}
        refused = []
        for irq, cpu in spread(cards.values()).items():
            found = self.kernel([f"/proc/irq/{irq}/smp_affinity_list"], str(cpu), NOT_BUILT)
            if found["state"] == NOT_AVAILABLE:
                refused.append(found["why"])
        told = "; ".join(
            f"{name}: {len(card.irqs)} over {listed(card.cpus)}" for name, card in cards.items() if card.irqs
        )
        if len(refused) == sum(len(card.irqs) for card in cards.values()):
            return {"state": NOT_AVAILABLE, "why": refused[0]}
        return {"state": IN_EFFECT, "value": told}

    def cards(self) -> dict[str, Card]:
        """Return the network cards that are devices, with their interrupts and the CPUs near to them."""
        online = cpus_of(self.text("/sys/devices/system/cpu/online"))
        found = {}
        for interface in sorted(self.path("/sys/class/net").glob("*/device")):
            device = interface.resolve()
            # virtio's network device is a child of the PCI device that has the interrupts.
            folders = [folder / "msi_irqs" for folder in (device, device.parent)]
            irqs = next(
                (sorted(int(one.name) for one in folder.iterdir()) for folder in folders if folder.is_dir()),
                [],
            )
            irqs = [irq for irq in irqs if self.path(f"/proc/irq/{irq}/smp_affinity_list").exists()]
            near = [
                cpu for cpu in cpus_of(read_text(device / "local_cpulist")) if cpu in set(online)
            ] or online
            found[interface.parent.name] = Card(irqs, near)
        return found

    def text(self, name: str) -> str:
        """Return what is in a file, nothing where it is missing."""
        return read_text(self.path(name))

    # --- what programs do -------------------------------------------------------------------------------

    def swap(self) -> Outcome:
        """Switch swap off."""
        if self.wanted["swap"] != "off":
            return {"state": LEFT_ALONE}
        if not self.swaps():
            return {"state": IN_EFFECT, "value": "off"}
        self.changed("swap", "on", "off")
        if self.check:
            return {"state": IN_EFFECT, "value": "off"}
        done = self.run(["swapoff", "--all"])
        if self.swaps():
            return {"state": NOT_AVAILABLE, "why": done.complaint or "it belongs to the host"}
        return {"state": IN_EFFECT, "value": "off"}

    def swaps(self) -> list[str]:
        """Return the swap areas in use."""
        return self.text("/proc/swaps").splitlines()[1:]

    def wake_up(self) -> Outcome:
        """Keep CPUs from deep sleep, by a unit that keeps the kernel's file open."""
        value, device = self.wanted["wake_up_microseconds"], self.path("/dev/cpu_dma_latency")
        if not value:
            return {"state": LEFT_ALONE}
        if not device.exists():
            return {"state": NOT_AVAILABLE, "why": f"there is no {device}: containers have none"}
        new = self.write(f"/etc/systemd/system/{WAKE_UP_UNIT}", self.wanted["wake_up_unit"])
        if self.check:
            return {"state": IN_EFFECT, "value": value}
        self.start(WAKE_UP_UNIT, restart=new)
        with device.open("rb") as source:
            kept = struct.unpack("i", source.read(4))[0]
        if str(kept) == value:
            return {"state": IN_EFFECT, "value": value}
        return {"state": NOT_AVAILABLE, "why": f"the kernel keeps to {kept} us"}

    def start(self, unit: str, *, restart: bool) -> None:
        """Enable a unit and start it."""
        if restart:
            self.run(["systemctl", "daemon-reload"])
        self.run(["systemctl", "enable", unit])
        self.run(["systemctl", "restart" if restart else "start", unit])

    def time(self, virtualization: str) -> Outcome:
        """Let the clock follow the time servers."""
        servers = self.wanted["time_servers"]
        if not servers:
            return {"state": LEFT_ALONE}
        if virtualization in CONTAINERS:
            return {"state": NOT_AVAILABLE, "why": "a container has the clock of its host"}
        if not self.path("/usr/sbin/chronyd").exists():
            return {"state": NOT_AVAILABLE, "why": "chrony is not installed: add it to os_image_packages"}
        text = "".join(f"server {server} iburst\n" for server in servers)
        new = self.write("/etc/chrony/sources.d/perfci.sources", text)
        if self.check:
            return {"state": IN_EFFECT, "value": ", ".join(servers)}
        self.start("chrony.service", restart=new)
        # Until the clock follows them, to a hundredth of a second.
        done = self.run(["chronyc", "waitsync", str(self.wanted["time_tries"]), "0.01", "0", "1"])
        if done.status:
            return {"state": NOT_AVAILABLE, "why": f"none of these gives the time: {', '.join(servers)}"}
        return {"state": IN_EFFECT, "value": ", ".join(servers)}

    def background(self) -> Outcome:
        """Stop what does something at times of its own, and keep it from starting."""
        units = self.wanted["background_units"]
        if not units:
            return {"state": LEFT_ALONE}
        if self.check:
            return {"state": IN_EFFECT, "value": "stopped"}
        # systemctl complains of those that are not installed; what runs afterwards is looked at.
        self.run(["systemctl", "stop", *units])
        masked = self.run(["systemctl", "mask", *units])
        if "Created symlink" in masked.complaint:
            self.changed("background", "may start", "masked")
        states = self.run(["systemctl", "is-active", *units]).output.splitlines()
        running = [state for state in states if state not in {"inactive", "failed", "unknown"}]
        if masked.status == 0 and not running:
            return {"state": IN_EFFECT, "value": "stopped"}
        return {"state": NOT_AVAILABLE, "why": masked.complaint or "some units do not stop"}

    # --- all --------------------------------------------------------------------------------------------

    def tune(self, virtualization: str) -> dict[str, Outcome]:
        """Make all settings; return what came of each. SMT first: CPUs that go take their settings with them."""
        wanted = self.wanted
        return {
            "smt": self.smt(),
            "governor": self.kernel(
                ["/sys/devices/system/cpu/cpufreq/policy*/scaling_governor"], wanted["governor"], FIRMWARE
            ),
            "turbo": self.turbo(),
            "wake_up": self.wake_up(),
            "transparent_huge_pages": self.kernel(
                ["/sys/kernel/mm/transparent_hugepage/enabled"],
                wanted["transparent_huge_pages"],
                "the kernel was built without them",
            ),
            "swap": self.swap(),
            "numa_balancing": self.kernel(
                ["/proc/sys/kernel/numa_balancing"], wanted["numa_balancing"], NOT_BUILT
            ),
            "irq_affinity": self.irq_affinity(),
            "card_irqs": self.card_irqs(),
            "time": self.time(virtualization),
            "background": self.background(),
        }


@dataclass(frozen=True)
class Card:
    """Interrupts of a network card, and the CPUs that are near to it."""

    irqs: list[int]
    cpus: list[int]


def spread(cards: Iterable[Card]) -> dict[int, int]:
    """Return a CPU for each interrupt: of those near to its card the one that has fewest so far."""
    taken: Counter[int] = Counter()
    found = {}
    for card in cards:
        for irq in card.irqs:
            cpu = min(card.cpus, key=lambda one: (taken[one], one))
            taken[cpu] += 1
            found[irq] = cpu
    return found


def cpus_of(text: str) -> list[int]:
    """Return the numbers in a list of CPUs such as `0-3,8`."""
    found: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def listed(cpus: list[int]) -> str:
    """Return CPUs as such a list."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and cpu == parts[-1][1] + 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def read_text(file: Path) -> str:
    """Return what is in a file, nothing where it is missing."""
    try:
        return file.read_text()
    except OSError:
        return ""


def main() -> None:
    texts = ("governor", "wake_up_microseconds", "transparent_huge_pages", "numa_balancing", "irq_cpus")
    module = AnsibleModule(
        argument_spec={
            **{name: {"type": "str", "default": ""} for name in texts},
            "smt": {"type": "str", "choices": ["", "on", "off"], "default": ""},
            "turbo": {"type": "str", "choices": ["", "on", "off"], "default": ""},
            "swap": {"type": "str", "choices": ["", "off"], "default": ""},
            "card_irqs": {"type": "str", "choices": ["", "spread"], "default": ""},
            "time_servers": {"type": "list", "elements": "str", "default": []},
            "time_tries": {"type": "int", "default": 20},
            "background_units": {"type": "list", "elements": "str", "default": []},
            "wake_up_unit": {"type": "str", "default": ""},
            "record": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    node = Node(module.params, check=module.check_mode)
    detected = run(["systemd-detect-virt"])
    if detected.status not in {0, 1}:  # 1: it is a real machine
        module.fail_json(msg=f"systemd-detect-virt: {detected.complaint}")
    try:
        record = node.tune(detected.output)
        text = json.dumps(record, indent=4, sort_keys=True) + "\n"
        node.write(module.params["record"], text)
        if not module.check_mode:
            Path(module.params["record"]).parent.chmod(0o755)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    difference = {name: "".join(f"{line}\n" for line in getattr(node, name)) for name in ("before", "after")}
    module.exit_json(changed=bool(node.after), virtualization=detected.output, record=record, diff=difference)


if __name__ == "__main__":
    main()
