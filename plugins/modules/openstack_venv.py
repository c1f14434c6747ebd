"""Ansible module: a virtual environment with OpenStack's code, from wheels, git revisions and patches."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.addresses import without_credentials
from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

DOCUMENTATION = r"""
module: openstack_venv
short_description: A virtual environment with OpenStack's code
description:
  - Environments are kept under a key, the digest over the constraints, the sources and the patches. One that is
    complete is used again. One that a killed deployment left half made is made again.
  - A new one begins as a copy of the one that was used last, with hard links. Only packages that differ are installed.
  - They may be moved, as their programs find Python beside themselves.
options:
  folder: {description: Where the environments are kept., type: path, required: true}
  constraints: {description: File with the exact version of every package., type: path, required: true}
  requirements: {description: What is installed beside the services., type: list, elements: str, default: []}
  sources:
    description: >-
      By service: an empty dictionary for the pinned wheel, C(version) for another wheel, C(git) and C(ref) for a
      revision, C(patches) for files to apply on top.
    type: dict
    default: {}
  changes: {description: "By service: what else is put on top of the code, for the record", type: dict, default: {}}
  uv: {description: The program uv., type: str, default: uv}
  python: {description: The interpreter., type: str, default: /usr/bin/python3}
  keep: {description: How many environments are kept., type: int, default: 4}
  record: {description: File to write the record of the code to., type: path}
attributes:
  check_mode:
    support: full
    details: Nothing is installed; of an environment that is missing the versions are those that were asked for.
  diff_mode:
    support: full
author: [perfci]
"""
EXAMPLES = r"""
- openstack_venv:
    folder: /srv/perfci/venvs
    constraints: constraints.txt
    sources: {neutron: {git: 'https://opendev.org/openstack/neutron', ref: master}}
"""
RETURN = r"""
venv: {description: Path of the environment., returned: success, type: str}
key: {description: Its key., returned: success, type: str}
services: {description: Which code of each service is in it., returned: success, type: list}
"""

DISTRIBUTIONS = {
    "keystone": "keystone",
    "placement": "openstack-placement",
    "glance": "glance",
    "nova": "nova",
    "neutron": "neutron",
}
"""Services whose code can be under test, and what their packages are called."""
KNOWN_FIELDS = frozenset({"version", "git", "ref", "patches"})
COMPLETE = ".complete"
LOCK = "lock.txt"
"""The exact packages of an environment, as uv resolved them."""
PATCHED = ".patched"
WITHOUT_HISTORY = {"SKIP_GENERATE_AUTHORS": "1", "SKIP_WRITE_GIT_CHANGELOG": "1"}
"""pbr would write the whole history of a repository into two files of its wheel, which takes longer than the rest."""
KEY_DIGITS = 16


class CodeError(Exception):
    """The code can't be had as it was asked for; says what to correct."""


def pins(constraints: str) -> dict[str, str]:
    """Return the versions of a constraints file by normalised name."""
    found = {}
    for line in constraints.splitlines():
        name, equals, version = line.partition("#")[0].strip().partition("==")
        if equals:
            found[_normal(name)] = version.strip()
    return found


def check(sources: Mapping[str, Any]) -> None:
    """Raise CodeError for what can't be a source."""
    for service, wanted in sources.items():
        if service not in DISTRIBUTIONS:
            raise CodeError(
                f"openstack_sources: unknown service {service!r}; known: {', '.join(DISTRIBUTIONS)}"
            )
        if not isinstance(wanted, dict):
            raise CodeError(f"openstack_sources.{service}: expected a dictionary, got {wanted!r}")
        if unknown := set(wanted) - KNOWN_FIELDS:
            raise CodeError(
                f"openstack_sources.{service}: unknown field {', '.join(sorted(unknown))}; "
                f"known: {', '.join(sorted(KNOWN_FIELDS))}"
            )
        if "git" in wanted and "version" in wanted:
            raise CodeError(f"openstack_sources.{service}: give either git or version, not both")
        if "ref" in wanted and "git" not in wanted:
            raise CodeError(f"openstack_sources.{service}: ref needs git, the address of the repository")


def resolve(
    sources: Mapping[str, Any], pinned: Mapping[str, str], commit_of: Any
) -> dict[str, dict[str, Any]]:
    """Return for each service what exactly is installed: requirement, source, revision, patches.

    `commit_of(url, ref)` returns the full commit. A patch is a dictionary of name, path and digest.
    Raises CodeError.
    """
    check(sources)
    code = {}
    for service, distribution in DISTRIBUTIONS.items():
        wanted = sources.get(service) or {}
        if "git" in wanted:
            commit = commit_of(wanted["git"], str(wanted.get("ref") or "HEAD"))
            url = wanted["git"] if "://" in wanted["git"] else f"file://{Path(wanted['git']).resolve()}"
            entry = {
                "requirement": f"{distribution} @ git+{url}@{commit}",
                "source": without_credentials(wanted["git"]),
                "revision": commit,
            }
        else:
            version = str(wanted.get("version") or pinned[distribution])
            entry = {"requirement": f"{distribution}=={version}", "source": "wheel", "revision": version}
        code[service] = {**entry, "patches": [_patch(service, path) for path in wanted.get("patches") or []]}
    return code


def key_of(
    code: Mapping[str, Mapping[str, Any]], constraints: str, requirements: Iterable[str], python: str
) -> str:
    """Return the digest under which an environment with this code is kept."""
    parts = {
        "code": {
            service: [entry["source"], entry["revision"], [patch["digest"] for patch in entry["patches"]]]
            for service, entry in code.items()
        },
        "constraints": sorted(
            f"{n}=={v}" for n, v in pins(constraints).items() if n not in DISTRIBUTIONS.values()
        ),
        "requirements": sorted(requirements),
        "python": python,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:KEY_DIGITS]


def commit_of(url: str, ref: str) -> str:
    """Return the full commit that a branch, a tag or a commit means. Raises CodeError."""
    if re.fullmatch(r"[0-9a-f]{40}", ref):
        return ref
    found = {}
    for line in run(["git", "ls-remote", url, ref, f"{ref}^{{}}"]).splitlines():
        commit, _, name = line.partition("\t")
        found[name] = commit
    # A branch wins over a tag of the same name, as in git; an annotated tag stands for its commit.
    for name in (ref, f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/{ref}"):
        if name in found:
            return found[name]
    raise CodeError(
        f"{without_credentials(url)} has no branch or tag {ref!r}; give one of those, or a full commit (40 digits)"
    )


def run(command: list[str], **kwargs: Any) -> str:
    """Run a command and return its output. Raises CodeError with what it said."""
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", **WITHOUT_HISTORY}
    try:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            env=environment,
            **kwargs,
        )
    except FileNotFoundError as error:
        raise CodeError(f"the program {command[0]} is missing") from error
    except subprocess.CalledProcessError as error:
        said = without_credentials((error.stderr or error.stdout).strip()[-4000:])
        raise CodeError(f"{Path(command[0]).name} {command[1]} failed: {said}") from error
    return done.stdout


def unshare(folder: Path) -> None:
    """Give every file of a folder its own copy: uv links them with its cache and so with other environments."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_nlink > 1:
            copy = path.with_name(f".{path.name}.copy")
            shutil.copy2(path, copy)
            copy.replace(path)


def apply_patches(site: Path, code: Mapping[str, Mapping[str, Any]], python: Path) -> None:
    """Apply the patches of each service in this environment, and nowhere else. Raises CodeError."""
    for service, entry in code.items():
        if not entry["patches"]:
            continue
        unshare(site / service)
        for patch in entry["patches"]:
            command = ["patch", "-p1", "--batch", "--forward", "-d", str(site), "-i", patch["path"]]
            try:
                run(command)
            except CodeError as error:
                raise CodeError(
                    f"openstack_sources.{service}: {patch['path']} does not apply to {entry['requirement']}: {error}"
                ) from error
        run([str(python), "-m", "compileall", "-q", str(site / service)])


def make(
    venv: Path, code: Mapping[str, Mapping[str, Any]], constraints: str, params: Mapping[str, Any]
) -> None:
    """Make an environment; the mark that it is complete comes last. Raises CodeError."""
    if venv.exists():
        shutil.rmtree(venv)
    uv = str(params["uv"])
    wanted_python = str(params["python"])
    begin = template(venv.parent, run([wanted_python, "--version"]).split()[1])
    if begin:
        shutil.copytree(begin, venv, symlinks=True, copy_function=os.link, ignore=own_files)
    else:
        run([uv, "venv", "-q", "--no-project", "--relocatable", "--python", wanted_python, str(venv)])
    services = set(DISTRIBUTIONS.values())
    limits = [
        line for line in constraints.splitlines() if _normal(line.partition("==")[0].strip()) not in services
    ]
    (venv / "constraints.txt").write_text("\n".join(limits) + "\n")
    wanted = [*(entry["requirement"] for entry in code.values()), *params["requirements"]]
    (venv / "requirements.txt").write_text("\n".join(wanted) + "\n")
    python = venv / "bin" / "python"
    lock = venv / LOCK
    common = ["-q", "--python", str(python)]
    given = [str(venv / "requirements.txt"), "-c", str(venv / "constraints.txt")]
    run([uv, "pip", "compile", *common, "--no-header", "--no-annotate", *given, "-o", str(lock)])
    # It removes what the copy has and this code does not need.
    run([uv, "pip", "sync", *common, "--compile-bytecode", str(lock)])
    if any(entry["patches"] for entry in code.values()):
        (venv / PATCHED).touch()
    apply_patches(_site(venv), code, python)
    (venv / COMPLETE).touch()


def own_files(_folder: str, names: list[str]) -> set[str]:
    """Return what a copy of an environment must not have: its mark first of all, as half a copy is none."""
    own = {COMPLETE, LOCK, "constraints.txt", "requirements.txt"}
    return own & set(names) if COMPLETE in names else set()


def template(folder: Path, python: str) -> Path | None:
    """Return the environment of this Python that was used last and that a new one may begin as.

    One with patches is none: uv does not see what was changed in a package. One without a lock is of an
    earlier release, and its programs name its folder.
    """
    found = [
        path
        for path in folder.iterdir()
        if all((path / name).is_file() for name in (COMPLETE, LOCK, "pyvenv.cfg"))
        and not (path / PATCHED).exists()
    ]
    made_by = f"version_info = {python}"
    found = [path for path in found if made_by in (path / "pyvenv.cfg").read_text().splitlines()]
    return max(found, key=lambda path: (path / COMPLETE).stat().st_mtime, default=None)


def prune(folder: Path, keep: int, used: Path) -> list[str]:
    """Remove what is half made, and all but the environments used last; return their names."""
    others = [path for path in folder.iterdir() if path.is_dir() and path != used]
    complete = sorted(
        (p for p in others if (p / COMPLETE).exists()), key=lambda p: -(p / COMPLETE).stat().st_mtime
    )
    kept = complete[: max(0, keep - 1)]
    removed = [path for path in others if path not in kept]
    for path in removed:
        shutil.rmtree(path)
    return sorted(path.name for path in removed)


def record(
    venv: Path, code: Mapping[str, Mapping[str, Any]], changes: Mapping[str, Iterable[str]]
) -> list[dict[str, Any]]:
    """Return which code of each service is in an environment, as code.json says it."""
    versions = {service: _version(_site(venv), DISTRIBUTIONS[service]) for service in code}
    return described(code, changes, versions)


def asked_for(
    code: Mapping[str, Mapping[str, Any]], changes: Mapping[str, Iterable[str]]
) -> list[dict[str, Any]]:
    """Return the same for an environment that is not there; its versions are what was asked for."""
    return described(code, changes, {service: entry["revision"] for service, entry in code.items()})


def described(
    code: Mapping[str, Mapping[str, Any]],
    changes: Mapping[str, Iterable[str]],
    versions: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return an entry for each service."""
    return [
        {
            "service": service,
            "version": versions[service],
            "source": entry["source"],
            "revision": entry["revision"],
            "changes": [
                *(f"{patch['name']}@{patch['digest'][:8]}" for patch in entry["patches"]),
                *changes.get(service, ()),
            ],
        }
        for service, entry in code.items()
    ]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let only one of several deployments at a time make an environment."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def provide(params: Mapping[str, Any], *, check: bool = False) -> dict[str, Any]:
    """Return an environment with the wanted code, made where it is missing; with `check` only named.

    Raises CodeError.
    """
    constraints = Path(params["constraints"]).read_text()
    code = resolve(params["sources"], pins(constraints), commit_of)
    python = run([str(params["python"]), "--version"]).strip()
    key = key_of(code, constraints, params["requirements"], python)
    folder = Path(params["folder"])
    venv = folder / key
    if check:
        there = (venv / COMPLETE).exists()
        services = record(venv, code, params["changes"]) if there else asked_for(code, params["changes"])
        return {"changed": not there, "venv": str(venv), "key": key, "services": services, "removed": []}
    with locked(folder):
        made = not (venv / COMPLETE).exists()
        if made:
            make(venv, code, constraints, params)
        (venv / COMPLETE).touch()
        removed = prune(folder, params["keep"], venv)
    services = record(venv, code, params["changes"])
    if params["record"]:
        written = {"services": services, "packages": packages(_site(venv)), "venv": key}
        record_file = Path(params["record"])
        record_file.parent.mkdir(parents=True, exist_ok=True)
        record_file.write_text(json.dumps(written, indent=2) + "\n")
    return {"changed": made, "venv": str(venv), "key": key, "services": services, "removed": removed}


def packages(site: Path) -> dict[str, str]:
    """Return the exact version of every package in an environment, by name."""
    names = (path.name.removesuffix(".dist-info").rpartition("-") for path in site.glob("*.dist-info"))
    return {_normal(name): version for name, _, version in sorted(names)}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _patch(service: str, path: str) -> dict[str, str]:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise CodeError(f"openstack_sources.{service}: patch {path}: {error.strerror}") from error
    return {"name": Path(path).name, "path": str(path), "digest": hashlib.sha256(data).hexdigest()}


def _site(venv: Path) -> Path:
    return next((venv / "lib").glob("python3.*")) / "site-packages"


def _version(site: Path, distribution: str) -> str:
    names = [path.name for path in site.glob("*.dist-info")]
    found = dict(name.removesuffix(".dist-info").rsplit("-", 1) for name in names)
    return next(version for name, version in found.items() if _normal(name) == distribution)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "constraints": {"type": "path", "required": True},
            "requirements": {"type": "list", "elements": "str", "default": []},
            "sources": {"type": "dict", "default": {}},
            "changes": {"type": "dict", "default": {}},
            "uv": {"type": "str", "default": "uv"},
            "python": {"type": "str", "default": "/usr/bin/python3"},
            "keep": {"type": "int", "default": 4},
            "record": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        result = provide(module.params, check=module.check_mode)
    except CodeError as error:
        module.fail_json(msg=str(error))
    after = "".join(f"{one['service']}: {one['version']}\n" for one in result["services"])
    texts = {"before": "", "after": f"{result['venv']}\n{after}"} if result["changed"] else {}
    module.exit_json(**result, **({"diff": texts} if texts else {}))


if __name__ == "__main__":
    main()
