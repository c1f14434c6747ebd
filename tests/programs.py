"""The programs that tests and roles run, and the Debian package that brings each.

A test says what it runs: `needs("ping", "iperf3")`. `perfci setup --tests` installs all of it, which
tests/test_programs.py compares with the lists of the roles.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

COMPLETE = "PERFCI_TESTS_COMPLETE"
"""Set by `make test` and `make test-virtual`, which install everything that the tests need."""

_PROGRAMS = {
    "bash": "bash",
    "build-essential": "gcc ld",
    "busybox-static": "busybox",
    "chromium": "chromium",
    "chromium-driver": "chromedriver",
    "chrony": "chronyd",
    "coreutils": "cat chmod chown cp df echo env false id ln ls mkdir mv od rm sleep stat tail timeout touch true truncate uname",
    "dash": "dash sh",
    "debianutils": "which",
    "dnsmasq-base": "dnsmasq",
    "dpkg": "dpkg-query",
    "efibootmgr": "efibootmgr",
    "ethtool": "ethtool",
    "freeipmi-tools": "bmc-info ipmi-chassis ipmi-raw ipmi-sel ipmi-sensors ipmipower",
    "git": "git",
    "grep": "grep",
    "influxdb": "influxd",
    "iperf3": "iperf3",
    "iproute2": "ip ss",
    "ipxe": "/usr/lib/ipxe/ipxe.efi",
    "iputils-ping": "ping",
    "ipmitool": "ipmitool",
    "kmod": "modprobe",
    "libc-bin": "ldconfig localedef",
    "libvirt-daemon": "libvirtd",
    "logrotate": "logrotate",
    "make": "make",
    "mariadb-server": "mariadb mariadb-admin mariadb-dump mariadb-install-db mariadbd mysql",
    "memcached": "memcached",
    "mount": "mount swapoff",
    "nftables": "nft",
    "openipmi": "ipmi_sim",
    "openssh-client": "ssh ssh-keygen",
    "openssl": "openssl",
    "openvswitch-switch": "ovs-appctl ovs-ofctl ovs-vsctl ovs-vswitchd ovsdb-server ovsdb-tool",
    "ovmf": "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "patch": "patch",
    "perl-base": "perl",
    "postgresql": "initdb pg_ctl",
    "procps": "sysctl",
    "python3": "python3",
    "python3-libvirt": "/usr/lib/python3/dist-packages/libvirt.py",
    "qemu-system-x86": "qemu-system-x86_64",
    "qemu-utils": "qemu-img",
    "rabbitmq-server": "rabbitmq-server",
    "systemd": "journalctl systemctl systemd-analyze systemd-detect-virt systemd-run",
    "systemd-container": "systemd-nspawn",
    "tar": "tar",
    "util-linux": "flock nsenter setpriv setsid unshare",
}
_SYSTEM = {"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"}
PACKAGES = {program: package for package, programs in _PROGRAMS.items() for program in programs.split()}
"""Package by program. Files that are no programs stand there with their whole path."""

needs_root = pytest.mark.needs_root
"""Mark of tests that only root can run; others leave them out."""


def needs(*programs: str) -> pytest.MarkDecorator:
    """Return the mark of tests that run these programs.

    They are left out where one is not installed, and fail there if everything should be (COMPLETE).
    """
    unknown = [program for program in programs if program not in PACKAGES]
    assert not unknown, f"tests/programs.py does not say which package brings {', '.join(unknown)}"
    return pytest.mark.needs(*programs)


def require(*programs: str) -> None:
    """Do for a fixture what `needs` does for tests."""
    missing = [program for program in programs if find(program) is None]
    if not missing:
        return
    packages = sorted({PACKAGES[program] for program in missing})
    reason = f"not installed: {', '.join(missing)} (apt-get install {' '.join(packages)})"
    if os.environ.get(COMPLETE):
        pytest.fail(f"{reason}, though `perfci setup --tests` has run here", pytrace=False)
    pytest.skip(reason)


def find(program: str) -> str | None:
    """Return the path of a program; those of the system's administrator and of PostgreSQL are in no user's PATH."""
    if program.startswith("/"):
        return program if Path(program).exists() else None
    folders = [os.environ["PATH"], "/usr/sbin", "/sbin"]
    folders += map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    return shutil.which(program, path=os.pathsep.join(folders))


def path_of(program: str) -> Path:
    """Return the path of a program that is there, as `needs` or `require` has looked."""
    found = find(program)
    assert found, program
    return Path(found)


def beside_python(program: str) -> str:
    """Return the path of a program that pip installed with this Python."""
    return str(Path(sys.executable).with_name(program))


def undeclared(executable: str, path: str | None) -> str | None:
    """Return the name of a program of the system that PACKAGES lacks, None for all others.

    `path` is the PATH by which it is found. What a test wrote and what a virtual environment has is not the system's.
    """
    found = Path(shutil.which(executable, path=path) or "")
    if (
        str(found.parent) not in _SYSTEM
        or found.name in PACKAGES
        or re.fullmatch(r"python3\.\d+", found.name)
    ):
        return None
    return found.name
