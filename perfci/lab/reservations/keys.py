"""SSH keys of people: which lines are public keys, and what they are called. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING

from perfci.lab.errors import ReservationInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable

TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
"""Kinds of keys that OpenSSH 9 accepts; DSA is none of them."""
MOST_KEYS = 20
LONGEST_KEY = 4000
"""Characters; an RSA key of 16,384 bits has 2,800."""
KEYS_CHANGED = "keys"
"""The event of a reservation whose keys were changed."""
KEYS_SET = "keys set"
"""The event of a reservation whose machines have the keys that it has."""
_LENGTH_BYTES = 4


def check_keys(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the keys of lines as in `~/.ssh/id_ed25519.pub`, each once. Empty lines are left out.

    Options in front of a key (`command=...`) are refused. Raises ReservationInvalid, which does not repeat
    the line: people paste private keys by mistake.
    """
    found: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if len(line) > LONGEST_KEY or not line.strip().isprintable() or _blob(line) is None:
            reason = f"SSH key {number}: expected one line such as `ssh-ed25519 AAAA... name`"
            raise ReservationInvalid(reason=reason)
        found[line.strip()] = None
        if len(found) > MOST_KEYS:
            raise ReservationInvalid(reason=f"a reservation may have {MOST_KEYS} SSH keys")
    return tuple(found)


def fingerprint(key: str) -> str:
    """Return what `ssh-keygen -l` calls a key that `check_keys` returned, with its comment."""
    digest = hashlib.sha256(_blob(key) or b"").digest()
    comment = key.split(maxsplit=2)[2:]
    return " ".join(["SHA256:" + base64.b64encode(digest).decode().rstrip("="), *comment])


def _blob(line: str) -> bytes | None:
    """Return the key itself, as RFC 4253, 6.6 lays it out; None where the line is none."""
    kind, _, rest = line.strip().partition(" ")
    if kind not in TYPES or not rest.strip():
        return None
    try:
        blob = base64.b64decode(rest.split()[0], validate=True)
    except (binascii.Error, ValueError):
        return None
    named = len(kind).to_bytes(_LENGTH_BYTES, "big") + kind.encode()
    return blob if blob.startswith(named) and len(blob) > len(named) + _LENGTH_BYTES else None
