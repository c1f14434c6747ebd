"""Git repositories of projects and their super-repository, made with `git fast-import`; no network."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

START = 1_780_000_000
ZUUL = "Zuul <zuul@review.opendev.org>"
AUTHOR = "Ada Example <ada@example.org>"


def git(folder, *arguments, text=None):
    return subprocess.run(
        ["git", "-C", str(folder), *arguments],
        check=True,
        capture_output=True,
        input=text if isinstance(text, bytes) or text is None else text.encode(),
    ).stdout.decode("utf-8", "replace")


def _data(text):
    raw = text if isinstance(text, bytes) else text.encode()
    return b"data %d\n%s\n" % (len(raw), raw)


@dataclass
class Repo:
    """One bare repository with a branch master."""

    folder: Path
    name: str
    head: str | None = None

    def __post_init__(self):
        self.folder.mkdir(parents=True)
        git(self.folder, "init", "--quiet", "--bare", "--initial-branch=master")

    def commit(
        self, message, files, at, *, parents=None, author=AUTHOR, committer=None, ref="refs/heads/master"
    ):
        """Return the new commit; `files` are texts, None to delete, ("160000", commit) for a submodule."""
        parents = ([self.head] if self.head else []) if parents is None else parents
        stream = [f"commit {ref}\nmark :1\nauthor {author} {at} +0000\n".encode()]
        stream.append(f"committer {committer or author} {at} +0000\n".encode())
        stream.append(_data(message))
        stream += [
            f"{'merge' if number else 'from'} {parent}\n".encode() for number, parent in enumerate(parents)
        ]
        for path, content in files.items():
            if content is None:
                stream.append(f"D {path}\n".encode())
            elif isinstance(content, tuple):
                stream.append(f"M {content[0]} {content[1]} {path}\n".encode())
            else:
                stream.append(f"M 100644 inline {path}\n".encode() + _data(content))
        stream.append(b"\nget-mark :1\ndone\n")
        found = git(self.folder, "fast-import", "--quiet", "--force", "--done", text=b"".join(stream)).strip()
        if ref == "refs/heads/master":
            self.head = found
        return found

    def tag(self, name, commit=None):
        git(self.folder, "tag", name, commit or self.head)


def change_id(subject):
    return "I" + hashlib.sha1(subject.encode("utf-8", "replace")).hexdigest()  # noqa: S324


@dataclass
class Landscape:
    """Projects below BASE/openstack, and the super-repository, which gets one step for each merged change."""

    base: Path
    now: int = START
    repos: dict[str, Repo] = field(default_factory=dict)

    def __post_init__(self):
        self.top = Repo(self.base / "openstack" / "openstack", "openstack")
        self.top.commit("Begin", {"README.rst": "all\n"}, self.tick())

    def tick(self, seconds=60):
        self.now += seconds
        return self.now

    def project(self, name, files=None):
        """Add a project with a first commit and a submodule for it."""
        repo = self.repos[name] = Repo(self.base / "openstack" / name, name)
        repo.commit(f"Begin {name}", files or {"setup.cfg": f"[metadata]\nname = {name}\n"}, self.tick())
        self.step({name: repo.head}, f"* Add {name}")
        return repo

    def step(self, moves, message="Update git submodules"):
        files = {name: None if commit is None else ("160000", commit) for name, commit in moves.items()}
        return self.top.commit(message, files, self.tick(), author=ZUUL)

    def change(self, name, files, subject, *, author=AUTHOR, merge=True, trailer=True, step=True):
        """Merge a change as Gerrit does, and add its step; return the commit that the branch got."""
        repo = self.repos[name]
        base, written = repo.head, self.tick()
        message = f"{subject}\n\nWhat it does.\n" + (
            f"\nChange-Id: {change_id(subject)}\n" if trailer else ""
        )
        if merge:
            side = repo.commit(message, files, written, author=author, ref="refs/changes/1/head")
            repo.commit(f'Merge "{subject}"', files, self.tick(), parents=[base, side], author=ZUUL)
        else:
            repo.commit(message, files, written, author=author)
        if step:
            told = message.replace("\n", "\n    ")
            self.step(
                {name: repo.head},
                f"Update git submodules\n\n* Update {name} from branch 'master'\n  to {repo.head}\n"
                f'  - Merge "{subject}"\n  - {told}\n',
            )
        return repo.head

    @property
    def steps(self):
        """All steps, oldest first."""
        return git(self.top.folder, "rev-list", "--first-parent", "--reverse", "master").split()
