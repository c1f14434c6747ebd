"""Ask a server for the time (`time ADDRESS`) or for a name (`name ADDRESS NAME EXPECTED`), as nodes do.

Ends with 0 and the answer, or with 1 and why there was none.
"""

import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Callable

SECONDS = 2
NTP_PORT, DNS_PORT = 123, 53
EPOCH = 2208988800
"""1970 in the seconds of NTP, which count from 1900 (RFC 5905)."""
CLIENT = 0x23
"""Version 4, mode 3 (RFC 5905, 7.3)."""
UNSYNCHRONISED = 16
A, IN, RECURSE = 1, 1, 0x0100


def asked(address: str, port: int, question: bytes) -> bytes:
    """Return the answer to one packet. Raises OSError."""
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET  # noqa: PLR2004
    with socket.socket(family, socket.SOCK_DGRAM) as wire:
        wire.settimeout(SECONDS)
        wire.connect((address, port))
        wire.send(question)
        return wire.recv(4096)


def time(address: str, port: int = NTP_PORT) -> str:
    """Return the server's time in seconds since 1970. Raises OSError, or ValueError for one that has none."""
    answer = asked(address, port, bytes([CLIENT]) + bytes(47))
    if len(answer) < 48 or not 0 < answer[1] < UNSYNCHRONISED:  # noqa: PLR2004
        raise ValueError("its clock is not set")
    return str(struct.unpack("!I", answer[40:44])[0] - EPOCH)


def name(address: str, wanted: str, expected: str, port: int = DNS_PORT) -> str:
    """Return the address of a name. Raises OSError, or ValueError for another answer (RFC 1035)."""
    number = os.urandom(2)
    labels = b"".join(bytes([len(part)]) + part.encode() for part in wanted.split(".")) + b"\0"
    question = number + struct.pack("!5H", RECURSE, 1, 0, 0, 0) + labels + struct.pack("!2H", A, IN)
    answer = asked(address, port, question)
    packed = ipaddress.IPv4Address(expected).packed
    if answer[:2] != number or answer[3] & 0x0F or packed not in answer[len(question) :]:
        raise ValueError(f"it does not say that {wanted} is {expected}")
    return expected


QUESTIONS: dict[str, Callable[..., str]] = {"time": time, "name": name}

if __name__ == "__main__":
    try:
        print(QUESTIONS[sys.argv[1]](*sys.argv[2:]))
    except (OSError, ValueError, IndexError) as error:
        print(error)
        sys.exit(1)
