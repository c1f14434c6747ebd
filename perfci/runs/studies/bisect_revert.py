"""A change taken back on another revision, as a patch: what the second proof of a bisect deploys."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from perfci.changes.errors import GitFailed
from perfci.changes.git import Repository, run_git
from perfci.runs.studies.change_sets import installed_part

if TYPE_CHECKING:
    from perfci.changes.model import Change

_NOBODY = ("-c", "user.name=perfci", "-c", "user.email=perfci@localhost")
_SHOWN = 3
_ITSELF_AND_A_PARENT = 2


class NotRevertedError(Exception):
    """A change can't be taken back; its text says why. That is an answer, not a failure."""


def reverse_patch(repository: Repository, change: Change, head: str) -> str:
    """Return what takes a change back on `head`, of the files that are installed; as `git diff` prints it.

    A merge is taken back against its first parent. The repository itself stays as it is. Raises
    NotRevertedError, GitTooSlow, and GitFailed where the repository is damaged.
    """
    with tempfile.TemporaryDirectory(prefix="perfci-revert-") as scratch:
        folder = Path(scratch) / "work"
        repository.run("clone", "--quiet", "--shared", "--no-checkout", "--no-tags", "--", ".", str(folder))
        work = Repository(repository.name, folder, repository.seconds)
        # A commit that no branch has is not copied; borrowed objects have it.
        work.run("checkout", "--quiet", "--detach", head)
        if not work.is_ancestor(change.commit, head):
            raise NotRevertedError(f"the newest revision of {repository.name} does not have it")
        family = work.run("rev-list", "--parents", "-n", "1", change.commit).split()
        merge = ("-m", "1") if len(family) > _ITSELF_AND_A_PARENT else ()
        try:
            run_git(
                folder, *_NOBODY, "revert", "--no-commit", *merge, change.commit, seconds=repository.seconds
            )
        except GitFailed as error:
            raise NotRevertedError(_why(work, error)) from error
        whole = work.run("diff", "--cached", "--no-renames", "--no-ext-diff", "HEAD", "--")
    kept, _ = installed_part(whole, repository.name)
    if not kept.strip():
        raise NotRevertedError("nothing of it is left in the newest revision")
    if "\ufffd" in kept or "\nGIT binary patch\n" in kept or "\nBinary files " in kept:
        raise NotRevertedError("it changes binary files")
    return kept


def _why(work: Repository, error: GitFailed) -> str:
    """Say which files are in the way; where there are none, what git said."""
    files = work.run("diff", "--name-only", "--diff-filter=U").split("\n")
    torn = [one for one in files if one]
    if not torn:
        return f"git could not revert it: {error.fields['reason']}"
    more = f" and {len(torn) - _SHOWN} more" if len(torn) > _SHOWN else ""
    return f"later changes of {', '.join(torn[:_SHOWN])}{more} are in the way"
