"""Where the repositories are: in a folder of mirrors, or as copies of those on a server.

A copy is bare and has no file contents until they are asked for; it is made whole or not at all, and
brought up to date with a time limit. A server that hangs costs that time and nothing else: what was copied
before still answers.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from perfci.changes.errors import GitFailed, RepositoryMissing
from perfci.changes.git import USUAL_SECONDS, Repository, run_git
from perfci.files import move

ORGANISATION = "openstack"
_PROJECT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")


@dataclass(slots=True)
class Clones:
    """The repositories below a folder: `openstack/neutron` or `neutron`, with or without `.git`."""

    base: Path
    seconds: float = USUAL_SECONDS
    _known: dict[str, Repository | None] = field(default_factory=dict)

    def find(self, project: str) -> Repository | None:
        """Return a project's repository, None where there is none."""
        if project not in self._known:
            self._known[project] = self._look(project)
        return self._known[project]

    def get(self, project: str) -> Repository:
        """Return a project's repository; raises RepositoryMissing."""
        found = self.find(project)
        if found is None:
            raise RepositoryMissing(name=project, base=self.base)
        return found

    def _look(self, project: str) -> Repository | None:
        if not _PROJECT.match(project):
            return None
        for parent in (self.base / ORGANISATION, self.base):
            for folder in (parent / project, parent / f"{project}.git"):
                if _is_repository(folder):
                    return Repository(project, folder, self.seconds)
        return None


def _is_repository(folder: Path) -> bool:
    return (folder / ".git").exists() or ((folder / "HEAD").is_file() and (folder / "objects").is_dir())


def copy(url: str, project: str, folder: Path, *, seconds: float = USUAL_SECONDS) -> Repository:
    """Copy `URL/openstack/PROJECT` to `FOLDER/openstack/PROJECT.git`, or bring the copy up to date.

    Raises GitTooSlow and GitFailed; the copy is then as it was before.
    """
    if not _PROJECT.match(project):
        raise RepositoryMissing(name=repr(project), base=url)
    target = folder / ORGANISATION / f"{project}.git"
    if _is_repository(target):
        run_git(target, "fetch", "--quiet", "--prune", "--tags", "--force", "origin", seconds=seconds)
        return Repository(project, target, seconds)
    target.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{project}-", dir=target.parent))
    try:
        source = f"{url.rstrip('/')}/{ORGANISATION}/{project}"
        run_git(new, "clone", "--quiet", "--mirror", "--", source, str(new / "git"), seconds=seconds)
        with contextlib.suppress(OSError):  # somebody else was faster, and it is as good
            move(new / "git", target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    if not _is_repository(target):
        raise GitFailed(command="clone", repository=target, reason="the copy did not arrive")
    return Repository(project, target, seconds)
