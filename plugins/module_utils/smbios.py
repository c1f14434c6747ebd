"""The memory modules of a machine, from the table that its firmware leaves; standard library only.

Format: DMTF DSP0134, System Management BIOS Reference Specification 3.7, sections 6.1 and 7.18.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY_DEVICE = 17
END = 127
_HEADER = struct.Struct("<BBH")
_UNKNOWN_SIZE, _EXTENDED_SIZE = 0xFFFF, 0x7FFF
_IN_KIBIBYTES = 0x8000


def structures(table: bytes) -> Iterator[tuple[int, bytes, list[str]]]:
    """Return each structure's type, formatted area and strings; a broken table ends where it breaks."""
    at = 0
    while at + _HEADER.size <= len(table):
        kind, length, _ = _HEADER.unpack_from(table, at)
        end = table.find(b"\0\0", at + length)
        if length < _HEADER.size or end < 0:
            return
        texts = table[at + length : end].split(b"\0")
        yield kind, table[at : at + length], [text.decode("latin-1").strip() for text in texts]
        if kind == END:
            return
        at = end + 2


def memory_modules(table: bytes) -> list[dict[str, Any]]:
    """Return slot, size in MiB, speeds in MT/s, maker and part number of each module; no serial numbers."""
    found = []
    for kind, area, texts in structures(table):
        size = _size_mib(area) if kind == MEMORY_DEVICE else 0
        if size:
            found.append(
                {
                    "slot": _text(area, 0x10, texts),
                    "mebibytes": size,
                    "rated_mts": _word(area, 0x15),
                    "configured_mts": _word(area, 0x20),
                    "maker": _text(area, 0x17, texts),
                    "part": _text(area, 0x1A, texts),
                }
            )
    return sorted(found, key=lambda module: str(module["slot"]))


def _size_mib(area: bytes) -> int:
    size = _word(area, 0x0C)
    if size == _UNKNOWN_SIZE:
        return 0
    if size == _EXTENDED_SIZE and len(area) >= 0x1C + 4:
        return int(struct.unpack_from("<L", area, 0x1C)[0]) & 0x7FFFFFFF
    return (size & ~_IN_KIBIBYTES) // 1024 if size & _IN_KIBIBYTES else size


def _word(area: bytes, offset: int) -> int:
    return int(struct.unpack_from("<H", area, offset)[0]) if len(area) >= offset + 2 else 0


def _text(area: bytes, offset: int, texts: list[str]) -> str:
    number = area[offset] if len(area) > offset else 0
    return texts[number - 1] if 0 < number <= len(texts) else ""
