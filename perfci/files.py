"""Files that are whole or not there, and locks that end with their process.

Everything that perfci keeps goes through here: a reader sees the old file or the new one, never a half,
also after a kill or a power cut at any moment.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


GONE = ".gone-"
"""How the name of a folder begins that is being removed."""
_SCRATCH = re.compile(r"^\..+\.\d+$")


def write_whole(path: Path, content: str | bytes, *, durable: bool = True, private: bool = False) -> None:
    """Replace a file; on return its content is on the disk. A file that is there keeps its mode.

    Where that fails, the old file is as it was. With `durable=False` the disk may still be behind on return:
    for many files that are synced together, or that can be made again. With `private` nobody else can read
    it at any time, though its folder may be anybody's. Raises OSError.
    """
    data = content.encode() if isinstance(content, str) else content
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with _open_private(scratch) if private else scratch.open("wb") as target:
            target.write(data)
            if durable:
                target.flush()
                os.fsync(target.fileno())
        if not private:
            with suppress(FileNotFoundError):
                shutil.copymode(path, scratch)
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def _open_private(path: Path) -> BinaryIO:
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def put_in_place(scratch: Path, path: Path) -> None:
    """Name a file that something else wrote; on return its content is on the disk. Raises OSError."""
    _sync(scratch)
    scratch.replace(path)
    sync_folder(path.parent)


def move(source: Path, target: Path) -> Path:
    """Rename a file or folder within its file system, and return it; the name is on the disk then.

    `target` is no folder with something in it. Raises OSError.
    """
    moved = source.rename(target)
    sync_folder(target.parent)
    return moved


def write_json(path: Path, value: object) -> None:
    """Replace a file with JSON, indented and sorted. Raises OSError; TypeError for what is not JSON."""
    write_whole(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def remove_scratch(folder: Path) -> None:
    """Remove the files in a folder that a kill left half written."""
    for path in folder.iterdir():
        if _SCRATCH.match(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Put the names in a folder on the disk, so that a rename lasts through a power cut."""
    _sync(path)


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder; `target`, which must not exist, appears with all of it on the disk, or not at all.

    What a kill leaves has a name that begins with a dot, and is removed by the next copy to `target`.
    Raises OSError, and leaves nothing then.
    """
    scratch = target.with_name(f".{target.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        shutil.copytree(source, scratch)
        for parent, _, names in os.walk(scratch):
            for name in (*names, "."):
                _sync(os.path.join(parent, name))  # noqa: PTH118 - os.walk gives strings
        scratch.rename(target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    sync_folder(target.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it: first its name, then its content.

    A kill in between leaves a folder named `.gone-NAME`, which is nobody's. A missing folder stays missing.
    """
    gone = path.with_name(f"{GONE}{path.name}")
    shutil.rmtree(gone, ignore_errors=True)
    try:
        path.rename(gone)
    except FileNotFoundError:
        return
    shutil.rmtree(gone, ignore_errors=True)


class LockedElsewhere(Exception):
    """Another process, or another part of this one, holds the lock."""


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file alone; the kernel ends the lock with the process, however that dies.

    Makes the file and its folder. Without `wait` raises LockedElsewhere where somebody holds the lock.
    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _open(path) as handle:
        _lock(handle, fcntl.LOCK_EX, wait=wait)
        yield


@contextmanager
def shared(path: Path) -> Iterator[Shared]:
    """Hold a lock file together with others who share it; see Shared. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _open(path) as handle:
        _lock(handle, fcntl.LOCK_SH, wait=True)
        yield Shared(handle)


class Shared:
    """A lock that is held together with others."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def alone(self) -> bool:
        """Keep all others out, where nobody else shares the lock; else give it up. Return which it was."""
        try:
            _lock(self._handle, fcntl.LOCK_EX, wait=False)
        except LockedElsewhere:
            return False
        return True


def hold_folder(path: Path) -> int | None:
    """Lock a folder itself, for as long as this process lives or until the returned handle is closed.

    The lock stays with the folder when it is renamed. None where its file system locks no folders, or
    somebody holds it.
    """
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def folder_is_held(path: Path) -> bool:
    """Tell whether a process holds a folder (`hold_folder`); also where that can't be told."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _sync(path: Path | str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _open(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
    try:
        yield handle
    finally:
        os.close(handle)


def _lock(handle: int, kind: int, *, wait: bool) -> None:
    try:
        fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LockedElsewhere from error
