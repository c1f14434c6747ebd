"""What tests and roles run or import is in a set-up's list, so that a fresh machine has it."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from programs import COMPLETE, PACKAGES, find, undeclared

from perfci.lab.virtual import lab

ROOT = Path(__file__).parents[1]
ESSENTIAL = set("bash coreutils dash debianutils dpkg grep libc-bin mount perl-base tar util-linux".split())  # noqa: SIM905
"""Packages that every Debian has: those that it calls essential, and `mount`, on which one of them depends."""
ON_NODES = {"chronyc": "chrony", "sudo": "sudo"}
"""Programs that roles run and the controller need not have."""
README_DEMANDS = {"ca-certificates", "make", "python3"}
THEIR_OWN = {"tests/programs.py", "tests/conftest.py"}
"""Where it is written how tests ask for programs."""
SKIPS = {"skip", "importorskip"}


def role(name: str, part: str = "defaults") -> dict[str, list[str]]:
    return yaml.safe_load((ROOT / "roles" / name / part / "main.yml").read_text())


def set_up() -> set[str]:
    """Return the packages that `perfci setup --tests` installs."""
    lists = role("packages")
    return {name for part in ("services", "tools", "tests") for name in lists[f"packages_{part}"]}


def images() -> set[str]:
    """Return the packages that nodes have from their image, with any cloud."""
    lists = role("os_image")
    named = {*lists["os_image_packages"], *lists["os_image_hypervisor_packages"]}
    return named.union(
        role("os_image", "vars")["os_image_base_packages"], *lists["os_image_cloud_packages"].values()
    )


@functools.cache
def trees(*folders: str) -> list[tuple[str, ast.Module]]:
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    assert len(files) > 20
    return [(str(file.relative_to(ROOT)), ast.parse(file.read_text())) for file in sorted(files)]


def calls(tree: ast.Module) -> list[tuple[str, ast.Call]]:
    """Return the calls of a module, by the last part of the function's name."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [(getattr(node.func, "attr", getattr(node.func, "id", "")), node) for node in found]


def test_what_tests_need_is_installed_by_the_set_up():
    files = [tree for file, tree in trees("tests") if file not in THEIR_OWN]
    asked = [call for tree in files for name, call in calls(tree) if name in {"needs", "require"}]
    words = [word for call in asked for word in call.args]
    named = {word.value for word in words if isinstance(word, ast.Constant)}.union(*lab.PROGRAMS.values())
    others = {ast.unparse(word.value) for word in words if isinstance(word, ast.Starred)}
    assert len(named) > 30
    assert others <= {
        f"{place}[MachineKind.{kind.name}]" for place in ("lab.PROGRAMS", "PROGRAMS") for kind in lab.PROGRAMS
    }
    assert named <= set(PACKAGES)
    assert set(PACKAGES.values()) - set_up() - ESSENTIAL - README_DEMANDS == set()


def commands(steps: object) -> list[str]:
    """Return the programs that tasks run, as far as they are named and no variable."""
    if isinstance(steps, list):
        return [found for step in steps for found in commands(step)]
    if not isinstance(steps, dict):
        return []
    found = [program for value in steps.values() for program in commands(value)]
    module = steps.get("ansible.builtin.command") or steps.get("ansible.builtin.shell")
    if module:
        asked = module if isinstance(module, str) else module.get("argv") or module["cmd"]
        first = asked[0] if isinstance(asked, list) else asked
        named = re.match(r"(?:\{\{ \[')?([\w./-]+)(?=['\s]|$)", first)
        found += [Path(named[1]).name] if named else []
    return found


def test_what_roles_run_is_on_nodes_and_the_controller():
    tasks = [
        *ROOT.glob("roles/*/tasks/*.yml"),
        *ROOT.glob("roles/*/handlers/*.yml"),
        *ROOT.glob("playbooks/**/*.yml"),
    ]
    run = {program: file for file in tasks for program in commands(yaml.safe_load(file.read_text()))}
    assert {"ssh-keygen", "dnsmasq", "ethtool"} <= set(run)
    assert {program: file for program, file in run.items() if program not in PACKAGES | ON_NODES} == {}
    assert set(ON_NODES.values()) <= images()


def test_packages_that_roles_install_on_the_controller_are_in_the_set_up():
    """The tests run these roles on machines where nothing may be installed any more."""
    wanted = {
        "virtual_lab_packages": role("virtual_lab"),
        "netboot_packages": role("netboot", "vars"),
        "os_image_tools": role("os_image", "vars"),
        "deploy_ramdisk_tools": role("deploy_ramdisk", "vars"),
        "mirror_tools": role("mirror", "vars"),
    }
    named = {
        re.search(r"packages_wanted: .*?(\w+) \}\}", file.read_text())[1]
        for file in ROOT.glob("roles/*/tasks/*.yml")
        if "packages_wanted: " in file.read_text()
    }
    # Site services are asked for one by one: every package that its expression names.
    wanted["site_services_packages"] = {
        "site_services_packages": re.findall(
            r"'([a-z0-9-]+)'", role("site_services", "vars")["site_services_packages"]
        )
    }
    assert len(wanted["site_services_packages"]["site_services_packages"]) > 2
    assert named == set(wanted), "a role has a list of its own: name it here"
    assert {name: set(lists[name]) - set_up() for name, lists in wanted.items()} == {
        name: set() for name in wanted
    }


def test_tests_ask_for_programs_in_one_way():
    """`shutil.which` beside a skip would leave a test out where a list lacks its program, and nobody would know."""
    found = [
        f"{file}:{call.lineno}: {ast.unparse(call)}"
        for file, tree in trees("tests")
        if file not in THEIR_OWN
        for name, call in calls(tree)
        if name in {"which", *SKIPS} or (name == "skipif" and "geteuid" in ast.unparse(call))
    ]
    assert found == [], "use needs, needs_root or require of tests/programs.py"


def test_each_package_brings_its_programs():
    """Debian says of what is installed here that the package has it, or depends on one that has."""
    there = {program: find(program) for program in PACKAGES}
    missing = {program: PACKAGES[program] for program, path in there.items() if path is None}
    if os.environ.get(COMPLETE):
        assert missing == {}, "`perfci setup --tests` has run here"
    owners = owners_of({path for path in there.values() if path})
    assert len(owners) > 20
    strange = {
        program: owners[path]
        for program, path in there.items()
        if path in owners and owners[path] not in with_dependencies(PACKAGES[program])
    }
    assert strange == {}


def owners_of(paths: set[str]) -> dict[str, str]:
    """Return the package of each file; what somebody installed by hand has none."""
    names = {}
    for path in paths:
        real = str(Path(path).resolve())
        # Debian lists what came to /bin before /usr/bin was the same folder under its old name.
        names |= dict.fromkeys(
            (path, real, re.sub(r"^/usr(?=/s?bin/)", "", path), re.sub(r"^/usr(?=/s?bin/)", "", real)), path
        )
    command = ["dpkg-query", "--search", *names]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    found = [line.partition(": ") for line in lines if not line.startswith("diversion by ")]
    return {names[path]: package.partition(":")[0] for package, _, path in found}


@functools.cache
def dependencies() -> dict[str, set[str]]:
    command = ["dpkg-query", "--show", "--showformat", "${Package}\t${Pre-Depends}, ${Depends}\n"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {
        name: set(re.findall(r"(?:^|[,|])\s*([\w.+-]+)", text))
        for name, _, text in (line.partition("\t") for line in lines)
    }


def with_dependencies(package: str) -> set[str]:
    """Return a package and all installed ones on which it depends."""
    depends = dependencies()
    found, new = set(), {package}
    while new:
        found |= new
        new = set().union(*(depends.get(name, set()) for name in new)) - found
    return found


@pytest.mark.parametrize(
    ("executable", "name"),
    [
        ("tcpdump", "tcpdump"),
        ("/usr/sbin/tcpdump", "tcpdump"),
        ("ping", None),
        ("/usr/bin/python3.11", None),
        ("own", None),
        ("nothing", None),
    ],
)
def test_programs_that_no_list_has_are_noticed(tmp_path, monkeypatch, executable, name):
    folder = tmp_path / "sbin"
    folder.mkdir()
    for program in ("tcpdump", "ping", "own"):
        (folder / program).write_text("#!/bin/sh\n")
        (folder / program).chmod(0o755)
    monkeypatch.setattr("programs._SYSTEM", {str(folder), "/usr/bin", "/usr/sbin"})
    if executable == "own":
        monkeypatch.setattr("programs._SYSTEM", {"/usr/bin"})
    executable = executable.replace("/usr/sbin/tcpdump", str(folder / "tcpdump"))
    assert undeclared(executable, str(folder)) == name


def test_what_is_imported_is_pinned():
    """Tests, perfci and its modules import the standard library, each other, and what constraints.txt has."""
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    brought = importlib.metadata.packages_distributions()
    own = {"perfci", "ansible", *(path.name for path in (ROOT / "tests").iterdir())} | {
        file.stem
        for folder in ("tests", "roles", "plugins", "jobs", "benchmarks")
        for file in (ROOT / folder).rglob("*.py")
    }
    missing = {
        f"{file}: {name}"
        for file, tree in trees("tests", "perfci", "plugins")
        for node in ast.walk(tree)
        for name in imported(node)
        if name not in own | sys.stdlib_module_names
        and not any(re.sub(r"[-_.]+", "-", one).lower() in pinned for one in brought.get(name, ()))
    }
    assert missing == set()


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    return (
        [node.module.partition(".")[0]]
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
        else []
    )
