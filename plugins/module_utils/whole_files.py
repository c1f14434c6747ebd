"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write(path: Path, content: str, mode: int, *, check: bool = False) -> bool:
    """Write a file atomically; say whether it was different before. With `check` only say so."""
    data = content.encode()
    if path.is_file() and path.read_bytes() == data and path.stat().st_mode & 0o777 == mode:
        return False
    if check:
        return True
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as target:
        os.fchmod(target.fileno(), mode)
        target.write(data)
    Path(name).replace(path)
    return True
