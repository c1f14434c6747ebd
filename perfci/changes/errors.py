"""What can go wrong when git is asked which changes there are."""

from __future__ import annotations

from perfci.errors import LabError, ServiceError, UsageError


class RepositoryMissing(LabError):
    """A repository that is needed is not where it should be."""

    template = "no git repository of {name} in {base}"
    help = (
        "Mirror it (docs/bisect.md says how), or set PERFCI_GIT_BASE (or git_base) to a URL or a folder that "
        "has it."
    )


class RevisionUnknown(UsageError):
    """A repository does not know a revision."""

    template = "{name}: no revision {revision!r} in {repository}"
    help = (
        "Give a commit, tag or branch that is there. If it was there yesterday, its branch was rewritten, "
        "or the copy of the repository is older than the run."
    )


class StepsUnrelated(UsageError):
    """Two steps of the super-repository do not lie on one line."""

    template = "step {old} does not come before step {new}: {reason}"
    help = "Give the older step first. Steps of a branch that was rewritten can't be ordered."


class MomentInvalid(UsageError):
    """What stands for one end of a range is no step, date or revision."""

    template = "{text!r} is no moment: {reason}"
    help = (
        "Give a step (commit of openstack/openstack), a date (2026-11-29 or 2026-11-29T02:15Z), or "
        "PROJECT=REVISION."
    )


class GitTooSlow(ServiceError):
    """A git command took longer than it may; its processes were ended."""

    template = "git {command} in {repository} took longer than {seconds:g} s"
    help = "Look whether the git server answers. git_seconds in the settings says how long perfci waits."


class GitFailed(ServiceError):
    """A git command failed."""

    template = "git {command} in {repository} failed: {reason}"
    help = "Run it by hand: the repository may be damaged, or its server unreachable."
