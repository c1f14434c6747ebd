"""Booting from the network as the firmware of an nspawn node does it: DHCP, then the boot script over HTTP.

The node asks as iPXE does, so that the controller answers it as it answers a machine: with the address of
an iPXE script. From that script one thing is needed: the address from which the ramdisk would be told what to
do. The protocol behind that address is the one of `roles/deploy_ramdisk/files/deploy.sh`, which is run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HOOK = Path(__file__).with_name("udhcpc.sh")
"""What udhcpc calls with the lease in its environment."""
RAMDISK = Path("roles/deploy_ramdisk/files")
"""The scripts of the deploy ramdisk, in the project's folder."""
PXE_CLIENT = "PXEClient:Arch:00000:UNDI:002001"
"""The vendor class of a BIOS that boots from the network; PXE specification 2.1, table 2-1."""
IPXE_OPTIONS = ("-x", "77:69505845", "-x", "175:010101")
"""User class "iPXE", and one of iPXE's own options: what it says of itself; see ipxe.org/howto/dhcpd."""
FETCH_SECONDS = 10
MAX_CHAIN = 4
"""How many scripts may lead to one another."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What DHCP said."""

    address: str
    boot_file: str
    """URL of the boot script, or a file name for TFTP; empty where the server named none."""

    @classmethod
    def parse(cls, text: str) -> Lease:
        """Read what the hook wrote: lines of NAME=VALUE."""
        fields = dict(line.partition("=")[::2] for line in text.splitlines())
        return cls(address=fields.get("ip", ""), boot_file=fields.get("boot_file", ""))


@dataclass(frozen=True, slots=True)
class Script:
    """What a boot script leads to: a system to be told what to do, another script, or neither."""

    url: str = ""
    chain: str = ""


def dhcp(interface: str, attempts: int = 6) -> list[str]:
    """Return the command that asks for an address; it ends once there is one, or none."""
    wait = ["-q", "-n", "-f", "-t", str(attempts), "-T", "1"]
    ask = ["-V", PXE_CLIENT, "-O", "bootfile", *IPXE_OPTIONS]
    return ["busybox", "udhcpc", "-i", interface, "-s", str(HOOK), *wait, *ask]


def fetch(url: str, file: Path) -> list[str]:
    """Return the command that fetches a file over HTTP; Debian's wget crashes when it is given -T."""
    return ["timeout", str(FETCH_SECONDS), "busybox", "wget", "-q", "-O", str(file), url]


def expand(text: str, mac: str) -> str:
    """Put the node's MAC address where iPXE would: `${mac}`, `${net0/mac:hexhyp}`; see ipxe.org/cfg/mac."""
    forms: Mapping[str | None, str] = {None: mac, "hexhyp": mac.replace(":", "-"), "hex": mac}
    return re.sub(r"\$\{(?:net0/|netX/)?mac(?::(\w+))?\}", lambda found: forms.get(found[1], mac), text)


def read_script(lines: Iterable[str], mac: str) -> Script:
    """Return what an iPXE script leads to: the first of its commands that decides it."""
    for line in lines:
        words = expand(line.strip(), mac).split()
        if not words or words[0].startswith("#"):
            continue
        for word in words:
            name, _, value = word.partition("=")
            if name == "perfci.url":
                return Script(url=value)
        if words[0] == "chain":
            return Script(chain=next((word for word in words[1:] if not word.startswith("-")), ""))
        if words[0] in {"exit", "sanboot", "poweroff", "reboot", "shell"}:
            return Script()
    return Script()
