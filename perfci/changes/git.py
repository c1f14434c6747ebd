"""Git, read only: one repository, asked with a time limit, and what it says as plain text.

Programs that git could start (hooks, pagers, prompts, helpers for odd protocols) are switched off, and
references never reach git as options.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfci.changes.errors import GitFailed, GitTooSlow, RevisionUnknown

if TYPE_CHECKING:
    from pathlib import Path

USUAL_SECONDS = 60.0
_OPTIONS = (
    "-c", "core.quotePath=false",
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.fsmonitor=false",
    "-c", "protocol.ext.allow=never",
    "-c", "log.showSignature=false",
    "-c", "safe.directory=*",
)  # fmt: skip
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "SSH_ASKPASS": "true",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    "GIT_PAGER": "cat",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "LC_ALL": "C.UTF-8",
}
_REASON = 300


def run_git(folder: Path, *arguments: str, seconds: float = USUAL_SECONDS) -> str:
    """Return what a git command prints; bytes that are not UTF-8 are replaced.

    Raises GitTooSlow, with all of its processes ended, and GitFailed.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    process = subprocess.Popen(
        ["git", *_OPTIONS, "-C", str(folder), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment, **_ENVIRONMENT},
        start_new_session=True,
    )
    try:
        out, error = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        _end(process)
        raise GitTooSlow(command=arguments[0], repository=folder, seconds=seconds) from None
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        lines = error.decode("utf-8", "replace").strip().splitlines() or [f"exit code {process.returncode}"]
        raise GitFailed(command=arguments[0], repository=folder, reason=lines[-1][:_REASON])
    return out.decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End git with the helpers that it started for its transport."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository on this machine, bare or not; `name` is how people call it."""

    name: str
    folder: Path
    seconds: float = USUAL_SECONDS

    def run(self, *arguments: str) -> str:
        """Return what git prints; raises GitTooSlow and GitFailed."""
        return run_git(self.folder, *arguments, seconds=self.seconds)

    def commit(self, revision: str) -> str:
        """Return the full object name of a commit, tag, branch or Gerrit ref; raises RevisionUnknown."""
        found = self.find(revision)
        if found is None:
            raise RevisionUnknown(name=self.name, revision=revision, repository=self.folder)
        return found

    def find(self, revision: str) -> str | None:
        """Return the full object name of a revision, None where the repository does not have it."""
        if not revision or "\0" in revision:
            return None
        try:
            return self.run(
                "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"
            ).strip()
        except GitFailed:
            self.run("rev-parse", "--git-dir")  # raises where it is the repository that is unknown
            return None

    def is_ancestor(self, old: str, new: str) -> bool:
        """Say whether one commit is among the ancestors of another one, or the same."""
        return self.run("rev-list", "--count", "-n", "1", f"{new}..{old}").strip() == "0"

    def text(self, commit: str, path: str) -> str | None:
        """Return a file at a commit, None where it is not there."""
        try:
            return self.run("cat-file", "blob", f"{commit}:{path}")
        except GitFailed:
            return None
