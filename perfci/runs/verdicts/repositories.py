"""The git repositories of a lab: below `git_base`, or copies of them in the state folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perfci.changes.clones import Clones, copy
from perfci.changes.errors import RepositoryMissing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perfci.config import Settings

FOLDER = "git"
"""Where the copies are, below the state folder."""


def repositories(settings: Settings, *, fresh: Iterable[str] = ()) -> Clones:
    """Return the repositories; of a server, those of `fresh` are copied or brought up to date first.

    A folder of mirrors is read as it is. Raises RepositoryMissing without `git_base`, GitTooSlow, GitFailed.
    """
    base = settings.git_base
    if base is None:
        raise RepositoryMissing(name="openstack/openstack", base="git_base, which is not set")
    if base.startswith("/"):
        return Clones(Path(base), settings.git_seconds)
    folder = settings.state_dir / FOLDER
    for project in fresh:
        copy(base, project, folder, seconds=settings.git_seconds)
    return Clones(folder, settings.git_seconds)


def address(settings: Settings, project: str, clones: Clones) -> str:
    """Return what a deployment fetches a project from: its mirror's folder, or its URL."""
    base = settings.git_base or ""
    if base.startswith("/"):
        return str(clones.get(project).folder)
    return f"{base.rstrip('/')}/openstack/{project}"
