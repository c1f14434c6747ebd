"""The writes of a night, counted, and what may happen at one of them; see kill_harness.

Nothing here knows a format: points are what the interpreter itself reports (audit events of files and folders),
what is flushed (`os.fsync`), and the beginning and the end of each commit of a database.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sqlite3
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Callable

CHANGES = frozenset({"os.rename", "os.mkdir", "os.truncate", "os.link"})
REMOVALS = frozenset({"os.remove", "os.rmdir"})
FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
ERRORS = {"eio": (5, "Input/output error"), "disk full": (28, "No space left on device")}


def nothing() -> None:
    """Let a point pass."""


@dataclass
class Points:
    """Counts the writes below a folder, and acts at them. One for each process: what it looks at can't be undone."""

    root: str = ""
    act: Callable[[], None] = nothing
    at: int = 0
    """The point at which to act; 0: at each."""
    lasting: bool = False
    """Whether to act at all later ones as well, as a full disk does; there removing something is no point."""
    seen: int = 0
    active: bool = False
    names: list[str] = field(default_factory=list)

    def watch(
        self, root: Path, act: Callable[[], None] = nothing, *, at: int = 0, lasting: bool = False
    ) -> None:
        """Look at another folder, from its first write on."""
        self.root, self.act, self.at, self.lasting = str(root), act, at, lasting
        self.seen, self.names, self.active = 0, [], True

    def reach(self, name: str) -> None:
        """Count a point, and act if it is the one."""
        if not self.active:
            return
        self.seen += 1
        self.names.append(name)
        if self.at in (0, self.seen) or (self.lasting and self.seen > self.at):
            self.act()

    def mine(self, path: Any) -> bool:
        """Tell whether a path is below the folder."""
        try:
            return os.path.abspath(os.fsdecode(path)).startswith(self.root)  # noqa: PTH100 - no pathlib in a hook
        except (TypeError, ValueError):
            return False

    def install(self) -> None:
        """Look at what this process does from now on."""
        sys.addaudithook(self._audited)
        sa.event.listen(sa.Engine, "commit", lambda _connection: self.reach("commit"))
        sa.event.listen(sa.pool.Pool, "reset", lambda *_: self.reach("committed"))
        opened = io.open

        def fsync(_handle: int) -> None:
            # What a process has written survives it without being flushed.
            self.reach("fsync")

        def open_(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            found = opened(file, mode, *args, **options)
            if self.active and set(mode) & set("wax+") and self.mine(file):
                try:
                    self.reach(f"opened {Path(os.fsdecode(file)).name}")
                except BaseException:
                    found.close()
                    raise
            return found

        os.fsync = fsync
        io.open = open_

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = bool(flags & FLAGS) if flags else bool(set(mode or "") & set("wax+"))
            if writes and self.mine(path):
                self.reach(f"open {Path(os.fsdecode(path)).name}")
        elif (event in CHANGES or (event in REMOVALS and not self.lasting)) and self.mine(arguments[0]):
            self.reach(f"{event} {Path(os.fsdecode(arguments[0])).name}")


def fail(kind: str) -> Callable[[], None]:
    """Return what raises the error that a write, or a commit, gets of the disk."""
    number, text = ERRORS[kind]

    def act() -> None:
        caller = sys._getframe(2).f_code.co_name
        if caller == "<lambda>":
            raise sa.exc.OperationalError("COMMIT", None, sqlite3.OperationalError(text))
        raise OSError(number, text)

    return act


class Copier:
    """A process that copies a folder when it is asked to, unless it has made the same copy before.

    It is another process, since closing a file takes SQLite's locks from all of its own process.
    """

    def __init__(self) -> None:
        ours, theirs = os.pipe(), os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(ours[1])
            os.close(theirs[0])
            _copy_for(ours[0], theirs[1])
        os.close(ours[0])
        os.close(theirs[1])
        self._asks, self._answers = os.fdopen(ours[1], "w"), os.fdopen(theirs[0])

    def copy(self, source: Path, target: Path) -> bool:
        """Copy a folder; False where a copy with the same content has been made."""
        self._asks.write(f"{source}\t{target}\n")
        self._asks.flush()
        return self._answers.readline() == "new\n"

    def close(self) -> None:
        """End it."""
        self._asks.close()
        self._answers.close()
        os.waitpid(self._child, 0)


def _copy_for(asks: int, answers: int) -> None:
    known: set[bytes] = set()
    try:
        with os.fdopen(asks) as lines, os.fdopen(answers, "w") as output:
            for line in lines:
                source, target = map(Path, line.rstrip("\n").split("\t"))
                digest = content_of(source)
                if digest not in known:
                    known.add(digest)
                    shutil.copytree(source, target, symlinks=True)
                    output.write("new\n")
                else:
                    output.write("known\n")
                output.flush()
    finally:
        os._exit(0)


def content_of(folder: Path) -> bytes:
    """Return a digest of all that is in a folder."""
    whole = hashlib.sha1(usedforsecurity=False)
    for parent, names, files in os.walk(folder):
        names.sort()
        for name in sorted(files):
            path = os.path.join(parent, name)  # noqa: PTH118 - many files
            data = os.readlink(path).encode() if os.path.islink(path) else Path(path).read_bytes()  # noqa: PTH114, PTH115
            whole.update(f"{path} {len(data)}\n".encode())
            whole.update(data)
        whole.update(f"{parent} {names}\n".encode())
    return whole.digest()
