"""What can go wrong when git is asked which changes there are."""

from __future__ import annotations

from perfci.errors import LabError, ServiceError, UsageError


class RepositoryMissing(LabError):
    """A git repository that perfci needs is missing."""

    template = "no git repository of {name} in {base}"
    help = (
        "Mirror it (docs/bisect.md says how), or set PERFCI_GIT_BASE (or git_base) to a URL or a folder that "
        "has it."
    )


class RevisionUnknown(UsageError):
    """A repository does not know a revision."""

    template = "{name}: no revision {revision!r} in {repository}"
    help = (
        "Name an existing commit, tag or branch. If it existed yesterday, somebody rewrote its branch, "
        "or the copy of the repository is older than the run."
    )


class StepsUnrelated(UsageError):
    """Two steps of the super-repository are not on one line of history."""

    template = "step {old} does not come before step {new}: {reason}"
    help = "Give the older step first. Steps of a branch that was rewritten can't be ordered."


class MomentInvalid(UsageError):
    """One end of a range is not a step, a date or a revision."""

    template = "{text!r} is not a step, a date or a revision: {reason}"
    help = (
        "Give a step (commit of openstack/openstack), a date (2026-11-29 or 2026-11-29T02:15Z), or "
        "PROJECT=REVISION."
    )


class GitTooSlow(ServiceError):
    """A git command exceeded its time limit, and perfci ended it."""

    template = "git {command} in {repository} took longer than {seconds:g} s"
    help = "Check whether the git server answers. The setting git_seconds says how long perfci waits."


class GitFailed(ServiceError):
    """A git command failed."""

    template = "git {command} in {repository} failed: {reason}"
    help = "Run the command by hand: the repository may be damaged, or its server unreachable."
