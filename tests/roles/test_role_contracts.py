"""What every role has: documented defaults, a specification that names them all, verbs in their own files."""

from pathlib import Path

import pytest
import yaml

ROLES = sorted(path for path in (Path(__file__).parents[2] / "roles").iterdir() if (path / "tasks").is_dir())
INCLUDES = {"ansible.builtin.import_tasks", "ansible.builtin.include_tasks"}
TYPES = {"str": str, "path": str, "int": int, "float": (int, float), "bool": bool, "list": list, "dict": dict}

every_role = pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)


def load(path):
    return yaml.safe_load(path.read_text()) if path.exists() else None


def defaults(role):
    return load(role / "defaults" / "main.yml") or {}


@every_role
def test_the_specification_names_every_default(role):
    options = load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"].get("options", {})
    assert set(defaults(role)) <= set(options)
    assert all(option["description"] for option in options.values())


@every_role
def test_types_fit_the_defaults(role):
    options = load(role / "meta" / "argument_specs.yml")["argument_specs"]["main"].get("options", {})
    for name, value in defaults(role).items():
        if isinstance(value, str) and "{{" in value:
            continue  # known only when it is rendered
        assert isinstance(value, TYPES[options[name].get("type", "str")]), name


@every_role
def test_every_default_is_explained_and_carries_the_name_of_the_role(role):
    lines = (role / "defaults" / "main.yml").read_text().splitlines() if defaults(role) else []
    for number, line in enumerate(lines):
        if line and line[0] not in "# -}]":
            assert lines[number - 1].startswith("#"), line
            assert line.startswith(f"{role.name}_"), line


@every_role
def test_main_only_includes(role):
    for task in load(role / "tasks" / "main.yml"):
        assert INCLUDES & set(task), task


@every_role
def test_who_made_it_and_for_what(role):
    info = load(role / "meta" / "main.yml")["galaxy_info"]
    assert info["license"] == "Apache-2.0"
    assert info["description"]
    assert info["platforms"] == [{"name": "Debian", "versions": ["bookworm"]}]
