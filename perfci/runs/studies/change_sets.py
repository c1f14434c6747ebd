"""What `perfci try` puts on a job: a revision, a folder, a patch, a pin, or an option of a service.

Both sides are made exact before anything runs, so that they can be told apart and run again: branches become
commits, patches are copied below the state folder under their digest.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from perfci.changes.errors import GitFailed
from perfci.changes.git import Repository, run_git
from perfci.errors import UsageError
from perfci.files import write_whole
from perfci.runs.ansible.lab_playbooks import CONSTRAINTS_VARIABLE
from perfci.runs.jobs.clouds import SERVICES
from perfci.runs.jobs.sources import Source
from perfci.runs.studies.pins import CONSTRAINTS, check, keep_copy, moved
from perfci.runs.verdicts.one_moment import at_one_moment
from perfci.runs.verdicts.repositories import address, repositories
from perfci.validation import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perfci.config import Settings
    from perfci.runs.jobs.model import Job

FOLDER = "try"
"""Where patches and moved pins are kept, below the state folder."""
_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_OPTION = re.compile(r"^(?P<service>[a-z]+):(?P<section>[\w.:-]+)\.(?P<option>\w+)=(?P<value>[^\r\n]*)$")
_FILE = re.compile(r"^(?=diff --git )", re.MULTILINE)
_PATH = re.compile(r'^diff --git "?a/(?P<old>\S+)"? "?b/(?P<new>\S+?)"?$', re.MULTILINE)
_DIGITS = 12


class ChangeInvalid(UsageError):
    """The change can't be applied to the job."""

    template = "{change!r}: {reason}"
    help = (
        "Give `neutron=` with a revision, a folder or a patch file; for a pin, `neutron==34.0.0` or "
        "`oslo.db==18.0`; with --set and --against, `nova:DEFAULT.option=value`."
    )


@dataclass(frozen=True, slots=True)
class Sides:
    """A job without and with what is tried; `notes` say what they are, in sentences for people."""

    old: Job
    new: Job
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Desk:
    """Where both jobs are made."""

    settings: Settings
    old: Job
    new: Job
    notes: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.settings.state_dir / FOLDER

    def change(self, text: str) -> None:
        """Put one `--change` on the new side, and its base under both. Raises ChangeInvalid."""
        name, equals, value = text.partition("=")
        if not equals or not value.strip("="):
            raise ChangeInvalid(change=text, reason="the name has no value")
        if value.startswith("="):
            self._pin(name, value[1:])
            return
        if name not in SERVICES:
            raise ChangeInvalid(change=text, reason=f"no service {name!r}; {nearest(name, SERVICES)}")
        path = Path(value).expanduser()
        if path.is_file():
            self._patch(text, name, path)
        elif path.is_dir():
            self._folder(text, name, path.resolve())
        elif path.suffix in (".patch", ".diff"):
            raise ChangeInvalid(change=text, reason="there is no such file")
        else:
            self._revision(text, name, value)

    def option(self, text: str, *, new: bool) -> None:
        """Set an option of a service on one side. Raises ChangeInvalid."""
        found = _OPTION.match(text)
        if found is None:
            raise ChangeInvalid(change=text, reason="expected SERVICE:SECTION.OPTION=VALUE")
        service = found["service"]
        if service not in SERVICES:
            raise ChangeInvalid(change=text, reason=f"no service {service!r}; {nearest(service, SERVICES)}")
        job = self.new if new else self.old
        if job.cloud.kind == "devstack":
            raise ChangeInvalid(change=text, reason="clouds by devstack take no options this way")
        variable = f"{service}_options"
        known = job.cloud.variables.get(variable)
        sections: dict[str, dict[str, object]] = {}
        if isinstance(known, dict):
            sections = {name: dict(one) for name, one in known.items() if isinstance(one, dict)}
        sections.setdefault(found["section"], {})[found["option"]] = found["value"]
        self._vary(variable, sections, new=new, old=not new)
        self.notes.append(f"{'new' if new else 'old'} side: {text}")

    def _pin(self, name: str, version: str) -> None:
        if name in SERVICES:
            self._code(name, Source(version=version), new=True)
            self.notes.append(f"new side: the release {version} of {name}")
            return
        known = self.new.cloud.variables.get(CONSTRAINTS_VARIABLE)
        file = Path(str(known)) if known else self.settings.root_dir / CONSTRAINTS
        move = moved(file.read_text(encoding="utf-8"), name, version, file)
        check(self.settings.root_dir, move, self.settings.state_dir / "cache" / "uv")
        self._vary(CONSTRAINTS_VARIABLE, str(keep_copy(self.folder, move.text)), new=True, old=False)
        self.notes.append(f"new side: {move.name} {move.before} -> {version}")

    def _patch(self, text: str, name: str, path: Path) -> None:
        whole = path.read_text(encoding="utf-8", errors="surrogateescape")
        kept, left_out = installed_part(whole, name)
        if not kept.strip():
            raise ChangeInvalid(change=text, reason=f"it changes nothing that is installed of {name}")
        digest = hashlib.sha256(kept.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]
        copy = self.folder / f"{digest}.patch"
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_whole(copy, kept)
        source: Source = getattr(self.new.sources, name) or Source()
        self._code(name, source.model_copy(update={"patches": (*source.patches, str(copy))}), new=True)
        self.notes.append(f"new side: {path.name} on {name}")
        if left_out:
            self.notes.append(f"{path.name}: left out files that are not installed: {', '.join(left_out)}")

    def _folder(self, text: str, name: str, path: Path) -> None:
        repository = Repository(name, path, self.settings.git_seconds)
        try:
            head = repository.find("HEAD")
        except GitFailed:
            head = None
        if head is None:
            raise ChangeInvalid(change=text, reason="the folder is not a git repository with a commit")
        if repository.run("status", "--porcelain", "--untracked-files=no").strip():
            raise ChangeInvalid(
                change=text,
                reason="the folder has changes that are not committed: commit them, or give a patch",
            )
        self._both(name, str(path), repository, head)

    def _revision(self, text: str, name: str, value: str) -> None:
        source: Source | None = getattr(self.new.sources, name)
        if source is not None and source.git is not None and source.git.startswith("/"):
            url = source.git
            repository = Repository(name, Path(url), self.settings.git_seconds)
        else:
            clones = repositories(self.settings, fresh=(name,))
            url, repository = address(self.settings, name, clones), clones.get(name)
        commit = repository.find(value)
        if commit is None and not (self.settings.git_base or "/").startswith("/"):
            repository.run("fetch", "--quiet", "origin", "--", value)
            commit = repository.find("FETCH_HEAD")
        if commit is None:
            raise ChangeInvalid(change=text, reason=f"no revision {value!r} in {url}")
        self._both(name, url, repository, commit)

    def _both(self, name: str, url: str, repository: Repository, commit: str) -> None:
        """Deploy a commit on the new side, and on the old one what it was made on."""
        source: Source = getattr(self.old.sources, name) or Source()
        base = source.ref if source.git is not None else None
        start = _merge_base(repository, base, commit) if base is not None else None
        if start is None:
            start = repository.find(f"{commit}^1")
        if start is None:
            start = commit  # a first commit has nothing before it
        what = source.model_copy(update={"version": None, "git": url})
        self._code(name, what.model_copy(update={"ref": start}), new=False)
        self._code(name, what.model_copy(update={"ref": commit}), new=True)
        if base is not None and start != base:
            self.notes.append(f"{commit[:10]} is not on top of the job's {name}: both sides have its base")
        self.notes.append(f"old side: {name} {start[:10]}; new side: {name} {commit[:10]}")

    def _code(self, name: str, source: Source, *, new: bool) -> None:
        job = self.new if new else self.old
        changed = job.model_copy(update={"sources": job.sources.model_copy(update={name: source})})
        self.new, self.old = (changed, self.old) if new else (self.new, changed)

    def _vary(self, variable: str, value: object, *, new: bool, old: bool) -> None:
        def varied(job: Job) -> Job:
            variables = {**job.cloud.variables, variable: value}
            cloud = job.cloud.model_copy(update={"variables": variables})
            return job.model_copy(update={"cloud": cloud})

        self.new = varied(self.new) if new else self.new
        self.old = varied(self.old) if old else self.old


def sides_of(
    settings: Settings,
    job: Job,
    *,
    changes: Iterable[str] = (),
    options: Iterable[str] = (),
    against: Iterable[str] = (),
) -> Sides:
    """Return a job without and with changes (`--change`) and options (`--set`, `--against` for the old side).

    Raises ChangeInvalid, and what git and the pins raise.
    """
    exact = exact_commits(at_one_moment(job, settings)[0], settings)
    desk = _Desk(settings, exact, exact)
    for one in changes:
        desk.change(one)
    for one in options:
        desk.option(one, new=True)
    for one in against:
        desk.option(one, new=False)
    if desk.old == desk.new:
        raise ChangeInvalid(change=job.name, reason="both sides would be the same")
    return Sides(desk.old, desk.new, tuple(desk.notes))


def installed_part(patch: str, service: str) -> tuple[str, tuple[str, ...]]:
    """Return the part of a patch that touches the service's package, and which files it touches beside it.

    Tests are in the package; documents, release notes and the files of the repository's root are not
    installed, so that a patch of them would not apply. A patch that is not git's is taken as it is.
    """
    parts = _FILE.split(patch)
    if len(parts) == 1:
        return patch, ()
    kept, left_out = [], []
    for part in parts[1:]:
        found = _PATH.search(part)
        path = found["new"] if found else ""
        if path.startswith(f"{service}/"):
            kept.append(part)
        else:
            left_out.append(path)
    return "".join(kept), tuple(left_out)


def exact_commits(job: Job, settings: Settings) -> Job:
    """Return the job with a commit in place of each branch or tag."""
    found: dict[str, Source] = {}
    for service in SERVICES:
        source: Source | None = getattr(job.sources, service)
        if source is not None and source.git is not None and not _COMMIT.match(source.ref or ""):
            found[service] = source.model_copy(update={"ref": _commit_of(source, settings)})
    return job.model_copy(update={"sources": job.sources.model_copy(update=found)})


def _commit_of(source: Source, settings: Settings) -> str:
    printed = run_git(
        settings.root_dir, "ls-remote", "--", source.git or "", source.ref or "", seconds=settings.git_seconds
    )
    names = {name: commit for commit, _, name in (line.partition("\t") for line in printed.splitlines())}
    ref = source.ref or ""
    for name in (ref, f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}"):
        if name in names:
            return names[name]
    raise ChangeInvalid(change=ref, reason=f"no such branch or tag in {source.git}")


def _merge_base(repository: Repository, one: str, other: str) -> str | None:
    try:
        return repository.run("merge-base", one, other).strip() or None
    except GitFailed:
        return None
