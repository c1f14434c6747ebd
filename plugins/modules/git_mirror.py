"""Ansible module: copies of git repositories on the controller, fetched anew, and used as they are where that fails."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.addresses import without_credentials
from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENTATION = r"""
module: git_mirror
short_description: Copies of git repositories on the controller
description:
  - Makes a bare copy of each repository where there is none, and fetches what is new. Where a repository does not
    answer, the copy is used as it is, with a note that says how old it is, as long as it has the wanted revision.
  - Fails where a wanted revision is in no copy.
options:
  folder: {description: Where the copies are kept., type: path, required: true}
  repositories:
    description: What to copy.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: "Name of the copy, such as C(openstack/nova)", type: str, required: true}
      url: {description: Where it is copied from., type: str, required: true}
      ref: {description: "Branch, tag, Gerrit ref or commit that is wanted; left out: none", type: str}
  timeout: {description: How long one git command may take in seconds., type: int, default: 900}
  record: {description: File to write the result to as JSON., type: path}
attributes:
  check_mode:
    support: full
    details: Nothing is fetched; what a revision is now is asked of the address where there is no copy.
  diff_mode:
    support: full
author: [perfci]
"""
EXAMPLES = r"""
- git_mirror:
    folder: /srv/perfci/mirror/git
    repositories: [{name: openstack/nova, url: 'https://opendev.org/openstack/nova', ref: stable/2026.1}]
"""
RETURN = r"""
mirrors:
  description: "By name: path of the copy, url, ref, commit, fetched (ISO 8601), age_hours, problem"
  returned: success
  type: dict
"""

NOTE = "perfci-mirror.json"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_UNKNOWN = re.compile(r"couldn't find remote ref|not our ref|unadvertised object|bad object", re.IGNORECASE)
"""What git says of a revision that a repository which did answer doesn't have."""


class MirrorError(Exception):
    """A revision can't be had; says why."""


def git(*arguments: str, timeout: float) -> str:
    """Run git and return what it printed. Raises MirrorError."""
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    # Copies may belong to another user: it is read with git, and none of its hooks run.
    command = ["git", "-c", "safe.directory=*", "-c", "gc.auto=0", *arguments]
    try:
        done = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            env=environment,
            timeout=timeout,
        )
    except FileNotFoundError as error:
        raise MirrorError("the program git is missing") from error
    except subprocess.TimeoutExpired as error:
        raise MirrorError(f"git did not end within {timeout:.0f} s") from error
    except subprocess.CalledProcessError as error:
        said = [line for line in (error.stderr or error.stdout).strip().splitlines() if line.strip()]
        raise MirrorError(without_credentials(" ".join(said[-3:]))) from error
    return done.stdout


def commit_in(mirror: Path, ref: str, timeout: float, *, of_itself: bool = True) -> str | None:
    """Return the commit that a ref means in a copy; None where it has none.

    `of_itself` counts what was fetched on request, such as a Gerrit change or HEAD, which moves unseen.
    """
    # A branch wins over a tag of the same name, as in git; what was fetched on request is kept below refs/perfci.
    names = [
        f"refs/heads/{ref}",
        f"refs/tags/{ref}",
        *([f"refs/perfci/{ref}"] if of_itself else []),
        *([ref] if _COMMIT.fullmatch(ref) else []),
    ]
    for name in names:
        with contextlib.suppress(MirrorError):
            return git(
                "-C", str(mirror), "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", timeout=timeout
            ).strip()
    return None


def refresh(mirror: Path, url: str, ref: str | None, timeout: float) -> None:
    """Make a copy, or fetch what is new. Raises MirrorError; the copy is then what it was."""
    if not mirror.exists():
        partial = mirror.with_name(f".{mirror.name}.unfinished")
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            git("clone", "--quiet", "--mirror", url, str(partial), timeout=timeout)
            partial.rename(mirror)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    else:
        wanted = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
        git("-C", str(mirror), "fetch", "--quiet", "--prune", url, *wanted, timeout=timeout)
    (mirror / NOTE).write_text(json.dumps({"fetched": time.time(), "url": without_credentials(url)}))
    if ref is not None and commit_in(mirror, ref, timeout, of_itself=False) is None:
        fetch_on_request(mirror, url, ref, timeout)


def fetch_on_request(mirror: Path, url: str, ref: str, timeout: float) -> None:
    """Fetch what is neither a branch nor a tag, such as a change under review. Raises MirrorError."""
    try:
        git("-C", str(mirror), "fetch", "--quiet", url, f"+{ref}:refs/perfci/{ref}", timeout=timeout)
    except MirrorError as error:
        raise MirrorError(unknown(ref)) if _UNKNOWN.search(str(error)) else error from None


def unknown(ref: str) -> str:
    """Say that a repository does not have a revision."""
    return f"there is no branch, tag or commit {ref!r}"


def fetched(mirror: Path, url: str) -> float:
    """Return when a copy was last fetched from there, in seconds since the epoch; 0 where it was from elsewhere."""
    try:
        note = json.loads((mirror / NOTE).read_text())
        return float(note["fetched"]) if note["url"] == without_credentials(url) else 0.0
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0.0


def look(folder: Path, wanted: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Return one copy as it is, without fetching; what it lacks is asked of its address. Raises MirrorError."""
    name, url, ref = wanted["name"], wanted["url"], wanted.get("ref") or None
    mirror = folder / f"{name.removesuffix('.git')}.git"
    commit = commit_in(mirror, ref, timeout) if ref is not None and mirror.exists() else None
    if ref is not None and commit is None:
        lines = git("ls-remote", url, ref, f"{ref}^{{}}", timeout=timeout).splitlines()
        if not lines and not _COMMIT.fullmatch(ref):
            raise MirrorError(f"{without_credentials(url)}: {unknown(ref)}")
        commit = lines[-1].split("\t")[0] if lines else ref
    return told(mirror, url, ref, commit)


def told(mirror: Path, url: str, ref: str | None, commit: str | None, problem: str = "") -> dict[str, Any]:
    """Return what is known of one copy."""
    when = fetched(mirror, url)
    return {
        "path": str(mirror),
        "url": without_credentials(url),
        "ref": ref,
        "commit": commit,
        "fetched": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when)),
        "age_hours": round(max(0.0, time.time() - when) / 3600, 1),
        "problem": problem,
    }


def provide(folder: Path, wanted: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Return one copy, fetched if that is possible. Raises MirrorError where it lacks the wanted revision."""
    name, url, ref = wanted["name"], wanted["url"], wanted.get("ref") or None
    mirror = folder / f"{name.removesuffix('.git')}.git"
    # A commit never changes: where it is there, nobody has to be asked.
    known = (
        commit_in(mirror, ref, timeout)
        if ref is not None and _COMMIT.fullmatch(ref) and mirror.exists()
        else None
    )
    problem = ""
    if known is None:
        try:
            refresh(mirror, url, ref, timeout)
        except MirrorError as error:
            problem = f"{without_credentials(url)}: {error}"
            # What was copied from another address is no copy of this one, though it has the same name.
            if not fetched(mirror, url):
                raise MirrorError(f"{problem}; and there is no copy of {name} yet") from error
    commit = commit_in(mirror, ref, timeout) if ref is not None else None
    if ref is not None and commit is None:
        raise MirrorError(problem or f"{without_credentials(url)}: {unknown(ref)}")
    return told(mirror, url, ref, commit, problem)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let only one of several runs at a time fetch."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def difference(mirrors: dict[str, Any]) -> dict[str, str]:
    """Return a line for each copy."""
    after = "".join(f"{name}: {one['ref'] or 'all'} {one['commit'] or ''}\n" for name, one in mirrors.items())
    return {"before": "", "after": after}


def main() -> None:
    repository = {
        "name": {"type": "str", "required": True},
        "url": {"type": "str", "required": True},
        "ref": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "repositories": {"type": "list", "elements": "dict", "required": True, "options": repository},
            "timeout": {"type": "int", "default": 900},
            "record": {"type": "path"},
        },
        supports_check_mode=True,
    )
    folder, timeout = Path(module.params["folder"]), module.params["timeout"]
    mirrors: dict[str, Any] = {}
    try:
        if module.check_mode:
            mirrors = {one["name"]: look(folder, one, timeout) for one in module.params["repositories"]}
            module.exit_json(changed=True, mirrors=mirrors, diff=difference(mirrors))
        with locked(folder):
            for wanted in module.params["repositories"]:
                mirrors[wanted["name"]] = provide(folder, wanted, timeout)
    except MirrorError as error:
        module.fail_json(msg=str(error))
    if module.params["record"]:
        file = Path(module.params["record"])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(mirrors, indent=1, sort_keys=True) + "\n")
    module.exit_json(changed=True, mirrors=mirrors, diff=difference(mirrors))


if __name__ == "__main__":
    main()
