"""Tell whether this machine's libvirt answers and can run servers this way.

usage: can_run.py VIRT_TYPE (kvm or qemu), with Debian's own Python, which has libvirt's binding.
"""

from __future__ import annotations

import sys

import libvirt


def main() -> int:
    try:
        connection = libvirt.open("qemu:///system")
        connection.getDomainCapabilities(virttype=sys.argv[1])
    except libvirt.libvirtError as error:
        print(f"libvirt: {error}; see logs/libvirtd.log", file=sys.stderr)
        return 1
    connection.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
