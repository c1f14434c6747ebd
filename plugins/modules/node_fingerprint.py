"""Ansible module: what of a machine's hardware, firmware and kernel a measurement depends on. Changes nothing.

Only what stays the same over a reboot, and only what can change a timing: no counters, no serial
numbers, no MAC or IP addresses, no names that depend on the order in which devices were found.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.smbios import memory_modules

DOCUMENTATION = r"""
module: node_fingerprint
short_description: What of a machine's hardware, firmware and kernel a measurement depends on
description:
  - Taken twice of an unchanged machine it is the same, also after a reboot.
options:
  tuning: {description: File with the record of the role node_tuning., type: path, default: /etc/perfci/tuning.json}
author: [perfci]
"""
EXAMPLES = r"""
- node_fingerprint:
  register: found
"""
RETURN = r"""
fingerprint: {description: "Machine, firmware, kernel, CPU, memory, network, disks, settings, tuning", returned: always, type: dict}
digest: {description: 12 hex digits of SHA-256 over its canonical JSON., returned: always, type: str}
"""
DIGITS = 12
GIB = 1024**3
BOOT_DEPENDENT = ("BOOT_IMAGE", "BOOTIF", "initrd", "root", "resume", "systemd.machine_id")
"""Words of the kernel's command line that a new installation changes and no timing depends on."""
DMI = {
    "vendor": "sys_vendor",
    "product": "product_name",
    "version": "product_version",
    "board_vendor": "board_vendor",
    "board": "board_name",
    "board_version": "board_version",
}
FIRMWARE = {
    "vendor": "bios_vendor",
    "version": "bios_version",
    "date": "bios_date",
    "release": "bios_release",
    "controller_release": "ec_firmware_release",
}
SETTINGS = {
    "frequency_driver": "sys/devices/system/cpu/cpufreq/policy*/scaling_driver",
    "governor": "sys/devices/system/cpu/cpufreq/policy*/scaling_governor",
    "no_turbo": "sys/devices/system/cpu/intel_pstate/no_turbo",
    "boost": "sys/devices/system/cpu/cpufreq/boost",
    "smt": "sys/devices/system/cpu/smt/control",
    "idle_driver": "sys/devices/system/cpu/cpuidle/current_driver",
    "idle_governor": "sys/devices/system/cpu/cpuidle/current_governor",
    "clock": "sys/devices/system/clocksource/clocksource0/current_clocksource",
    "transparent_huge_pages": "sys/kernel/mm/transparent_hugepage/enabled",
    "numa_balancing": "proc/sys/kernel/numa_balancing",
}
"""Settings of the kernel as they are now, whoever made them."""


def text(path: Path) -> str:
    """Return a file's content without white space around it; empty where it can't be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def known(fields: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the machine does not tell."""
    return {name: value for name, value in fields.items() if value not in ("", None, [], {})}


def chosen(value: str) -> str:
    """Return the chosen one of `always [madvise] never`, or the value itself."""
    found = re.search(r"\[([^\]]+)\]", value)
    return found[1] if found else value


def machine(root: Path) -> dict[str, Any]:
    """Return who built the machine, and whether it is one."""
    dmi = {name: text(root / "sys/class/dmi/id" / file) for name, file in DMI.items()}
    return known({**dmi, "virtualization": virtualization()})


def virtualization() -> str:
    """Return `none`, or what kind of virtual machine or container this is."""
    try:
        done = subprocess.run(
            ["systemd-detect-virt"], capture_output=True, text=True, errors="replace", check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()


def firmware(root: Path) -> dict[str, Any]:
    """Return whose firmware it is, its version, and how it booted the machine."""
    dmi = {name: text(root / "sys/class/dmi/id" / file) for name, file in FIRMWARE.items()}
    return known({**dmi, "boot": "uefi" if (root / "sys/firmware/efi").exists() else "bios"})


def kernel(root: Path) -> dict[str, Any]:
    """Return the kernel's version and build, and its command line without what depends on the installation."""
    words = text(root / "proc/cmdline").split()
    line = [word for word in words if word.partition("=")[0] not in BOOT_DEPENDENT]
    return known(
        {
            "release": text(root / "proc/sys/kernel/osrelease"),
            "build": text(root / "proc/sys/kernel/version"),
            "command_line": line,
        }
    )


def cpu(root: Path) -> dict[str, Any]:
    """Return model, microcode, flags, topology, caches and how the kernel works around its faults."""
    first: dict[str, str] = {}
    for line in text(root / "proc/cpuinfo").partition("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        first[name.strip()] = value.strip()
    folder = root / "sys/devices/system/cpu"
    return known(
        {
            "architecture": platform.machine(),
            "model": first.get("model name"),
            "signature": "-".join(first.get(name, "?") for name in ("cpu family", "model", "stepping")),
            "microcode": first.get("microcode"),
            "flags": sorted(first.get("flags", "").split()),
            "online": text(folder / "online"),
            "isolated": text(folder / "isolated"),
            "sockets": len(topology(folder, "physical_package_id")),
            "cores": len(topology(folder, "physical_package_id", "core_id")),
            "caches": caches(folder / "cpu0" / "cache"),
            "numa_nodes": {
                path.name: text(path / "cpulist")
                for path in (root / "sys/devices/system/node").glob("node[0-9]*")
            },
            "mitigations": {path.name: text(path) for path in (folder / "vulnerabilities").glob("*")},
        }
    )


def topology(folder: Path, *fields: str) -> set[tuple[str, ...]]:
    """Return the different values of these fields over all CPUs that are online."""
    found = {tuple(text(path / name) for name in fields) for path in folder.glob("cpu[0-9]*/topology")}
    return {values for values in found if any(values)}


def caches(folder: Path) -> list[str]:
    """Return the caches of one CPU, such as `L2 Unified 1024K`."""
    parts = ([text(path / name) for name in ("level", "type", "size")] for path in folder.glob("index[0-9]*"))
    return sorted(f"L{level} {kind} {size}" for level, kind, size in parts)


def memory(root: Path) -> dict[str, Any]:
    """Return the memory in GiB, and the modules that it consists of (only root may read those)."""
    try:
        table = (root / "sys/firmware/dmi/tables/DMI").read_bytes()
    except OSError:
        table = b""
    return known({"gibibytes": installed(root), "modules": memory_modules(table)})


def installed(root: Path) -> float:
    """Return the memory in GiB.

    Counted in the kernel's blocks: MemTotal differs by some pages from boot to boot.
    """
    folder = root / "sys/devices/system/memory"
    size = text(folder / "block_size_bytes")
    if size:
        online = [path for path in folder.glob("memory[0-9]*") if text(path / "state") in ("online", "")]
        return round(len(online) * int(size, 16) / GIB, 2)
    lines = text(root / "proc/meminfo").splitlines()
    return float(
        next((round(int(line.split()[1]) / 1024**2) for line in lines if line.startswith("MemTotal:")), 0)
    )


def network(root: Path) -> dict[str, Any]:
    """Return each real network card by its interface's name."""
    cards = sorted(path.parent for path in (root / "sys/class/net").glob("*/device"))
    return {path.name: card(path) for path in cards}


def card(path: Path) -> dict[str, Any]:
    """Return what one network card is, and how it is set."""
    said = driver_information(path.name)
    is_up = text(path / "carrier") == "1"
    return known(
        {
            "device": ":".join(text(path / "device" / name) for name in ("vendor", "device")).strip(":"),
            "driver": driver(path / "device"),
            "driver_version": said.get("version"),
            "firmware": said.get("firmware-version"),
            "mtu": text(path / "mtu"),
            # Without a link, the kernel has leftovers here, or an error.
            "speed_mbits": text(path / "speed") if is_up else "no link",
            "duplex": text(path / "duplex") if is_up else "",
            "offloads": offloads(path.name),
        }
    )


def driver(device: Path) -> str:
    """Return the name of a device's driver."""
    link = device / "driver"
    return link.resolve().name if link.exists() else ""


def driver_information(interface: str) -> dict[str, str]:
    """Return what `ethtool -i` says; empty without ethtool."""
    return {name: value for name, value in told("ethtool", "-i", interface) if value}


def offloads(interface: str) -> list[str]:
    """Return the work that the card does in place of the CPU; empty without ethtool."""
    return sorted(name for name, value in told("ethtool", "-k", interface) if value.split()[:1] == ["on"])


def told(*command: str) -> list[tuple[str, str]]:
    """Return the `name: value` lines that a program prints; nothing where it is missing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError:
        return []
    pairs = (line.partition(":") for line in done.stdout.splitlines())
    return [(name.strip(), value.strip()) for name, _, value in pairs]


def disks(root: Path) -> list[dict[str, Any]]:
    """Return each real disk, in an order that does not depend on their names: those change from boot to boot."""
    found = [disk(path.parent) for path in (root / "sys/block").glob("*/device")]
    return sorted(found, key=lambda one: json.dumps(one, sort_keys=True))


def disk(path: Path) -> dict[str, Any]:
    """Return what one disk is, and how requests are queued for it."""
    device, queue = path / "device", path / "queue"
    return known(
        {
            "maker": text(device / "vendor"),
            "model": text(device / "model"),
            "firmware": text(device / "firmware_rev") or text(device / "rev"),
            "driver": driver(device),
            "bytes": int(text(path / "size") or 0) * 512,
            "rotational": text(queue / "rotational"),
            "scheduler": chosen(text(queue / "scheduler")),
            "requests": text(queue / "nr_requests"),
            "read_ahead_kibibytes": text(queue / "read_ahead_kb"),
            "write_cache": text(queue / "write_cache"),
        }
    )


def settings(root: Path) -> dict[str, Any]:
    """Return the settings of the kernel that timings depend on, as they are now."""
    found = {
        name: ", ".join(sorted({chosen(text(path)) for path in root.glob(pattern)}))
        for name, pattern in SETTINGS.items()
    }
    swaps = text(root / "proc/swaps").splitlines()[1:]
    return known({**found, "swap": "on" if swaps else "off"})


def tuning(path: Path) -> dict[str, str]:
    """Return what node_tuning wrote down, without its reasons; empty for a machine that was not tuned."""
    try:
        record = json.loads(path.read_text())
        return {
            name: ": ".join(filter(None, (one["state"], one.get("value")))) for name, one in record.items()
        }
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return {}


def fingerprint(root: Path, record: Path) -> dict[str, Any]:
    """Return everything."""
    return {
        "machine": machine(root),
        "firmware": firmware(root),
        "kernel": kernel(root),
        "cpu": cpu(root),
        "memory": memory(root),
        "network": network(root),
        "disks": disks(root),
        "settings": settings(root),
        "tuning": tuning(record),
    }


def digest(value: Any) -> str:
    """Return the digest over a value's canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:DIGITS]


def main() -> None:
    module = AnsibleModule(
        argument_spec={"tuning": {"type": "path", "default": "/etc/perfci/tuning.json"}},
        supports_check_mode=True,
    )
    found = fingerprint(Path("/"), Path(module.params["tuning"]))
    module.exit_json(fingerprint=found, digest=digest(found))


if __name__ == "__main__":
    main()
