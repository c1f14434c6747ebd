"""What import-linter can't say: that its lists are whole, and that a public name means one thing."""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "perfci"
VIRTUAL = PACKAGE / "lab" / "virtual"
PUBLIC = {"lab", "plan"}


def contracts() -> list[dict]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def modules(folder: Path) -> set[str]:
    """Return the modules and packages right below a folder."""
    names = {path.stem for path in folder.glob("*.py")} | {
        path.parent.name for path in folder.glob("*/__init__.py")
    }
    return names - {"__init__", "__main__"}


def test_every_module_of_the_virtual_lab_is_public_or_protected():
    (contract,) = [one for one in contracts() if one["type"] == "protected"]
    protected = {name.removeprefix("perfci.lab.virtual.") for name in contract["protected_modules"]}
    assert protected == modules(VIRTUAL) - PUBLIC


def test_the_virtual_lab_may_import_nothing_that_the_contract_does_not_name():
    (contract,) = [one for one in contracts() if one.get("source_modules") == ["perfci.lab.virtual"]]
    beside = {
        f"perfci.{name}" for name in modules(PACKAGE) - {"errors", "files", "parsing", "validation", "lab"}
    }
    inside = {f"perfci.lab.{name}" for name in modules(PACKAGE / "lab") - {"virtual"}}
    assert set(contract["forbidden_modules"]) == beside | inside


REPLACING = {"replace": 1, "rename": 1, "renames": 2, "fsync": 1}
"""Methods and functions that put something in place, by how many arguments they have: a string's replace has two."""


def test_only_one_module_puts_files_in_place():
    """So each of them is whole or not there, and on the disk: everybody calls `perfci.files`."""
    found = {
        f"{file.relative_to(REPOSITORY)}:{node.lineno}"
        for file in PACKAGE.rglob("*.py")
        if file != PACKAGE / "files.py"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and not node.keywords
        and (
            len(node.args) == REPLACING.get(node.func.attr)
            or (
                isinstance(node.func.value, ast.Name)
                and f"{node.func.value.id}.{node.func.attr}" in {"os.replace", "os.rename"}
            )
        )
    }
    assert found == set()


def public_classes() -> dict[str, set[str]]:
    """Return in which modules each public class stands; the virtual lab is a package of its own."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in PACKAGE.rglob("*.py"):
        if VIRTUAL in file.parents:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].add(str(file.relative_to(REPOSITORY)))
    return found


def test_the_name_of_a_public_class_stands_once():
    twice = {name: sorted(files) for name, files in public_classes().items() if len(files) > 1}
    assert twice == {}


def test_the_words_of_other_programs_may_be_in_any_encoding():
    """Of `git`, a script of the lab or a crontab nobody knows it: bytes that are no UTF-8 must not be a traceback."""
    folders = (PACKAGE, REPOSITORY / "plugins", *REPOSITORY.glob("roles/*/files"))
    strict = [
        f"{file.relative_to(REPOSITORY)}:{node.lineno}"
        for folder in folders
        for file in folder.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and "text" in (names := {keyword.arg for keyword in node.keywords})
        and {"capture_output", "stdout", "stderr"} & names
        and "errors" not in names
    ]
    assert strict == []


def test_mypy_checks_whatever_runs_on_nodes():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["mypy"]
    named = [path for pattern in settings["files"] for path in REPOSITORY.glob(pattern)]
    checked = {file for path in named for file in ([path] if path.is_file() else path.rglob("*.py"))}
    product = {file for folder in ("plugins", "roles") for file in (REPOSITORY / folder).rglob("*.py")}
    assert len(product) > 50
    assert product - checked == set()
    assert settings["strict"]


def test_mypy_knows_the_types_of_what_modules_share():
    """By Ansible's name for it, as modules import it; a name without a stub would be Any."""
    shared = {file.stem for file in (REPOSITORY / "plugins" / "module_utils").glob("*.py")}
    stubs = {file.stem for file in (REPOSITORY / "typings" / "ansible" / "module_utils").glob("*.pyi")}
    assert stubs == shared | {"basic", "__init__"}
