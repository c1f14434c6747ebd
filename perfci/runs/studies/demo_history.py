"""The repositories of `perfci demo --bisect`: releases as first commits, then changes merged as a gate does.

Code comes from the pinned releases' source archives. The changes are made here; one of them is slow.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perfci.changes.git import run_git
from perfci.changes.super_repository import SUPER
from perfci.errors import ServiceError
from perfci.files import move
from perfci.runs.studies.pins import CONSTRAINTS, read_pins

if TYPE_CHECKING:
    from pathlib import Path

    from perfci.config import Settings

PROJECTS = ("keystone", "neutron")
SLOW_FILE = "neutron/plugins/ml2/plugin.py"
_FIRST, _NEXT = "            net_data = []\n", "            for net in nets_db:\n"
"""Between these two lines of neutron's list of networks goes what makes it slow."""
_SLOW = """            import sqlalchemy
            one = sqlalchemy.text("SELECT id, name FROM networks WHERE id = :id")
            for number in range(500):
                context.session.execute(one, {"id": str(number)}).all()
"""
SUBJECT = "Read each network's name afresh"
_BRANCH = "master"
_DOWNLOAD_SECONDS = 300
_LEFT_OUT = ("doc", "releasenotes", "api-ref", "tests", "locale")
"""Folders of a release that nothing needs which runs."""


class DemoSourceMissing(ServiceError):
    """The source archive of a release is not available, or is not the one that the demo knows."""

    template = "the source of {name} {version} can't be used: {reason}"
    help = "The demo takes it from pip's package index. Try again when the index answers."


@dataclass(slots=True)
class DemoHistory:
    """Bare repositories below `base`/openstack; `culprit` is the slow change's commit once it is merged."""

    base: Path
    scratch: Path
    heads: dict[str, str] = field(default_factory=dict)
    culprit: str = ""

    def begin(self, settings: Settings) -> str:
        """Make the repositories from the pinned releases; return the first step with all of them."""
        pins = read_pins((settings.root_dir / CONSTRAINTS).read_text(encoding="utf-8"))
        self._work(SUPER)
        for name in PROJECTS:
            folder = self._work(name)
            source = self._released(name, pins[name])
            for path in source.iterdir():
                move(path, folder / path.name)
            self._commit(name, f"Release {pins[name]}")
            self._push(name)
        return self._step("Begin")

    def merge_all(self) -> int:
        """Merge eight harmless changes, one slow one, and one of documents; return how many."""
        for number in range(1, 5):
            self.merge("keystone", {f"keystone/common/demo_{number}.py": f"NUMBER = {number}\n"})
            if number == 3:  # noqa: PLR2004 - somewhere in the middle
                plugin = self.scratch / "neutron" / SLOW_FILE
                text = plugin.read_text(encoding="utf-8")
                if text.count(_FIRST + _NEXT) != 1:
                    raise DemoSourceMissing(name="neutron", version="", reason=f"{SLOW_FILE} is another one")
                slow = text.replace(_FIRST + _NEXT, _FIRST + _SLOW + _NEXT)
                self.culprit = self.merge("neutron", {SLOW_FILE: slow}, SUBJECT)
                self.merge("neutron", {"doc/source/demo.rst": "Words\n"}, "Write about it")
            self.merge("neutron", {f"neutron/common/demo_{number}.py": f"NUMBER = {number}\n"})
        return 10

    def merge(self, name: str, files: dict[str, str], subject: str = "") -> str:
        """Merge one change as a gate does, with a step of its own; return what the branch got."""
        folder = self.scratch / name
        subject = subject or f"Add {next(iter(files))}"
        self._git(name, "checkout", "-q", "-b", "change")
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        self._commit(name, f"{subject}\n\nChange-Id: I{hashlib.sha1(subject.encode()).hexdigest()}")  # noqa: S324 - Gerrit's form
        self._git(name, "checkout", "-q", _BRANCH)
        self._git(name, "merge", "-q", "--no-ff", "-m", f'Merge "{subject}"', "change")
        self._git(name, "branch", "-q", "-D", "change")
        self._push(name)
        self._step(
            f"Update git submodules\n\n* Update {name} from branch 'master'\n  - Merge \"{subject}\"\n"
        )
        return self.heads[name]

    def _work(self, name: str) -> Path:
        bare, folder = self.base / "openstack" / name, self.scratch / name
        for one in (bare, folder):
            one.mkdir(parents=True)
        run_git(bare, "init", "-q", "--bare", f"--initial-branch={_BRANCH}")
        run_git(folder, "init", "-q", f"--initial-branch={_BRANCH}")
        run_git(folder, "remote", "add", "origin", str(bare))
        return folder

    def _git(self, name: str, *arguments: str) -> str:
        who = ("-c", "user.name=Demo Author", "-c", "user.email=demo@localhost.localdomain")
        return run_git(self.scratch / name, *who, *arguments)

    def _commit(self, name: str, message: str) -> None:
        self._git(name, "add", "-A", "-f")
        self._git(name, "commit", "-q", "-m", message)

    def _push(self, name: str) -> None:
        self._git(name, "push", "-q", "origin", _BRANCH)
        self.heads[name] = self._git(name, "rev-parse", "HEAD").strip()

    def _step(self, message: str) -> str:
        for name in PROJECTS:
            self._git(SUPER, "update-index", "--add", "--cacheinfo", f"160000,{self.heads[name]},{name}")
        self._git(SUPER, "commit", "-q", "-m", message)
        self._git(SUPER, "push", "-q", "origin", _BRANCH)
        return self._git(SUPER, "rev-parse", "HEAD").strip()

    def _released(self, name: str, version: str) -> Path:
        """Return the unpacked source of a release. Raises DemoSourceMissing."""
        folder = self.scratch / "releases"
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-build-isolation"]
        command += ["--no-binary", name, "-d", str(folder), f"{name}=={version}"]
        told = {"name": name, "version": version}
        try:
            subprocess.run(
                command, check=True, capture_output=True, text=True, errors="replace",
                stdin=subprocess.DEVNULL, timeout=_DOWNLOAD_SECONDS,
            )  # fmt: skip
            (archive,) = folder.glob(f"{name}-{version}.tar.*")
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
        except subprocess.CalledProcessError as error:
            raise DemoSourceMissing(**told, reason=error.stderr.strip()[-300:]) from error
        except (subprocess.TimeoutExpired, tarfile.TarError, ValueError, OSError) as error:
            raise DemoSourceMissing(**told, reason=str(error)) from error
        source = folder / f"{name}-{version}"
        for one in _LEFT_OUT:
            for place in (source / one, source / name / one):
                shutil.rmtree(place, ignore_errors=True)
        for made in source.glob("*.egg-info"):
            shutil.rmtree(made)
        return source
