"""Ansible module: what there is on a node after provisioning, and what is different now.

`taken` writes it into a file on the node; `compared` looks again and says in words what differs. Compared are
lasting processes, failed units, Debian packages, files, mounts, sysctls, the network, and the fingerprint that
`node_fingerprint` takes. A node that was started again differs: its tuning is lost.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.whole_files import write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DOCUMENTATION = r"""
module: node_baseline
short_description: What there is on a node after provisioning, and what is different now
description:
  - Changes nothing on the node but the file that it writes with C(state=taken).
options:
  state: {description: What is wanted., type: str, choices: [taken, compared], default: taken}
  file: {description: File on the node with what there was., type: path, default: /etc/perfci/baseline.json}
  mark: {description: "Who took it, such as a run; another mark is a difference", type: str, required: true}
  fingerprint: {description: What node_fingerprint says of the node., type: dict, default: {}}
  ignored: {description: Files and folders that may change., type: list, elements: path, default: []}
  most: {description: How many differences are named., type: int, default: 20}
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
author: [perfci]
"""
EXAMPLES = r"""
- node_baseline: {mark: 20261121T052400Z-nightly-7c3d, fingerprint: "{{ node_fingerprint_result.fingerprint }}"}
- node_baseline: {state: compared, mark: 20261121T052400Z-nightly-7c3d}
  register: found
"""
RETURN = r"""
differences: {description: "What is not as it was, a line each; empty where nothing is", returned: always, type: list}
"""
KTHREADD = 2
"""The process that all of the kernel's own descend from."""
MOUNT_POINT = 4
"""Its field in /proc/self/mountinfo."""
LOOKS, PAUSE_SECONDS = 4, 0.5
"""A process counts that is there at each look: what ends by itself is no leftover."""
VOLATILE = (
    "/dev", "/proc", "/run", "/sys", "/tmp", "/var/cache", "/var/log", "/var/tmp", "/lost+found",  # noqa: S108
    "/etc/.pwd.lock", "/etc/adjtime", "/etc/machine-id", "/etc/resolv.conf", "/root/.ansible", "/root/.bash_history",
    "/root/.cache",
    "/var/lib/apt", "/var/lib/chrony", "/var/lib/dhcp", "/var/lib/libuuid", "/var/lib/logrotate",
    "/var/lib/private", "/var/lib/systemd",
)  # fmt: skip
"""What changes by itself on a machine that nobody uses."""
BY_THE_WAY = ("__pycache__",)
"""Folders that Python makes wherever it is run."""
PASSED_OVER = ("sshd", "(udev-worker")
"""How processes begin that come and go by themselves: logins, and what udevd starts for each device."""
SYSCTLS_OF_THE_KERNEL = (
    "dev.cdrom.info", "fs.aio-nr", "fs.binfmt_misc", "fs.dentry-state", "fs.file-nr", "fs.inode-nr", "fs.inode-state",
    "fs.quota", "kernel.hung_task_detect_count", "kernel.ns_last_pid", "kernel.perf_event_max_sample_rate",
    "kernel.pty.nr", "kernel.random", "kernel.tainted", "net.ipv4.tcp_available_congestion_control",
    "net.ipv4.tcp_available_ulp", "net.ipv4.tcp_fastopen_key", "net.netfilter.nf_conntrack_count", "vm.drop_caches",
    "vm.stat_refresh",
)  # fmt: skip
"""Counters, and what the kernel sets by itself. Looking into fs.binfmt_misc would mount something."""
Network = dict[str, list[str]]


def text(path: Path) -> str:
    """Return a file's content; empty where it can't be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def told(*command: str) -> str:
    """Return what a program prints; nothing where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def process(folder: Path) -> tuple[int, str, str] | None:
    """Return a process's parent, state and name; None where it is gone."""
    line = text(folder / "stat")
    name = line[line.find("(") + 1 : line.rfind(")")]
    fields = line[line.rfind(")") + 2 :].split()
    return (int(fields[1]), fields[0], name) if len(fields) > 1 else None


def running(proc: Path) -> Counter[str]:
    """Return which programs run, and how often, without the kernel's threads and without logins over SSH.

    What an SSH session left behind is no child of it any more, so it is among them.
    """
    known = {int(one.name): process(one) for one in proc.iterdir() if one.name.isdigit()}
    table = {pid: found for pid, found in known.items() if found is not None and found[1] not in "ZX"}

    def passed_over(pid: int) -> bool:
        seen: set[int] = set()
        while pid in table and pid not in seen:
            if pid == KTHREADD or table[pid][2].startswith(PASSED_OVER):
                return True
            seen.add(pid)
            pid = table[pid][0]
        return False

    return Counter(name for pid, (_, _, name) in table.items() if not passed_over(pid))


def lasting(look: Callable[[], Counter[str]], sleep: Callable[[float], None] = time.sleep) -> Counter[str]:
    """Return what is there at each of some looks, as often as at the one with the fewest."""
    found = look()
    for _ in range(LOOKS - 1):
        sleep(PAUSE_SECONDS)
        found &= look()
    return found


def under(path: str, folders: Iterable[str]) -> bool:
    """Tell whether a path is one of these or lies below one."""
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def files(root: Path, ignored: tuple[str, ...]) -> dict[str, str]:
    """Return what there is of each file of the root file system, by its path as the node sees it.

    Of a folder its owner and rights; of a file its size and its time as well; of a link where it leads.
    """
    device = root.lstat().st_dev
    return dict(_below(root, "", device, ignored))


def _below(folder: Path, name: str, device: int, ignored: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        path = f"{name}/{entry.name}"
        if entry.name in BY_THE_WAY or under(path, ignored):
            continue
        try:
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                yield path, f"link to {Path(entry.path).readlink()}"
                continue
        except OSError:
            continue  # gone meanwhile
        rights = f"{found.st_mode:o} {found.st_uid}:{found.st_gid}"
        if not stat.S_ISDIR(found.st_mode):
            yield path, f"{rights} {found.st_size} {found.st_mtime_ns}"
        elif found.st_dev == device:
            yield path, rights
            yield from _below(Path(entry.path), path, device, ignored)


def packages() -> dict[str, str]:
    """Return the version of each Debian package that is installed."""
    form = "${binary:Package} ${Version} ${db:Status-Status}\n"
    lines = told("dpkg-query", "--show", f"--showformat={form}").splitlines()
    rows = (line.removesuffix(" installed").split() for line in lines if line.endswith(" installed"))
    return {row[0]: row[1] for row in rows}


def failed_units() -> list[str]:
    """Return the units of systemd that have failed."""
    lines = told("systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager").splitlines()
    return sorted(line.split()[0] for line in lines if line.split())


def mounts(root: Path) -> list[str]:
    """Return where something is mounted, without what belongs to logins."""
    lines = (line.split() for line in text(root / "proc/self/mountinfo").splitlines())
    places = {line[MOUNT_POINT] for line in lines if len(line) > MOUNT_POINT}
    return sorted(place for place in places if not under(place, ("/run/user", "/run/credentials")))


def sysctls(proc: Path) -> dict[str, str]:
    """Return the value of each setting of the kernel that can be read, by its name as sysctl(8) writes it."""
    return dict(_settings(proc / "sys", ""))


def _settings(folder: Path, name: str) -> Iterator[tuple[str, str]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        part = entry.name.replace(".", "/")
        path = f"{name}.{part}" if name else part
        if path in SYSCTLS_OF_THE_KERNEL:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _settings(Path(entry.path), path)
        elif value := " ".join(text(Path(entry.path)).split()):
            yield path, value


def items(*command: str) -> list[dict[str, Any]]:
    """Return what `ip -json` lists."""
    try:
        found = json.loads(told("ip", "-json", *command) or "[]")
    except ValueError:
        return []
    return [one for one in found if isinstance(one, dict) and one]


def network() -> Network:
    """Return links, addresses, routes, rules, namespaces and filters, without what counts or expires."""
    links = items("-details", "link")
    return {
        "links": sorted(
            " ".join(
                filter(
                    None,
                    (
                        one["ifname"],
                        one.get("linkinfo", {}).get("info_kind", ""),
                        f"mtu {one.get('mtu')}",
                        "up" if "UP" in one.get("flags", ()) else "down",
                        f"in {one['master']}" if "master" in one else "",
                    ),
                )
            )
            for one in links
        ),
        "addresses": sorted(
            f"{one['ifname']} {address['local']}/{address['prefixlen']}"
            for one in items("address")
            for address in one.get("addr_info", ())
            if address["family"] == "inet" or not (address.get("dynamic") or address.get("scope") == "link")
        ),
        "routes": sorted(
            f"{one.get('type', 'unicast')} {one.get('dst')} via {one.get('gateway', '-')} on {one.get('dev')}"
            f" in {one.get('table', 'main')}"
            for one in items("-4", "route", "show", "table", "all")
        ),
        "rules": sorted(
            f"{one.get('priority')} {one.get('src')} {one.get('table')}" for one in items("-4", "rule")
        ),
        "namespaces": sorted(one.name for one in Path("/run/netns").glob("*")),
        "filters": sorted(
            re.sub(r"\s*\[\d+:\d+\]", "", line)
            for program in ("iptables-save", "ip6tables-save")
            for line in told(program).splitlines()
            if line and line[0] in "-:"
        ),
    }


def flat(value: Any, name: str = "") -> dict[str, str]:
    """Return every leaf of nested dictionaries by its place: `network.eno1.mtu`."""
    if not isinstance(value, dict):
        return {name: value if isinstance(value, str) else json.dumps(value, sort_keys=True)}
    found: dict[str, str] = {}
    for key, one in value.items():
        found |= flat(one, f"{name}.{key}" if name else str(key))
    return found


def snapshot(root: Path, ignored: tuple[str, ...], fingerprint: dict[str, Any]) -> dict[str, Any]:
    """Return everything that is compared."""
    return {
        "boot": text(root / "proc/sys/kernel/random/boot_id").strip(),
        "processes": dict(lasting(lambda: running(root / "proc"))),
        "failed": failed_units(),
        "packages": packages(),
        "files": files(root, ignored),
        "mounts": mounts(root),
        "sysctls": sysctls(root / "proc"),
        "network": network(),
        "fingerprint": fingerprint,
    }


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what is not as it was, in words. What ended or was unmounted is no leftover."""
    found = [] if before["boot"] == now["boot"] else ["it was started again"]
    for name, number in sorted((Counter(now["processes"]) - Counter(before["processes"])).items()):
        known = before["processes"].get(name, 0)
        found.append(f"runs now: {name}" + (f", {known + number} times and not {known}" if known else ""))
    found += [f"has failed: {name}" for name in _more(before["failed"], now["failed"])]
    found += [f"mounted now: {place}" for place in _more(before["mounts"], now["mounts"])]
    # A module that is loaded brings new ones; its settings are those that it comes with.
    found += [
        f"sysctl changed: {name} from {value} to {now['sysctls'][name]}"
        for name, value in sorted(before["sysctls"].items())
        if now["sysctls"].get(name, value) != value
    ]
    for part, before_part in before["network"].items():
        found += [f"network: {part} now: {one}" for one in _more(before_part, now["network"][part])]
        found += [f"network: {part} no more: {one}" for one in _more(now["network"][part], before_part)]
    for part, name in (("packages", "package"), ("files", "file"), ("fingerprint", "fingerprint")):
        found += _moved(name, flat(before[part]), flat(now[part]))
    return found


def _more(before: Iterable[str], now: Iterable[str]) -> list[str]:
    return sorted(set(now) - set(before))


def _moved(what: str, before: dict[str, str], now: dict[str, str]) -> list[str]:
    found = [
        f"{what} changed: {one}" for one in sorted(before.keys() & now.keys()) if before[one] != now[one]
    ]
    # A folder says it for all that is in it.
    for word, here, there in (("new", now, before), ("gone", before, now)):
        only = here.keys() - there.keys()
        found += [f"{what} {word}: {one}" for one in sorted(only) if one.rpartition("/")[0] not in only]
    return found


def shortened(found: list[str], most: int) -> list[str]:
    """Return the first of them, and how many more there are."""
    rest = len(found) - most
    return found if rest <= 0 else [*found[:most], f"and {rest} more"]


def compared(file: Path, mark: str, look: Callable[[], dict[str, Any]]) -> list[str]:
    """Return how a node differs from what its file says; it is looked at only where that can be told."""
    try:
        before = json.loads(file.read_text())
        if before["mark"] != mark:
            return [f"it was provisioned meanwhile: {before['mark'] or 'by hand'}"]
        return differences(before, look())
    except FileNotFoundError:
        return ["nothing is known of how it was provisioned"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{file} is damaged: {error}"]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["taken", "compared"], "default": "taken"},
            "file": {"type": "path", "default": "/etc/perfci/baseline.json"},
            "mark": {"type": "str", "required": True},
            "fingerprint": {"type": "dict", "default": {}},
            "ignored": {"type": "list", "elements": "path", "default": []},
            "most": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    given = module.params
    file = Path(given["file"])
    ignored = (*VOLATILE, *(one.rstrip("/") for one in given["ignored"]), str(file))

    def look() -> dict[str, Any]:
        return snapshot(Path("/"), ignored, given["fingerprint"])

    if given["state"] == "compared":
        module.exit_json(differences=shortened(compared(file, given["mark"], look), given["most"]))
    if not module.check_mode:
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, json.dumps({"mark": given["mark"], **look()}), 0o600)
    module.exit_json(changed=True, differences=[])


if __name__ == "__main__":
    main()
