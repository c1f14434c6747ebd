"""Where the simulated BMCs of benchmarks/bmc.py are."""

from __future__ import annotations

from ipaddress import IPv4Address

FIRST = IPv4Address("127.91.0.1")
USERNAME, PASSWORD = "perfci", "s3cret-of-bmc"


def addresses(count: int) -> list[str]:
    """Return the addresses of the BMCs."""
    return [str(FIRST + number) for number in range(count)]
